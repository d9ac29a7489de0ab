"""Whatever the orientation, order, spacing or gap: right, or refused with the right numbers."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightunet_monai.errors import GeometryError
from lightunet_monai.inputs.geometry import make_grid
from lightunet_monai.inputs.planes import Plane
from lightunet_monai.inputs.regularize import _plan

ROWS, COLUMNS = 20, 24
angles = st.floats(-180, 180)
spacings = st.tuples(st.floats(0.1, 3), st.floats(0.1, 3), st.floats(0.2, 6))
origins = st.tuples(*[st.floats(-500, 500)] * 3)


def rotation(a, b, c):
    def about(axis, angle):
        m, (i, j) = np.eye(3), [k for k in range(3) if k != axis]
        m[i, i] = m[j, j] = np.cos(angle)
        m[i, j], m[j, i] = -np.sin(angle), np.sin(angle)
        return m

    return about(0, np.radians(a)) @ about(1, np.radians(b)) @ about(2, np.radians(c))


def planes_of(axes, spacing, origin, count, *, lean=(0.0, 0.0), digits=10):
    """Planes along the third axis, as decimal strings with some digits would give them; LPS."""
    step = axes[:, 2] * spacing[2] + axes[:, 0] * lean[0] + axes[:, 1] * lean[1]
    return [
        Plane(
            frame=None,
            position=tuple(np.round(np.array(origin) + index * step, digits).tolist()),
            orientation=tuple(np.round(np.concatenate([axes[:, 0], axes[:, 1]]), digits).tolist()),
            pixel_spacing=(spacing[1], spacing[0]),
            slope=1.0,
            intercept=0.0,
        )
        for index in range(count)
    ]


def lps_affine(axes, spacing, origin):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * spacing, origin
    return affine


@settings(max_examples=150, deadline=None)
@given(st.tuples(angles, angles, angles), spacings, origins, st.integers(2, 40), st.randoms(), st.booleans())
def test_any_orientation_in_any_file_order_gives_the_exact_affine(turn, spacing, origin, count, random, is_reversed):
    axes = rotation(*turn)
    # DICOM positions may run against the normal: the grid then starts at the other end.
    start = np.array(origin)
    planes = planes_of(axes, spacing, start, count)
    shuffled = list(enumerate(planes))
    random.shuffle(shuffled)
    if is_reversed:
        shuffled.reverse()
    grid = make_grid([plane for _, plane in shuffled], ROWS, COLUMNS, what="Series")
    assert [shuffled[index][0] for index in grid.order] == list(range(count))
    expected = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps_affine(axes, spacing, start)
    np.testing.assert_allclose(grid.affine, expected, atol=1e-6)
    assert grid.shape == (COLUMNS, ROWS, count)
    assert grid.problem is None
    np.testing.assert_allclose(grid.spacing, spacing, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.tuples(angles, angles, angles), spacings, origins, st.integers(5, 40), st.data())
def test_any_missing_slice_is_refused_with_the_gap_in_millimetres(turn, spacing, origin, count, data):
    planes = planes_of(rotation(*turn), spacing, origin, count)
    del planes[data.draw(st.integers(1, count - 2))]
    with pytest.raises(GeometryError) as caught:
        make_grid(planes, ROWS, COLUMNS, what="Series")
    assert caught.value.reason == "gap"
    found, expected = re.search(r"gap of ([\d.]+) mm .* expected ([\d.]+) mm", caught.value.message).groups()
    assert float(found) == pytest.approx(2 * spacing[2], abs=0.001)  # the message rounds to a micrometre
    assert float(expected) == pytest.approx(spacing[2], abs=0.001)


@settings(max_examples=60, deadline=None)
@given(spacings, st.integers(3, 40), st.floats(0.3, 30), st.sampled_from([(1, 0), (0, 1), (-0.6, 0.8)]))
def test_any_tilt_is_refused_with_its_angle_and_straightened_when_asked(spacing, count, degrees, direction):
    slide = np.tan(np.radians(degrees)) * spacing[2]
    planes = planes_of(np.eye(3), spacing, (0, 0, 0), count, lean=(slide * direction[0], slide * direction[1]))
    grid = make_grid(planes, ROWS, COLUMNS, what="Series")
    assert grid.problem.reason == "tilt"
    assert f"{degrees:.2f}" in grid.problem.message or f"{grid.shear_degrees:.2f}" in grid.problem.message
    assert grid.shear_degrees == pytest.approx(degrees, abs=1e-6)
    steps = (np.array([planes[index].position for index in grid.order]) - planes[grid.order[0]].position) * (-1, -1, 1)
    regularization = _plan(grid.affine, grid.shape, steps)
    axes = regularization.affine[:3, :3]
    cosines = axes.T @ axes
    np.testing.assert_allclose(cosines - np.diag(np.diag(cosines)), 0, atol=1e-8)
    # Every source voxel lies within the orthogonal grid.
    inverse = np.linalg.inv(regularization.affine)
    for corner in ((0, 0, 0), (COLUMNS - 1, ROWS - 1, count - 1), (0, ROWS - 1, count - 1), (COLUMNS - 1, 0, 0)):
        index = (inverse @ grid.affine @ (*corner, 1))[:3]
        assert (index >= -1e-2).all()
        assert (index <= np.array(regularization.shape) - 1 + 1e-2).all()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(3, 12), st.floats(-0.9, 0.9), st.floats(-0.9, 0.9), st.integers(0, 2**31), st.sampled_from([0.0, 0.1])
)
def test_a_label_map_of_whole_blocks_returns_to_the_slices_it_came_from(count, lean_x, lean_y, seed, uneven):
    rng = np.random.default_rng(seed)
    steps = np.array([[lean_x * k, lean_y * k, k + uneven * (k % 2)] for k in range(count)], np.float64)
    regularization = _plan(np.eye(4), (16, 14, count), steps)
    voxels = np.full((16, 14, count), -1000.0, np.float32)
    x, y = rng.integers(1, 6, 2)
    voxels[x : x + 8, y : y + 7, :] = 200
    regular = regularization.to_regular(voxels)
    assert regular.shape == regularization.shape
    back = regularization.to_source_slices((regular > -400).astype(np.uint8))
    # A lean of half a voxel puts an edge exactly between two voxels: one row of eight may go either way.
    assert ((voxels > -400) == back.astype(bool)).mean() > 1 - 8 / (16 * 14) - 1e-6


@settings(max_examples=60, deadline=None)
@given(spacings, st.integers(3, 60), st.integers(0, 2**31))
def test_rounding_of_positions_within_the_tolerance_is_accepted_and_never_moves_the_ends(spacing, count, seed):
    rng = np.random.default_rng(seed)
    jitter = min(0.002, 0.002 * spacing[2])
    planes = planes_of(np.eye(3), spacing, (1, 2, 3), count)
    moved = [
        Plane(None, (p.position[0], p.position[1], p.position[2] + rng.uniform(-jitter, jitter)), *_rest(p))
        for p in planes
    ]
    grid = make_grid(moved, ROWS, COLUMNS, what="Series")
    assert grid.problem is None
    for index in (0, count - 1):
        lps = (grid.affine @ (0, 0, index, 1))[:3] * (-1, -1, 1)
        np.testing.assert_allclose(lps, moved[index].position, atol=1e-9)


def _rest(plane):
    return plane.orientation, plane.pixel_spacing, plane.slope, plane.intercept


@pytest.mark.parametrize("value", [0.0, -1.0, 1e6])
def test_pixel_spacing_that_cannot_be_is_refused(value):
    planes = [Plane(None, (0, 0, k), (1, 0, 0, 0, 1, 0), (value, 1.0), 1.0, 0.0) for k in range(4)]
    with pytest.raises(GeometryError, match="spacing"):
        make_grid(planes, ROWS, COLUMNS, what="Series")


def test_an_orientation_that_is_no_rotation_is_refused():
    planes = [Plane(None, (0, 0, k), (1, 0, 0, 0.2, 1, 0), (1.0, 1.0), 1.0, 0.0) for k in range(4)]
    with pytest.raises(GeometryError, match="right angle"):
        make_grid(planes, ROWS, COLUMNS, what="Series")
