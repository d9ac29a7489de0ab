from pathlib import Path

import numpy as np
import pytest

from lightunet_monai.outputs import write_nrrd, write_seg_nrrd
from tests.builders.segmentation import THREE_LABELS, make_case
from tests.builders.witnesses import RAS_TO_LPS, paste, read_itk

SOURCES = ("axial", "oblique", "left-handed", "anisotropic", "coronal", "tilted")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("writer", [write_nrrd, write_seg_nrrd])
def test_pynrrd_reads_the_same_voxels_and_affine(tmp_path: Path, source: str, writer: object) -> None:
    nrrd = pytest.importorskip("nrrd")
    segmentation = make_case(tmp_path, source).segmentation
    values, header = nrrd.read(str(writer(segmentation, tmp_path / "labelmap.seg.nrrd")))  # type: ignore[operator]

    assert np.array_equal(values, segmentation.label_map)
    voxel_to_lps = RAS_TO_LPS @ segmentation.affine
    assert np.allclose(np.array(header["space directions"]).T, voxel_to_lps[:3, :3], atol=1e-12)
    assert np.allclose(header["space origin"], voxel_to_lps[:3, 3], atol=1e-12)


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "tilted"])
def test_itk_finds_the_voxels_at_the_same_place_in_the_patient(tmp_path: Path, source: str) -> None:
    segmentation = make_case(tmp_path, source).segmentation
    grid = read_itk(write_nrrd(segmentation, tmp_path / "labelmap.nrrd"))
    assert np.array_equal(paste([grid], segmentation), segmentation.label_map)


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "tilted"])
def test_slicerio_reads_segments_with_names_colours_codes_and_voxels(tmp_path: Path, source: str) -> None:
    slicerio = pytest.importorskip("slicerio")
    case = make_case(tmp_path, source, labels=THREE_LABELS)
    path = write_seg_nrrd(case.segmentation, tmp_path / "labelmap.seg.nrrd")

    read = slicerio.read_segmentation(str(path))

    assert read["encoding"] == "gzip"
    assert np.allclose(read["ijkToLPS"], RAS_TO_LPS @ case.segmentation.affine)
    by_id = {segment["id"]: segment for segment in read["segments"]}
    for label in THREE_LABELS:
        segment = by_id[label.name]
        assert segment["name"] == label.title
        assert np.allclose(np.array(segment["color"]) * 255, label.color, atol=1e-2)
        assert segment["terminology"]["type"] == [label.type.scheme, label.type.value, label.type.meaning]
        assert segment["terminology"]["category"] == [
            label.category.scheme,
            label.category.value,
            label.category.meaning,
        ]
        mask = read["voxels"] == segment["labelValue"]
        assert np.array_equal(mask, case.segmentation.label_map == label.value)
    assert by_id["tumor"]["terminology"]["anatomicRegion"] == ["SCT", "76752008", "Breast"]


def test_an_empty_segment_has_an_empty_extent(tmp_path: Path) -> None:
    path = write_seg_nrrd(make_case(tmp_path, empty=True).segmentation, tmp_path / "labelmap.seg.nrrd")
    assert b"Segment0_Extent:=0 -1 0 -1 0 -1" in path.read_bytes()


def test_the_same_label_map_gives_the_same_bytes(tmp_path: Path) -> None:
    segmentation = make_case(tmp_path).segmentation
    first, second = (write_seg_nrrd(segmentation, tmp_path / f"{name}.seg.nrrd") for name in "ab")
    assert first.read_bytes() == second.read_bytes()
