"""Planes of voxels as a radiologist looks at them: axial, coronal and sagittal, true to scale.

Each is the plane of voxels nearest to the anatomical one; nothing is resampled, so on an oblique series the picture
is oblique as well and its marks say so.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RIGHTWARDS = {"Axial": (-1, 0, 0), "Coronal": (-1, 0, 0), "Sagittal": (0, -1, 0)}
_UPWARDS = {"Axial": (0, 1, 0), "Coronal": (0, 0, 1), "Sagittal": (0, 0, 1)}
"""Where the right and the upper side of a picture point, RAS: the patient's right is on the left side of an axial or
coronal picture, and anterior on the left side of a sagittal one, as radiology shows them."""

NAMES = ("Axial", "Coronal", "Sagittal")

_MARK_THRESHOLD = 0.3
"""A direction cosine below this (under 17 degrees of obliqueness) adds no second letter to a mark."""


@dataclass(frozen=True)
class Plane:
    """One plane of voxels and its place in the picture.

    Parameters
    ----------
    name : str
        ``"Axial"``, ``"Coronal"`` or ``"Sagittal"``.
    axis : int
        The voxel axis perpendicular to the plane.
    index : int
        Voxel index along that axis.
    across, up : int
        The voxel axes that run along the picture's width and height.
    to_mm : ndarray of float64, shape (2, 2)
        Voxel index along (across, up) to mm to the right and upwards; not diagonal under shear.
    right, top : ndarray of float64, shape (3,)
        Unit vectors of the picture's axes, RAS.
    """

    name: str
    axis: int
    index: int
    across: int
    up: int
    to_mm: NDArray[np.float64]
    right: NDArray[np.float64]
    top: NDArray[np.float64]

    def cut(self, volume: NDArray[np.generic]) -> NDArray[np.generic]:
        """Values of this plane, shape (along `up`, along `across`)."""
        # Indexing gives a view; numpy.take would copy the whole volume first where its axes are not in C order.
        plane = volume[tuple(self.index if axis == self.axis else slice(None) for axis in range(3))]
        return plane if self.up < self.across else plane.T

    def place(self, voxel: tuple[float, float, float]) -> NDArray[np.float64]:
        """Where a voxel index lies in the picture, mm to the right and upwards."""
        return np.asarray(self.to_mm @ np.array([voxel[self.across], voxel[self.up]]))

    def marks(self) -> tuple[str, str, str, str]:
        """Patient directions at the left, right, bottom and top of the picture: ``("R", "L", "P", "A")``."""
        return direction(-self.right), direction(self.right), direction(-self.top), direction(self.top)


def choose_planes(affine: NDArray[np.float64], voxel: tuple[int, int, int]) -> tuple[Plane, Plane, Plane]:
    """Give the axial, coronal and sagittal planes through a voxel.

    Parameters
    ----------
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ mm.
    voxel : tuple of int
        Index of the voxel.

    Returns
    -------
    tuple of Plane
        Axial, coronal, sagittal.
    """
    steps = affine[:3, :3]
    cosines = np.abs(steps / np.linalg.norm(steps, axis=0))
    # axes[world] is the voxel axis nearest to right, anterior, superior
    axes = max(
        itertools.permutations(range(3)), key=lambda order: sum(cosines[world, order[world]] for world in range(3))
    )
    right, anterior, superior = axes
    layout = {"Axial": (superior, right, anterior), "Coronal": (anterior, right, superior)}
    layout["Sagittal"] = (right, anterior, superior)
    axial, coronal, sagittal = (_plane(name, *layout[name], steps, voxel) for name in NAMES)
    return axial, coronal, sagittal


def direction(vector: NDArray[np.float64]) -> str:
    """Name a direction in RAS by patient letters, the strongest first, for example ``"A"`` or ``"AR"``."""
    letters = [(abs(value), "RAS"[axis] if value > 0 else "LPI"[axis]) for axis, value in enumerate(vector)]
    letters.sort(key=lambda item: -item[0])
    return "".join(letter for size, letter in letters if size >= _MARK_THRESHOLD or size == letters[0][0])


def _plane(
    name: str, axis: int, across: int, up: int, steps: NDArray[np.float64], voxel: tuple[int, int, int]
) -> Plane:
    right = steps[:, across] / np.linalg.norm(steps[:, across])
    right = right * np.sign(right @ np.array(_RIGHTWARDS[name]))
    top = steps[:, up] - (steps[:, up] @ right) * right
    top = top / np.linalg.norm(top)
    top = top * np.sign(top @ np.array(_UPWARDS[name]))
    to_mm = np.array([[steps[:, across] @ right, steps[:, up] @ right], [steps[:, across] @ top, steps[:, up] @ top]])
    return Plane(name, axis, voxel[axis], across, up, to_mm, right, top)
