"""A plain label map is put on the grid of a volume by position, and covers all of it."""

import nibabel as nib
import numpy as np
import pytest

from lightunet_monai.errors import GeometryError
from lightunet_monai.inference.bundle_files import find_bundle, read_metadata
from lightunet_monai.labels import LabelTable
from lightunet_monai.transforms.load_label_map import place_label_map

SHAPE = (10, 9, 8)
AFFINE = np.array([[-0.8, 0, 0, 12.0], [0, -0.9, 0, -30.0], [0, 0, 2.0, 50.0], [0, 0, 0, 1.0]])


@pytest.fixture
def place(tmp_path):
    labels = LabelTable.from_metadata(read_metadata(find_bundle(None)))

    def place_(values, affine, shape=SHAPE):
        path = tmp_path / "label.nii.gz"
        nib.save(nib.Nifti1Image(values, affine), path)
        return place_label_map(path, shape, AFFINE, labels)

    return place_


@pytest.fixture
def values():
    array = np.zeros(SHAPE, np.uint8)
    array[2:4, 1:6, 3:6] = 1
    return array


def shifted(affine, offset):
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ np.array(offset, float)
    return moved


def test_a_label_map_on_the_grid_stays_where_it_is(place, values):
    assert np.array_equal(place(values, AFFINE), values)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(), (0,), (0, 2), (0, 1, 2)])
def test_the_order_and_direction_of_axes_are_free(place, values, axes, flips):
    """Voxel (i, j, k) of the written file is voxel `turn @ (i, j, k)` of the grid."""
    turn = np.eye(4)
    for axis in flips:
        turn[axis, axis], turn[axis, 3] = -1, SHAPE[axis] - 1
    order = np.eye(4)[[*axes, 3]].T
    written = np.flip(values, flips).transpose(axes)
    assert np.array_equal(place(written, AFFINE @ turn @ order), values)


@pytest.mark.parametrize("offset", [(0, 0, 2), (0, 0, -3), (1, 0, 0), (0, -1, 1), (50, 0, 0)])
def test_a_label_map_of_a_volume_that_was_moved_by_whole_voxels_is_refused(place, values, offset):
    with pytest.raises(GeometryError, match="covers the voxels") as caught:
        place(values, shifted(AFFINE, offset))
    distance = np.linalg.norm(AFFINE[:3, :3] @ offset)
    assert f"up to {distance:.1f} mm beside it" in caught.value.message
    assert caught.value.reason == "label-grid"
    assert "moved" in caught.value.hint


def test_an_empty_label_map_beside_the_volume_is_refused_too(place):
    with pytest.raises(
        GeometryError, match="0 to 9 x 0 to 8 x 2 to 9 of its volume, expected 0 to 9 x 0 to 8 x 0 to 7"
    ):
        place(np.zeros(SHAPE, np.uint8), shifted(AFFINE, (0, 0, 2)))


def test_a_flip_about_another_plane_than_the_middle_is_refused(place, values):
    affine = AFFINE @ np.diag([1.0, 1.0, -1.0, 1.0])  # slice 0 stays, the others leave on the other side
    with pytest.raises(GeometryError, match="covers the voxels"):
        place(values, affine)


def test_axes_of_other_lengths_in_the_same_places_are_refused(place, values):
    with pytest.raises(GeometryError, match="0 to 8 x 0 to 9 x 0 to 7 of its volume"):
        place(np.zeros((9, 10, 8), np.uint8), AFFINE)


def test_a_single_slice_has_its_place(place):
    values = np.ones((10, 9, 1), np.uint8)
    assert place(values, AFFINE, shape=(10, 9, 1)).all()
    with pytest.raises(GeometryError, match="covers the voxels"):
        place(values, shifted(AFFINE, (0, 0, 1)), shape=(10, 9, 1))
