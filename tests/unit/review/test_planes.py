import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lightunet_monai.review.planes import choose_planes, direction

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def test_a_radiologist_sees_the_right_side_of_the_patient_on_the_left() -> None:
    axial, coronal, sagittal = choose_planes(LPS, (1, 2, 3))
    assert axial.marks() == ("R", "L", "P", "A")
    assert coronal.marks() == ("R", "L", "I", "S")
    assert sagittal.marks() == ("A", "P", "I", "S")
    assert (axial.axis, axial.index) == (2, 3)
    assert (coronal.axis, coronal.index) == (1, 2)
    assert (sagittal.axis, sagittal.index) == (0, 1)


@pytest.mark.parametrize("seed", range(6))
def test_a_voxel_is_drawn_where_it_lies_in_the_patient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() @ np.diag(
        rng.uniform(0.3, 3, 3) * rng.choice([-1, 1], 3)
    )
    affine[:3, 3] = rng.normal(0, 50, 3)
    for plane in choose_planes(affine, (4, 5, 6)):
        first, second = [4.0, 5.0, 6.0], [4.0, 5.0, 6.0]
        second[plane.across] += 3
        second[plane.up] += 2
        drawn = plane.place(tuple(second)) - plane.place(tuple(first))  # type: ignore[arg-type]
        moved = affine[:3, :3] @ (np.array(second) - first)
        assert np.allclose(drawn[0] * plane.right + drawn[1] * plane.top, moved)


def test_oblique_directions_have_two_letters_and_the_stronger_comes_first() -> None:
    assert direction(np.array([0.5, 0.866, 0.0])) == "AR"
    assert direction(np.array([-0.1, 0.0, -0.99])) == "I"


def test_a_sheared_plane_is_not_drawn_as_a_rectangle() -> None:
    tilted = np.array([[1, 0, 0, 0], [0, 1, -0.27, 0], [0, 0, 0.96, 0], [0, 0, 0, 1.0]])
    _, _, sagittal = choose_planes(tilted, (0, 0, 0))
    assert abs(sagittal.to_mm[0, 1]) == pytest.approx(0.27)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_a_cut_shows_the_values_of_its_plane(axes: tuple[int, int, int]) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[list(axes)]
    volume = np.random.default_rng(0).integers(0, 99, (4, 5, 6))
    for plane in choose_planes(affine, (1, 2, 3)):
        shown = plane.cut(volume)
        index = [0, 0, 0]
        index[plane.axis], index[plane.across], index[plane.up] = plane.index, 2, 1
        assert shown[1, 2] == volume[tuple(index)]
