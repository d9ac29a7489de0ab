"""Voxels beside voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def face_neighbours(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find the voxels, (X, Y, Z), that have a face neighbour in `mask`; those of the mask itself may be among them."""
    result = np.zeros_like(mask)
    for axis in range(3):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        result[tuple(low)] |= mask[tuple(high)]
        result[tuple(high)] |= mask[tuple(low)]
    return result


def face_centres(inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Find the faces between a voxel of one mask and a voxel of the other: their centres as voxel indices, (n, 3)."""
    voxels = np.argwhere(outside & face_neighbours(inside))
    centres = []
    for axis in range(3):
        for step in (-1, 1):
            beside = voxels.copy()
            beside[:, axis] += step
            touches = (beside[:, axis] >= 0) & (beside[:, axis] < inside.shape[axis])
            touches[touches] = inside[tuple(beside[touches].T)]
            centres.append((voxels[touches] + beside[touches]) / 2)
    return np.concatenate(centres)
