"""How a volume is stored: slice direction, flips, and the affine that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .grid import Grid

ORDERS = {"coronal": (0, 2, 1), "axial": (0, 1, 2), "sagittal": (1, 2, 0)}
"""Patient axes (x right, y anterior, z superior) that columns, rows and slices run along."""


@dataclass(frozen=True)
class Storage:
    """Slice direction, flips of the stored axes, and how many fine slices make a thick one."""

    plane: str
    flips: tuple[bool, bool, bool]
    slice_factor: int

    @property
    def slice_axis(self) -> int:
        """Patient axis that slices are stacked along: 0 x, 1 y, 2 z."""
        return ORDERS[self.plane][2]


def sample_storage(random: np.random.Generator, family: str) -> Storage:
    """Draw a storage: mostly coronal slices for dedicated breast CT, always axial ones for chest CT."""
    plane = str(random.choice(["coronal", "axial", "sagittal"], p=[0.5, 0.3, 0.2]))
    flips = random.random(3) < 0.5
    factor = int(random.choice([1, 2, 3, 4], p=[0.82, 0.1, 0.05, 0.03]))
    plane = "axial" if family == "chest" else plane
    return Storage(plane, (bool(flips[0]), bool(flips[1]), bool(flips[2])), factor)


def to_storage(values: torch.Tensor, grid: Grid, storage: Storage) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return an array in stored order and its affine, voxel index to RAS+ mm; world positions do not change."""
    order = ORDERS[storage.plane]
    array = values.cpu().numpy().transpose(order)
    affine = np.eye(4)
    affine[:3, :3] = np.diag(grid.spacing)[:, order]
    affine[:3, 3] = grid.origin
    for axis, flipped in enumerate(storage.flips):
        if flipped:
            array = np.flip(array, axis)
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1.0
    return np.ascontiguousarray(array), affine
