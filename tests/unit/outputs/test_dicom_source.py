"""What the objects of a result take over from their source, as other software reads it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightunet_monai.errors import OutputError
from lightunet_monai.inputs import choose_series, discover_sources, geometry
from lightunet_monai.labels import LabelTable
from lightunet_monai.outputs import (
    check_output,
    measure_lesions,
    write_case,
    write_dicom_seg,
    write_dicom_sr,
    write_rtstruct,
)
from lightunet_monai.segmentation import Segmentation
from lightunet_monai.sources import DicomSeries, DicomSlice, position_limit
from tests.builders.segmentation import Case, make_case, make_segmentation
from tests.builders.series import make_series
from tests.builders.witnesses import dicom_errors, find_tool, run_tool

JAPANESE, KOREAN = "Yamada^Tarou=山田^太郎=やまだ^たろう", "Hong^Gildong=洪^吉洞=홍^길동"


def _objects(case: Case, folder: Path) -> list[Path]:
    """SEG, SR and RTSTRUCT of a case whose source files were changed."""
    segmentation = replace(case.segmentation, source=choose_series(discover_sources(case.folder)))
    seg = write_dicom_seg(segmentation, folder / "seg.dcm")
    findings = measure_lesions(segmentation, case.volume_hu)
    sr = write_dicom_sr(segmentation, findings, seg, folder / "sr.dcm")
    return [seg, sr, write_rtstruct(segmentation, folder / "rtstruct.dcm")]


@pytest.mark.filterwarnings("ignore:(Incorrect value for Specific Character Set|Unknown encoding)")
@pytest.mark.parametrize(
    ("stated", "name", "written"),
    [
        (["", "ISO 2022 IR 87"], JAPANESE, ["ISO 2022 IR 6", "ISO 2022 IR 87"]),
        (["ISO 2022 IR 6", "ISO 2022 IR 87"], JAPANESE, ["ISO 2022 IR 6", "ISO 2022 IR 87"]),
        (["ISO_IR 13", "ISO 2022 IR 87"], JAPANESE, ["ISO 2022 IR 13", "ISO 2022 IR 87"]),
        (["", "ISO 2022 IR 149"], KOREAN, ["ISO 2022 IR 6", "ISO 2022 IR 149"]),
        ("GB18030", "Wang^XiaoDong=王^小东", "GB18030"),
        ("ISO_IR 192", JAPANESE, "ISO_IR 192"),
        ("ISO_IR 100", "Müller^Jörg", "ISO_IR 100"),
        ("ISO 2022 IR 100", "Müller^Jörg", "ISO_IR 100"),
        ("ISO-IR 100", "Müller^Jörg", "ISO_IR 192"),
        ("ISO_IR 999", "Miller^Jane", "ISO_IR 192"),
        ("ISO_IR 6", "Miller^Jane", None),
    ],
)
def test_names_in_any_character_set_come_back_right(
    tmp_path: Path, stated: str | list[str], name: str, written: str | list[str] | None
) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    description = name.partition("=")[2].replace("=", "").replace("^", "") or name.replace("^", " ")
    for path in case.folder.iterdir():
        dataset = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            dataset.SpecificCharacterSet, dataset.PatientName, dataset.StudyDescription = stated, name, description
            dataset.save_as(path)
    stored = pydicom.dcmread(path).get_item("PatientName").value

    for path in _objects(case, tmp_path):
        dataset = pydicom.dcmread(path)
        assert dataset.get("SpecificCharacterSet") == written
        assert (dataset.PatientName, dataset.get("StudyDescription", description)) == (name, description)
        assert dicom_errors(path) == []
        if "ISO 2022 IR 87" in (written or ""):  # which dcmtk does not know: byte for byte that of the source
            assert stored in path.read_bytes()
        else:
            run_tool(find_tool("dcmconv"), "+U8", path, tmp_path / "unicode.dcm")
            assert pydicom.dcmread(tmp_path / "unicode.dcm").PatientName == name


@pytest.mark.filterwarnings("ignore:Failed to encode")  # pydicom, when it reads such a name
def test_a_character_set_that_may_not_stand_alone_follows_the_one_for_ascii(tmp_path: Path) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    for path in case.folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet, dataset.PatientName = ["", "ISO 2022 IR 87"], JAPANESE
        dataset.save_as(path)
        content = path.read_bytes()
        assert content.count(b"\\ISO 2022 IR 87 ") == 1
        path.write_bytes(content.replace(b"\\ISO 2022 IR 87 ", b"ISO 2022 IR 87  "))

    for path in _objects(case, tmp_path):
        dataset = pydicom.dcmread(path)
        assert dataset.SpecificCharacterSet == ["ISO 2022 IR 6", "ISO 2022 IR 87"]
        assert dataset.PatientName == JAPANESE
        assert dicom_errors(path) == []


def _change_uids(case: Case, change: Callable[[int, pydicom.Dataset], None]) -> Segmentation:
    for index, path in enumerate(sorted(case.folder.iterdir())):
        dataset = pydicom.dcmread(path)
        change(index, dataset)
        dataset.save_as(path)
    return replace(case.segmentation, source=choose_series(discover_sources(case.folder)))


def _no_instance_uid(index: int, dataset: pydicom.Dataset) -> None:
    if index == 4:
        dataset.SOPInstanceUID = ""


def _one_instance_uid(index: int, dataset: pydicom.Dataset) -> None:
    dataset.SOPInstanceUID = "2.25.4711"


def _no_series_uid(index: int, dataset: pydicom.Dataset) -> None:
    del dataset.SeriesInstanceUID


@pytest.mark.parametrize(
    ("change", "found", "warned"),
    [
        (_no_instance_uid, "has no SOP Instance UID, expected one, to which", "1 slices have no SOP Instance UID"),
        (_one_instance_uid, "has the SOP Instance UID of .*, expected one of its own", "share one SOP Instance UID"),
        (_no_series_uid, "slices have no Series Instance UID, expected one", "no Series Instance UID; DICOM results"),
    ],
)
def test_a_series_that_cannot_be_referred_to_gives_a_label_map_and_no_dicom_result(
    tmp_path: Path, change: Callable[[int, pydicom.Dataset], None], found: str, warned: str
) -> None:
    segmentation = _change_uids(make_case(tmp_path, shape=(24, 24, 8)), change)

    # Before inference, by whoever calls a writer, and of a series that was made by hand.
    slices = tuple(DicomSlice(item.path, position=item.position) for item in segmentation.source.slices)
    by_hand = replace(segmentation, source=replace(segmentation.source, slices=slices))
    for refused in (
        lambda: check_output(tmp_path / "out", ["nifti", "seg"], source=segmentation.source),
        lambda: write_case(tmp_path / "out", segmentation, formats=["nifti", "rtstruct"]),
        lambda: write_dicom_seg(segmentation, tmp_path / "seg.dcm"),
        lambda: write_rtstruct(by_hand, tmp_path / "rtstruct.dcm"),
    ):
        with pytest.raises(OutputError, match=found) as caught:
            refused()
        assert str(tmp_path / "source") in caught.value.message
        assert caught.value.reason == "no-reference"
        assert "Use nifti, nrrd or segnrrd" in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]

    write_case(tmp_path / "out", segmentation, formats=["nifti"])
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert warned in " ".join(report["warnings"])
    assert (tmp_path / "out" / "labelmap.nii.gz").exists()


def test_a_series_whose_instances_another_volume_claims_too_cannot_be_referred_to(tmp_path: Path) -> None:
    truth = make_series(tmp_path / "source", defect="two kernels")
    for path in truth.files[12:]:  # the other kernel, with the UIDs of the first, upside down
        dataset = pydicom.dcmread(path)
        index = int(dataset.SOPInstanceUID.split(".")[-2])
        dataset.SOPInstanceUID = f"{truth.series_uid}.{13 - index}"
        dataset.save_as(path)
    for source in discover_sources(truth.folder):
        assert isinstance(source, DicomSeries)
        assert len({item.sop_instance_uid for item in source.slices}) == len(source.slices) == 12
        assert "share one SOP Instance UID" in " ".join(source.warnings)
        with pytest.raises(OutputError, match="another volume have one SOP Instance UID") as caught:
            check_output(tmp_path / "out", ["sr"], source=source)
        assert caught.value.reason == "no-reference"
        check_output(tmp_path / "out", source=source)


def test_a_series_that_was_made_by_hand_takes_its_uids_from_the_files(tmp_path: Path) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    source = case.segmentation.source
    assert isinstance(source, DicomSeries)
    slices = tuple(DicomSlice(item.path, position=item.position) for item in source.slices)
    by_hand = replace(source, slices=slices)
    check_output(tmp_path / "out", ["seg"], source=by_hand)
    seg = write_dicom_seg(replace(case.segmentation, source=by_hand), tmp_path / "seg.dcm")
    references = pydicom.dcmread(seg).ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert [item.ReferencedSOPInstanceUID for item in references] == [item.sop_instance_uid for item in source.slices]


def _change_files(case: Case, **values: object) -> None:
    for path in case.folder.iterdir():
        dataset = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            for keyword, value in values.items():
                setattr(dataset, keyword, value)
            dataset.save_as(path)


def _frame_numbers(path: Path) -> set[int]:
    return {item.value for item in pydicom.dcmread(path).iterall() if item.keyword == "ReferencedFrameNumber"}


def test_a_single_frame_source_that_counts_its_frame_is_referred_to_without_a_frame_number(tmp_path: Path) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    _change_files(case, NumberOfFrames=1)
    for path in _objects(case, tmp_path):
        assert _frame_numbers(path) == set()
        assert dicom_errors(path) == []


def test_a_multi_frame_source_is_referred_to_with_frame_numbers(tmp_path: Path) -> None:
    case = make_case(tmp_path, "multi-frame", shape=(24, 24, 8))
    seg, _, rtstruct = _objects(case, tmp_path)
    occupied = {case.segmentation.source.slices[plane].frame + 1 for plane in _occupied_planes(case)}
    assert _frame_numbers(seg) == _frame_numbers(rtstruct) == occupied
    assert dicom_errors(seg) == dicom_errors(rtstruct) == []


def test_side_and_thickness_of_a_multi_frame_source_are_those_of_its_frames(tmp_path: Path) -> None:
    case = make_case(tmp_path, "multi-frame", shape=(24, 24, 8))
    (path,) = case.folder.iterdir()
    dataset = pydicom.dcmread(path)
    (shared,) = dataset.SharedFunctionalGroupsSequence
    anatomy, measures = shared.FrameAnatomySequence, shared.PixelMeasuresSequence
    measures[0].SliceThickness = "0.7"
    del shared.FrameAnatomySequence, shared.PixelMeasuresSequence
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.FrameAnatomySequence, group.PixelMeasuresSequence = anatomy, measures
    dataset.save_as(path)

    seg, sr, _ = (pydicom.dcmread(path) for path in _objects(case, tmp_path))
    (region,) = seg.SegmentSequence[0].AnatomicRegionSequence
    assert region.AnatomicRegionModifierSequence[0].CodeMeaning == "Left"
    assert "Left" in {item.value for item in sr.iterall() if item.keyword == "CodeMeaning"}
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 0.7


def test_how_a_source_was_de_identified_is_told_on_even_if_only_codes_say_it(tmp_path: Path) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "113100", "DCM"
    code.CodeMeaning = "Basic Application Confidentiality Profile"
    _change_files(case, PatientIdentityRemoved="YES", DeidentificationMethodCodeSequence=[code])
    for path in _objects(case, tmp_path):
        (found,) = pydicom.dcmread(path).DeidentificationMethodCodeSequence
        assert found.CodeValue == "113100"
        assert dicom_errors(path) == []


def _occupied_planes(case: Case) -> list[int]:
    return np.flatnonzero(case.segmentation.label_map.any(axis=(0, 1))).tolist()


@pytest.mark.filterwarnings("ignore:The (value length|PN component length)")
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("AccessionNumber", "ACC-2024-0001234567890"),
        ("StudyID", "STUDY-2024-0001234567890"),
        ("PatientID", "X" * 70),
        ("IssuerOfPatientID", "Y" * 70),
        ("PatientName", "Z" * 60 + "^" + "Q" * 30),
    ],
)
def test_what_an_archive_matches_by_stays_as_it_is_even_if_it_is_too_long(
    tmp_path: Path, keyword: str, value: str
) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    _change_files(case, **{keyword: value})
    for path in _objects(case, tmp_path):
        found = pydicom.dcmread(path)
        assert str(found.get(keyword, value if keyword == "IssuerOfPatientID" else "")) == value
        assert all("Length invalid" in error and keyword in error for error in dicom_errors(path))


@pytest.mark.filterwarnings("ignore:(The value length|Invalid value for VR DA)")
def test_what_the_standard_does_not_allow_and_nothing_matches_by_is_left_empty(tmp_path: Path) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    _change_files(case, PatientBirthDate="19991399", StudyDescription="D" * 70)
    for path in _objects(case, tmp_path):
        assert pydicom.dcmread(path).PatientBirthDate == ""
        assert "StudyDescription" not in pydicom.dcmread(path)
        assert dicom_errors(path) == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientSex", "W"),
        ("PatientSex", ["F", "M"]),
        ("PatientBirthDate", "19700230"),
        ("StudyDate", "20200101-20200202"),
        ("StudyDate", ["20200101", "20200102"]),
        ("StudyTime", "101112-101113"),
    ],
)
def test_a_value_that_no_object_may_hold_does_not_stop_writing(
    tmp_path: Path, keyword: str, value: str | list[str]
) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    _change_files(case, **{keyword: value})
    for path in _objects(case, tmp_path):
        assert not pydicom.dcmread(path)[keyword].value
        assert dicom_errors(path) == []


@pytest.mark.parametrize("name", ["Planted", "A^B\\C^D"])
def test_an_odd_name_of_a_patient_is_kept_and_never_told(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    _change_files(case, PatientName=name)
    for path in _objects(case, tmp_path):  # a warning would be an error here
        assert pydicom.dcmread(path).get_item("PatientName").value.rstrip() == name.encode()
    assert "Planted" not in caplog.text


def test_a_slice_thickness_without_end_gives_way_to_the_spacing(tmp_path: Path) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    for path in case.folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\x18\x00\x50\x00DS\x02\x0099", b"\x18\x00\x50\x00DS\x04\x00inf "))
    seg, *_ = _objects(case, tmp_path)
    (shared,) = pydicom.dcmread(seg).SharedFunctionalGroupsSequence
    assert shared.PixelMeasuresSequence[0].SliceThickness == 1.5


@pytest.mark.parametrize("stated", [None, "ISO_IR 100", ["", "ISO 2022 IR 87"]])
def test_letters_of_the_model_are_written_whatever_the_source_can_write(
    tmp_path: Path, stated: str | list[str] | None
) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    name = JAPANESE if isinstance(stated, list) else "Doe^Jane"
    _change_files(case, SpecificCharacterSet=stated, PatientName=name)
    labels = LabelTable(tuple(replace(label, title="Опухоль") for label in case.segmentation.labels))
    seg, sr, rtstruct = _objects(replace(case, segmentation=replace(case.segmentation, labels=labels)), tmp_path)
    assert pydicom.dcmread(seg).SegmentSequence[0].SegmentLabel == "Опухоль 1"
    assert pydicom.dcmread(rtstruct).StructureSetROISequence[0].ROIName == "Опухоль 1"
    assert "Опухоль 1".encode() in sr.read_bytes()
    for path in (seg, sr, rtstruct):
        assert (pydicom.dcmread(path).SpecificCharacterSet, pydicom.dcmread(path).PatientName) == ("ISO_IR 192", name)
        assert dicom_errors(path) == []


def test_letters_of_a_source_without_a_character_set_get_one(tmp_path: Path) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    for path in case.folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 100", "Müller^Jörg"
        dataset.save_as(path)
        dataset = pydicom.dcmread(path)  # the name stays in the bytes of the file
        del dataset["SpecificCharacterSet"]
        dataset.save_as(path)
        assert "Müller".encode("latin-1") in path.read_bytes()
        assert b"ISO_IR 100" not in path.read_bytes()

    for path in _objects(case, tmp_path):
        dataset = pydicom.dcmread(path)
        assert (dataset.SpecificCharacterSet, dataset.PatientName) == ("ISO_IR 192", "Müller^Jörg")
        assert "Müller".encode() in path.read_bytes()
        assert dicom_errors(path) == []


def _thin_pixels(folder: Path, off_mm: float) -> DicomSeries:
    """Small pixels, thick slices, of which one lies elsewhere."""

    def change(index: int, dataset: pydicom.Dataset) -> None:
        dataset.ImagePositionPatient = ["0", "0", f"{index * 5.0 + off_mm * (index == 6):.4f}"]

    make_series(folder, spacing=(0.3, 0.3, 5.0), change=change)
    source = choose_series(discover_sources(folder))
    assert isinstance(source, DicomSeries)
    return source


def test_what_is_loaded_as_a_regular_stack_is_never_refused_by_a_dicom_result(tmp_path: Path) -> None:
    source = _thin_pixels(tmp_path / "source", 0.045)
    assert source.problem is None
    label_map = np.zeros((24, 20, 12), np.uint8)
    label_map[5:9, 5:9, 5:8] = 1
    check_output(tmp_path / "out", ["seg", "rtstruct"], source=source)
    segmentation = make_segmentation(label_map, np.array(source.affine), source)
    for path in (
        write_dicom_seg(segmentation, tmp_path / "seg.dcm"),
        write_rtstruct(segmentation, tmp_path / "rtstruct.dcm"),
    ):
        assert dicom_errors(path) == []


@given(st.tuples(*[st.floats(0.01, 20.0)] * 3))
def test_the_limit_of_a_position_is_never_below_that_of_a_regular_stack(spacing: tuple[float, float, float]) -> None:
    # As `_regularity_problem` of inputs/geometry.py has it.
    allowed = max(geometry.POSITION_TOLERANCE_MM, geometry.SPACING_TOLERANCE * spacing[2])
    assert position_limit(spacing) >= max(allowed, 2 * geometry.POSITION_TOLERANCE_MM)
    assert position_limit(spacing) >= 0.1 * min(spacing)


def test_slices_that_are_not_on_the_grid_are_refused_before_inference_and_before_writing(tmp_path: Path) -> None:
    source = _thin_pixels(tmp_path / "source", 0.0)
    moved = [replace(item, position=(0.0, 0.0, 5.0 * index + 0.2)) for index, item in enumerate(source.slices)]
    elsewhere = replace(source, slices=tuple(moved))
    segmentation = make_segmentation(np.zeros((24, 20, 12), np.uint8), np.array(source.affine), elsewhere)
    for refused in (
        lambda: check_output(tmp_path / "out", ["nifti", "seg"], source=elsewhere),
        lambda: write_case(tmp_path / "out", segmentation, formats=["nifti", "rtstruct"]),
        lambda: write_dicom_seg(segmentation, tmp_path / "seg.dcm"),
    ):
        with pytest.raises(OutputError, match=r"lies 0\.200 mm from plane 0 .*, allowed 0\.050 mm") as caught:
            refused()
        assert caught.value.reason == "other-grid"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
    check_output(tmp_path / "out", ["nifti"], source=elsewhere)
