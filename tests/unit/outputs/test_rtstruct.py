from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon

from lightunet_monai.outputs import Stamp, write_nrrd, write_rtstruct
from lightunet_monai.segmentation import Segmentation
from tests.builders.segmentation import KINDS, THREE_LABELS, make_case
from tests.builders.witnesses import RAS_TO_LPS, dice, dicom_errors, find_tool, paste, read_itk, run_tool


@pytest.mark.parametrize("source", KINDS)
def test_the_contours_rasterise_back_to_the_same_voxels_and_the_object_is_valid(tmp_path: Path, source: str) -> None:
    case = make_case(tmp_path, source)
    path = write_rtstruct(case.segmentation, tmp_path / "rtstruct.dcm")

    assert dicom_errors(path) == []
    assert np.array_equal(_rasterise(path, case.segmentation), case.segmentation.label_map)


@pytest.mark.parametrize("source", ["axial", "coronal", "anisotropic", "left-handed", "frame of reference per slice"])
def test_plastimatch_rasterises_the_contours_with_a_dice_of_at_least_98_percent(tmp_path: Path, source: str) -> None:
    case = make_case(tmp_path, source, shape=(64, 60, 28))
    path = write_rtstruct(case.segmentation, tmp_path / "rtstruct.dcm")

    command = [find_tool("plastimatch"), "convert", "--input", path, "--referenced-ct", case.folder]
    run_tool(*command, "--output-prefix", tmp_path / "masks", "--prefix-format", "nrrd")

    grids = [read_itk(item) for item in sorted((tmp_path / "masks").glob("*.nrrd"))]
    assert len(grids) == 2
    marked = paste(grids, case.segmentation)
    assert dice(marked, case.segmentation.label_map) >= 0.98
    small = case.segmentation.label_map.copy()
    small[:-10] = 0
    assert dice(marked[-10:], small[-10:]) >= 0.98


@pytest.mark.parametrize("source", ["oblique", "jpeg-ls", "multi-frame"])
def test_plastimatch_needs_no_source_it_can_read_when_it_is_given_a_grid(tmp_path: Path, source: str) -> None:
    case = make_case(tmp_path, source, shape=(64, 60, 28))
    path = write_rtstruct(case.segmentation, tmp_path / "rtstruct.dcm")
    grid = write_nrrd(case.segmentation, tmp_path / "grid.nrrd")

    command = [find_tool("plastimatch"), "convert", "--input", path, "--fixed", grid]
    run_tool(*command, "--output-prefix", tmp_path / "masks", "--prefix-format", "nrrd")

    marked = paste([read_itk(item) for item in (tmp_path / "masks").glob("*.nrrd")], case.segmentation)
    assert dice(marked, case.segmentation.label_map) >= 0.98


def test_a_contour_of_more_than_64_kilobytes_is_read_like_any_other(tmp_path: Path) -> None:
    case = make_case(tmp_path, shape=(160, 150, 3), empty=True)
    comb = case.segmentation.label_map
    comb[5:155, 5:145, 1] = 1
    comb[5:155:4, 10:145, 1] = comb[6:155:4, 10:145, 1] = 0
    path = write_rtstruct(case.segmentation, tmp_path / "rtstruct.dcm")

    (contour,) = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence
    assert contour.get_item("ContourData").length > 0xFFFF
    assert contour.get_item("ContourData").VR != "UN"
    assert dicom_errors(path) == []
    assert np.array_equal(_rasterise(path, case.segmentation), comb)
    command = [find_tool("plastimatch"), "convert", "--input", path, "--referenced-ct", case.folder]
    run_tool(*command, "--output-prefix", tmp_path / "masks", "--prefix-format", "nrrd")
    marked = paste([read_itk(item) for item in (tmp_path / "masks").glob("*.nrrd")], case.segmentation)
    assert dice(marked, comb) >= 0.98


def test_a_hole_is_a_contour_of_its_own(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    dataset = pydicom.dcmread(write_rtstruct(case.segmentation, tmp_path / "rtstruct.dcm"))

    middle = [
        contour
        for contour in dataset.ROIContourSequence[0].ContourSequence
        if contour.ContourData[2] == pytest.approx(_height(case.segmentation, 10))
    ]
    assert len(middle) == 2


def test_regions_have_names_colours_codes_and_no_approval(tmp_path: Path) -> None:
    case = make_case(tmp_path, labels=THREE_LABELS)
    dataset = pydicom.dcmread(write_rtstruct(case.segmentation, tmp_path / "rtstruct.dcm"))

    assert [item.ROIName for item in dataset.StructureSetROISequence] == [
        "Breast mass 1",
        "Breast mass 2",
        "Skin",
        "Nipple",
    ]
    assert list(dataset.ROIContourSequence[2].ROIDisplayColor) == [240, 200, 160]
    codes = [item.RTROIIdentificationCodeSequence[0].CodeValue for item in dataset.RTROIObservationsSequence]
    assert codes == ["4147007", "4147007", "39937001", "24142002"]
    assert dataset.ApprovalStatus == "UNAPPROVED"
    assert dataset.SeriesDescription.startswith("RESEARCH USE ONLY - NOT FOR DIAGNOSIS")


def test_every_contour_refers_to_the_instance_it_lies_on(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    dataset = pydicom.dcmread(write_rtstruct(case.segmentation, tmp_path / "rtstruct.dcm"))
    heights = {
        header.SOPInstanceUID: float(header.ImagePositionPatient[2])
        for header in (pydicom.dcmread(path) for path in case.folder.iterdir())
    }
    for region in dataset.ROIContourSequence:
        for contour in region.ContourSequence:
            uid = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
            assert np.allclose(np.array(contour.ContourData[2::3], dtype=float), heights[uid])
            assert len(contour.ContourData) == 3 * contour.NumberOfContourPoints


def test_an_empty_label_map_gives_a_valid_object_with_a_region_without_contours(tmp_path: Path) -> None:
    case = make_case(tmp_path, empty=True)
    path = write_rtstruct(case.segmentation, tmp_path / "rtstruct.dcm")
    dataset = pydicom.dcmread(path)

    assert dicom_errors(path) == []
    assert "ContourSequence" not in dataset.ROIContourSequence[0]
    assert "found nothing" in dataset.StructureSetROISequence[0].ROIDescription


def test_derived_uids_and_a_fixed_clock_give_the_same_bytes(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    stamp = Stamp.derived(case.segmentation, lambda: datetime(2026, 1, 2, 3, 4, 5))
    first, second = (write_rtstruct(case.segmentation, tmp_path / f"{name}.dcm", stamp=stamp) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def _height(segmentation: Segmentation, plane: int) -> float:
    return float(segmentation.affine[2, 3] + plane * segmentation.affine[2, 2])


def _rasterise(path: Path, segmentation: Segmentation) -> np.ndarray:
    """Count for each voxel centre the contours around it; odd is inside."""
    marked = np.zeros_like(segmentation.label_map)
    to_voxel = np.linalg.inv(RAS_TO_LPS @ segmentation.affine)
    columns, rows, _ = segmentation.label_map.shape
    centres = np.indices((columns, rows)).reshape(2, -1).T
    for region in pydicom.dcmread(path).ROIContourSequence:
        inside = np.zeros_like(marked)
        for contour in region.ContourSequence:
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            voxels = points @ to_voxel[:3, :3].T + to_voxel[:3, 3]
            plane = round(voxels[0, 2])
            assert np.abs(voxels[:, 2] - plane).max() < 0.01
            inside[:, :, plane] ^= (
                Polygon(voxels[:, :2]).contains_points(centres).reshape(columns, rows).astype(np.uint8)
            )
        marked |= inside
    return marked
