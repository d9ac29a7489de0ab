"""Facts about an affine: the nearest patient directions, handedness and shear."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

_DIRECTIONS = (("L", "R"), ("P", "A"), ("I", "S"))  # decreasing, increasing along RAS x, y, z


def nearest_axes(affine: NDArray[np.float64]) -> tuple[int, int, int]:
    """Tell which patient axis each voxel axis follows most closely.

    Parameters
    ----------
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ mm.

    Returns
    -------
    tuple of int
        For each voxel axis 0 (right), 1 (anterior) or 2 (superior); each occurs once.
    """
    cosines = np.abs(unit_axes(affine))
    best = max(itertools.permutations(range(3)), key=lambda order: sum(cosines[order[axis], axis] for axis in range(3)))
    return best[0], best[1], best[2]


def axis_codes(affine: NDArray[np.float64]) -> str:
    """Give the nearest patient direction in which each voxel axis increases, for example ``"LPS"``."""
    axes = unit_axes(affine)
    return "".join(_DIRECTIONS[world][int(axes[world, axis] > 0)] for axis, world in enumerate(nearest_axes(affine)))


def is_left_handed(affine: NDArray[np.float64]) -> bool:
    """Tell whether the voxel axes form a left-handed system in patient space."""
    return bool(np.linalg.det(affine[:3, :3]) < 0)


def shear_degrees(affine: NDArray[np.float64]) -> float:
    """Largest deviation of the angle between two voxel axes from 90 degrees."""
    axes = unit_axes(affine)
    cosines = [abs(float(axes[:, first] @ axes[:, second])) for first, second in ((0, 1), (0, 2), (1, 2))]
    return float(np.degrees(np.arcsin(min(1.0, max(cosines)))))


def unit_axes(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions of the voxel axes as unit vectors in RAS, one a column; shape (3, 3)."""
    matrix = np.asarray(affine[:3, :3], dtype=np.float64)
    return np.asarray(matrix / np.linalg.norm(matrix, axis=0), dtype=np.float64)
