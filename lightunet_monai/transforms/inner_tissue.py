"""Tissue that is not skin."""

from __future__ import annotations

import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import NDArray


def inner_tissue(tissue: NDArray[np.bool_], depth: int) -> NDArray[np.bool_]:
    """Return the tissue that lies deeper below the surface than skin does.

    Air that a cube of 2 `depth` + 1 voxels fits into is outside (and lung); bubbles and noise are not. The volume's
    border is no surface: there the breast goes on.

    Parameters
    ----------
    tissue : ndarray of bool, shape (X, Y, Z)
    depth : int
        Voxels from the surface, counted along the axes (a cube, not a ball); 0 returns the tissue as it is.

    Returns
    -------
    ndarray of bool, shape (X, Y, Z)
    """
    if depth <= 0:
        return tissue
    air = (~tissue).view(np.uint8)
    for axis in range(3):
        air = scipy.ndimage.minimum_filter1d(air, 2 * depth + 1, axis=axis, mode="nearest")
    for axis in range(3):
        # The opening's own dilation and that by the depth, in one.
        air = scipy.ndimage.maximum_filter1d(air, 4 * depth + 1, axis=axis, mode="nearest")
    inner: NDArray[np.bool_] = tissue & (air == 0)
    return inner
