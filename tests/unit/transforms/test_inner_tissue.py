"""Skin is what lies near the outside; bubbles and the volume's border are no outside."""

import numpy as np

from lightunet_monai.transforms.inner_tissue import inner_tissue


def _ball(radius=12, size=40):
    axes = np.indices((size, size, size)) - (size - 1) / 2
    return np.sqrt((axes**2).sum(0)) <= radius


def test_what_is_near_the_outside_is_not_inner():
    inner = inner_tissue(_ball(12), 3)
    assert inner[_ball(12 - 3 * np.sqrt(3))].all()
    assert not inner[~_ball(12 - 2)].any()


def test_a_depth_of_0_leaves_tissue_as_it_is():
    ball = _ball()
    np.testing.assert_array_equal(inner_tissue(ball, 0), ball)


def test_a_bubble_is_no_outside_and_a_hole_that_a_cube_fits_into_is():
    tissue = np.ones((40, 40, 40), dtype=bool)
    tissue[19:21, 19:21, 19:21] = False
    np.testing.assert_array_equal(inner_tissue(tissue, 3), tissue)
    tissue[15:25, 15:25, 15:25] = False
    expected = np.ones_like(tissue)
    expected[12:28, 12:28, 12:28] = False
    np.testing.assert_array_equal(inner_tissue(tissue, 3), expected)


def test_the_border_of_the_volume_is_no_surface():
    cut = _ball(18)[:, 14:, :]
    inner = inner_tissue(cut, 3)
    assert inner[20, 0, 20]
    assert inner[12:28, 0, 12:28].all()
    assert not inner[0, 0, 20]
