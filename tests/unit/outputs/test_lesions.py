import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from lightunet_monai.outputs.lesions import find_lesions
from tests.builders.segmentation import THREE_LABELS, make_lesions, make_segmentation


def test_voxels_that_touch_at_a_corner_are_one_lesion() -> None:
    label_map = np.zeros((6, 6, 6), np.uint8)
    label_map[1, 1, 1] = label_map[2, 2, 2] = 1
    label_map[4, 4, 4] = 1
    assert [lesion.voxels for lesion in find_lesions(make_segmentation(label_map))] == [2, 1]


def test_an_empty_label_map_has_no_lesions() -> None:
    assert find_lesions(make_segmentation(np.zeros((4, 4, 4), np.uint8))) == ()


def test_normal_structures_are_no_lesions() -> None:
    label_map = np.full((4, 4, 4), 2, np.uint8)
    label_map[0, 0, 0] = 1
    (lesion,) = find_lesions(make_segmentation(label_map, labels=THREE_LABELS))
    assert lesion.label.name == "tumor"
    assert lesion.title == "Breast mass 1"


def test_equal_lesions_are_numbered_from_the_head_down() -> None:
    label_map = np.zeros((9, 9, 9), np.uint8)
    label_map[1, 1, 1] = label_map[7, 7, 7] = label_map[4, 4, 4] = 1
    lesions = find_lesions(make_segmentation(label_map))
    assert [lesion.start for lesion in lesions] == [(7, 7, 7), (4, 4, 4), (1, 1, 1)]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_numbers_do_not_depend_on_the_order_in_which_voxels_are_stored(axis: int, order: str) -> None:
    label_map = make_lesions((30, 28, 20))
    label_map[2:5, 2:5, 2:4] = 1  # as large as the small lesion
    affine = np.diag([1.0, 1.0, 1.5, 1.0])
    flip = np.eye(4)
    flip[axis, axis], flip[axis, 3] = -1, label_map.shape[axis] - 1
    turned = np.asarray(np.flip(label_map, axis), order=order)  # type: ignore[call-overload]

    first = find_lesions(make_segmentation(label_map, affine))
    second = find_lesions(make_segmentation(turned, affine @ flip))

    for one, other in zip(first, second, strict=True):
        start = np.argwhere(one.mask).mean(axis=0) + one.start
        mirrored = np.argwhere(other.mask).mean(axis=0) + other.start
        assert np.allclose(affine @ [*start, 1], affine @ flip @ [*mirrored, 1])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), density=st.floats(0.01, 0.3))
def test_simpleitk_finds_the_same_components(seed: int, density: float) -> None:
    label_map = (np.random.default_rng(seed).random((14, 12, 10)) < density).astype(np.uint8)
    image = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(label_map), True)
    sizes = np.bincount(SimpleITK.GetArrayFromImage(image).ravel())[1:]

    lesions = find_lesions(make_segmentation(label_map))

    assert [lesion.voxels for lesion in lesions] == sorted(sizes.tolist(), reverse=True)
    pasted = np.zeros_like(label_map)
    for lesion in lesions:
        pasted[lesion.box] += lesion.mask.astype(np.uint8)
    assert np.array_equal(pasted, label_map)
