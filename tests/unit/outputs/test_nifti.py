from pathlib import Path

import nibabel
import numpy as np
import pytest

from lightunet_monai.errors import OutputError
from lightunet_monai.outputs import write_nifti, write_probability
from tests.builders.segmentation import make_case, make_segmentation
from tests.builders.witnesses import RAS_TO_LPS, paste, read_itk

SOURCES = ("axial", "oblique", "left-handed", "anisotropic", "coronal", "tilted")


@pytest.mark.parametrize("source", SOURCES)
def test_nibabel_reads_the_same_voxels_and_affine(tmp_path: Path, source: str) -> None:
    segmentation = make_case(tmp_path, source).segmentation
    image = nibabel.load(write_nifti(segmentation, tmp_path / "labelmap.nii.gz"))

    assert image.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(image.dataobj), segmentation.label_map)
    assert np.allclose(image.affine, segmentation.affine, atol=1e-4)
    assert int(image.header["sform_code"]) == 1
    assert image.header.get_intent()[0] == "label"
    assert image.header["descrip"].item() == b"RESEARCH USE ONLY - NOT FOR DIAGNOSIS"


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "tilted"])
def test_itk_finds_the_voxels_at_the_same_place_in_the_patient(tmp_path: Path, source: str) -> None:
    segmentation = make_case(tmp_path, source).segmentation
    grid = read_itk(write_nifti(segmentation, tmp_path / "labelmap.nii.gz"))
    assert np.array_equal(paste([grid], segmentation), segmentation.label_map)
    assert np.allclose(grid[1], RAS_TO_LPS @ segmentation.affine, atol=1e-4)


def test_a_sheared_affine_leaves_the_qform_unknown(tmp_path: Path) -> None:
    image = nibabel.load(write_nifti(make_case(tmp_path, "tilted").segmentation, tmp_path / "labelmap.nii.gz"))
    assert int(image.header["qform_code"]) == 0


def test_the_uncompressed_file_holds_the_same(tmp_path: Path) -> None:
    segmentation = make_case(tmp_path).segmentation
    image = nibabel.load(write_nifti(segmentation, tmp_path / "labelmap.nii"))
    assert np.array_equal(np.asarray(image.dataobj), segmentation.label_map)


def test_a_name_in_capitals_says_the_same(tmp_path: Path) -> None:
    segmentation = make_case(tmp_path).segmentation
    image = nibabel.load(write_nifti(segmentation, tmp_path / "LABELMAP.NII.GZ"))
    assert np.array_equal(np.asarray(image.dataobj), segmentation.label_map)


def test_the_same_label_map_gives_the_same_bytes(tmp_path: Path) -> None:
    segmentation = make_case(tmp_path).segmentation
    first, second = (write_nifti(segmentation, tmp_path / f"{name}.nii.gz") for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_probabilities_are_kept_as_float32(tmp_path: Path) -> None:
    segmentation = make_case(tmp_path).segmentation
    image = nibabel.load(write_probability(segmentation, tmp_path / "probability.nii.gz"))
    assert image.get_data_dtype() == np.float32
    assert np.array_equal(np.asarray(image.dataobj), segmentation.probability)


def test_a_missing_probability_map_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="carries no probability map") as caught:
        write_probability(make_segmentation(np.zeros((2, 2, 2), np.uint8)), tmp_path / "probability.nii.gz")
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []
