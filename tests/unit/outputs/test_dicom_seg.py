import hashlib
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.config import disable_value_validation

from lightunet_monai.errors import OutputError, UsageError
from lightunet_monai.outputs import Stamp, measure_lesions, write_dicom_seg
from lightunet_monai.outputs.lesions import find_lesions
from lightunet_monai.outputs.uids import lesion_tracking_uid
from tests.builders.segmentation import KINDS, THREE_LABELS, make_case, make_segmentation
from tests.builders.witnesses import dicom_errors, paste, read_dcmqi, read_frames, read_highdicom

SEG_KINDS = ("binary", "labelmap", "fractional")
CLOCK = lambda: datetime(2026, 1, 2, 3, 4, 5)  # noqa: E731


@pytest.mark.parametrize("kind", SEG_KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_the_frames_lie_where_the_voxels_were_and_the_object_is_valid(tmp_path: Path, source: str, kind: str) -> None:
    case = make_case(tmp_path, source)
    path = write_dicom_seg(case.segmentation, tmp_path / "seg.dcm", kind=kind)

    expected = case.segmentation.label_map if kind != "fractional" else case.segmentation.probability > 0
    assert np.array_equal(paste(read_frames(path), case.segmentation) > 0, expected > 0)
    assert dicom_errors(path) == []


@pytest.mark.parametrize(
    ("source", "kind"),
    [(name, "binary") for name in KINDS if name != "tilted"]
    + [(name, kind) for name in ("oblique", "left-handed", "multi-frame") for kind in SEG_KINDS[1:]],
)
def test_highdicom_reads_back_the_same_voxels(tmp_path: Path, source: str, kind: str) -> None:
    case = make_case(tmp_path, source)
    path = write_dicom_seg(case.segmentation, tmp_path / "seg.dcm", kind=kind)

    if kind == "fractional":
        grids = _read_highdicom_fractions(path)
        values = np.zeros(case.segmentation.label_map.shape)
        for array, affine in grids:
            index = _index(np.argwhere(array > 0), affine, case.segmentation.affine)
            values[tuple(index.T)] = array[array > 0]
        assert np.abs(values - case.segmentation.probability).max() <= 0.5 / 255 + 1e-6
    else:
        assert np.array_equal(paste(read_highdicom(path), case.segmentation), case.segmentation.label_map)


@pytest.mark.parametrize("kind", SEG_KINDS)
@pytest.mark.parametrize("source", ["axial", "oblique", "left-handed", "anisotropic", "rle", "multi-frame"])
def test_dcmqi_reads_back_the_same_voxels(tmp_path: Path, source: str, kind: str) -> None:
    case = make_case(tmp_path, source)
    path = write_dicom_seg(case.segmentation, tmp_path / "seg.dcm", kind=kind)

    marked = paste(read_dcmqi(path, tmp_path / "dcmqi"), case.segmentation)

    expected = case.segmentation.label_map if kind != "fractional" else case.segmentation.probability > 0
    assert np.array_equal(marked > 0, expected > 0)


def test_each_lesion_is_a_segment_with_codes_colour_and_the_tracking_uid_of_the_findings(tmp_path: Path) -> None:
    case = make_case(tmp_path, "multi-frame")
    dataset = pydicom.dcmread(write_dicom_seg(case.segmentation, tmp_path / "seg.dcm"))
    findings = measure_lesions(case.segmentation)

    first, second = dataset.SegmentSequence
    assert [first.TrackingUID, second.TrackingUID] == [lesion.tracking_uid for lesion in findings]
    assert (first.SegmentLabel, second.SegmentLabel) == ("Breast mass 1", "Breast mass 2")
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == "4147007"
    assert first.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert first.SegmentAlgorithmType == "AUTOMATIC"
    assert first.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "0.0.1"
    assert "0123456789abcdef" in first.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert len(first.RecommendedDisplayCIELabValue) == 3
    region = first.AnatomicRegionSequence[0]
    assert region.CodeMeaning == "Breast"
    assert region.AnatomicRegionModifierSequence[0].CodeMeaning == "Left"
    assert "lightunet_monai" in [item.Manufacturer for item in dataset.ContributingEquipmentSequence]
    for text in (dataset.SeriesDescription, dataset.ContentDescription):
        assert text.startswith("RESEARCH USE ONLY - NOT FOR DIAGNOSIS")


def test_every_instance_of_the_source_is_referenced_and_the_frame_of_reference_is_kept(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    dataset = pydicom.dcmread(write_dicom_seg(case.segmentation, tmp_path / "seg.dcm"))
    headers = [pydicom.dcmread(path) for path in case.folder.iterdir()]

    (series,) = dataset.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == headers[0].SeriesInstanceUID
    referenced = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert referenced == {header.SOPInstanceUID for header in headers}
    assert dataset.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    assert dataset.StudyInstanceUID == headers[0].StudyInstanceUID
    by_position = {tuple(header.ImagePositionPatient): header.SOPInstanceUID for header in headers}
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.ReferencedSOPInstanceUID == by_position[tuple(frame.PlanePositionSequence[0].ImagePositionPatient)]


def test_frames_of_a_multi_frame_source_are_referenced_by_their_own_number(tmp_path: Path) -> None:
    case = make_case(tmp_path, "multi-frame")
    dataset = pydicom.dcmread(write_dicom_seg(case.segmentation, tmp_path / "seg.dcm"))
    enhanced = pydicom.dcmread(case.folder / "enhanced.dcm")

    assert len(dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.ReferencedSOPInstanceUID == enhanced.SOPInstanceUID
        origin = enhanced.PerFrameFunctionalGroupsSequence[image.ReferencedFrameNumber - 1]
        found = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        expected = np.array(origin.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        assert np.allclose(found, expected, atol=1e-4)


def test_empty_frames_are_left_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    occupied = int(case.segmentation.label_map.any(axis=(0, 1)).sum())
    few = pydicom.dcmread(write_dicom_seg(case.segmentation, tmp_path / "few.dcm", kind="labelmap"))
    all_planes = pydicom.dcmread(
        write_dicom_seg(case.segmentation, tmp_path / "all.dcm", kind="labelmap", keep_empty_frames=True)
    )
    binary = pydicom.dcmread(write_dicom_seg(case.segmentation, tmp_path / "binary.dcm", keep_empty_frames=True))

    assert (few.NumberOfFrames, all_planes.NumberOfFrames) == (occupied, 20)
    assert binary.NumberOfFrames == 2 * 20


@pytest.mark.parametrize("source", ["tilted", "oblique"])
def test_the_spacing_between_slices_is_along_their_normal(tmp_path: Path, source: str) -> None:
    case = make_case(tmp_path, source)
    dataset = pydicom.dcmread(write_dicom_seg(case.segmentation, tmp_path / "seg.dcm", keep_empty_frames=True))

    (shared,) = dataset.SharedFunctionalGroupsSequence
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    normal = np.cross(cosines[:3], cosines[3:])
    heights = {
        round(float(np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float) @ normal), 6)
        for frame in dataset.PerFrameFunctionalGroupsSequence
    }
    spacing = float(shared.PixelMeasuresSequence[0].SpacingBetweenSlices)
    assert np.diff(sorted(heights)) == pytest.approx(spacing, abs=1e-5)


@pytest.mark.parametrize("kind", SEG_KINDS)
def test_an_empty_label_map_gives_a_valid_object_that_says_so(tmp_path: Path, kind: str) -> None:
    case = make_case(tmp_path, empty=True)
    dataset = pydicom.dcmread(write_dicom_seg(case.segmentation, tmp_path / "seg.dcm", kind=kind))

    assert dicom_errors(tmp_path / "seg.dcm") == []
    assert dataset.SegmentSequence[-1].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Mass"
    if kind != "fractional":
        assert not dataset.pixel_array.any()
        assert dataset.NumberOfFrames == 1
        assert "found nothing" in dataset.SegmentSequence[-1].SegmentDescription


def test_other_structures_follow_the_lesions_as_one_segment_each(tmp_path: Path) -> None:
    case = make_case(tmp_path, labels=THREE_LABELS)
    path = write_dicom_seg(case.segmentation, tmp_path / "seg.dcm", kind="labelmap")
    dataset = pydicom.dcmread(path)

    # highdicom describes the background of a label map as segment 0
    titles = [item.SegmentLabel for item in dataset.SegmentSequence if item.SegmentNumber]
    assert titles == ["Breast mass 1", "Breast mass 2", "Skin", "Nipple"]
    numbers = np.zeros_like(case.segmentation.label_map)
    for array, affine in read_frames(path):
        numbers[tuple(_index(np.argwhere(array > 0), affine, case.segmentation.affine).T)] = array[array > 0]
    to_value = np.array([0, 1, 1, 2, 3], dtype=np.uint8)
    assert np.array_equal(to_value[numbers], case.segmentation.label_map)


def test_derived_uids_and_a_fixed_clock_give_the_same_bytes(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    stamp = Stamp.derived(case.segmentation, CLOCK)
    first, second = (write_dicom_seg(case.segmentation, tmp_path / f"{name}.dcm", stamp=stamp) for name in "ab")

    assert first.read_bytes() == second.read_bytes()
    assert pydicom.dcmread(first).SOPInstanceUID.startswith("2.25.")


def test_objects_with_and_without_empty_frames_have_different_derived_uids(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    stamp = Stamp.derived(case.segmentation, CLOCK)
    few, every = (
        pydicom.dcmread(write_dicom_seg(case.segmentation, tmp_path / "seg.dcm", keep_empty_frames=keep, stamp=stamp))
        for keep in (False, True)
    )
    assert few.NumberOfFrames < every.NumberOfFrames
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert few[keyword].value != every[keyword].value


def test_another_label_map_gets_other_derived_uids(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    changed = case.segmentation.label_map.copy()
    changed[0, 0, 0] = 1
    other = make_segmentation(changed, case.segmentation.affine, case.segmentation.source)

    role = "binary.instance"
    assert Stamp.derived(case.segmentation).new_uid(role) != Stamp.derived(other).new_uid(role)


def test_derived_uids_do_not_depend_on_why_an_engine_was_taken(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    provenance = case.segmentation.provenance
    chosen, named, other = (
        replace(case.segmentation, provenance=replace(provenance, settings=settings))
        for settings in (
            {"threshold": 0.5, "engine_reason": "the fastest that is installed"},
            {"threshold": 0.5, "engine_reason": "asked for"},
            {"threshold": 0.4, "engine_reason": "asked for"},
        )
    )

    role = "binary.instance"
    assert Stamp.derived(chosen).new_uid(role) == Stamp.derived(named).new_uid(role)
    assert Stamp.derived(other).new_uid(role) != Stamp.derived(named).new_uid(role)
    (lesion, *_) = find_lesions(chosen)
    assert lesion_tracking_uid(chosen, lesion) == lesion_tracking_uid(named, lesion)


def test_source_files_are_left_alone(tmp_path: Path) -> None:
    case = make_case(tmp_path, "frame of reference per slice")
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in case.folder.iterdir()}

    dataset = pydicom.dcmread(write_dicom_seg(case.segmentation, tmp_path / "seg.dcm"))

    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in case.folder.iterdir()} == before
    assert dataset.FrameOfReferenceUID.startswith("2.25.5.")


def test_invalid_patient_and_study_values_of_the_source_are_left_empty(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    for path in case.folder.iterdir():
        dataset = pydicom.dcmread(path)
        with disable_value_validation():
            dataset.StudyDate = "20261399"
            dataset.PatientSex = "female, adult patient"
        dataset.save_as(path)

    dataset = pydicom.dcmread(write_dicom_seg(case.segmentation, tmp_path / "seg.dcm"))

    assert dataset.StudyDate == ""
    assert dataset.PatientSex == ""


def test_a_source_that_is_no_dicom_series_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"volume\.nii\.gz: is not a DICOM series") as caught:
        write_dicom_seg(make_segmentation(np.ones((4, 4, 4), np.uint8)), tmp_path / "seg.dcm")
    assert "nifti" in caught.value.hint
    assert caught.value.reason == "needs-dicom"


def test_a_label_map_on_another_grid_is_refused_with_the_distance(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    moved = case.segmentation.affine.copy()
    moved[0, 3] += 2.0
    other = make_segmentation(case.segmentation.label_map, moved, case.segmentation.source)

    with pytest.raises(OutputError, match=r"lies 2\.000 mm from plane 0 of the label map, allowed 0\.080 mm"):
        write_dicom_seg(other, tmp_path / "seg.dcm")


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="kind: found surface, expected one of binary, labelmap, fractional"):
        write_dicom_seg(make_case(tmp_path).segmentation, tmp_path / "seg.dcm", kind="surface")


def _read_highdicom_fractions(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    import highdicom

    volume = highdicom.seg.segread(path).get_volume(rescale_fractional=True)
    return [(volume.array[..., 0], np.asarray(volume.affine))]


def _index(voxels: np.ndarray, voxel_to_lps: np.ndarray, affine: np.ndarray) -> np.ndarray:
    to_voxel = np.linalg.inv(np.diag([-1, -1, 1, 1]) @ affine) @ voxel_to_lps
    return np.rint(voxels @ to_voxel[:3, :3].T + to_voxel[:3, 3]).astype(int)
