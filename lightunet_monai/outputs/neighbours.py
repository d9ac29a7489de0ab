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
