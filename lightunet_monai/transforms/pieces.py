"""Connected pieces of a lesion, and whether they lie inside the breast."""

from __future__ import annotations

from typing import Any

import cc3d
import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import NDArray

CONNECTIVITY = 26
"""Voxels that touch by a corner belong together."""

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


def pieces_inside(pieces: NDArray[np.integer[Any]], tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find the pieces that lie inside the breast: more than half of the voxels that touch them are tissue.

    Parameters
    ----------
    pieces : ndarray of integers, shape (X, Y, Z)
        0, or the number of a piece.
    tissue : ndarray of bool, shape (X, Y, Z)
        Labelled as a tissue; false on pieces.

    Returns
    -------
    ndarray of bool, shape (X, Y, Z)
        True on the pieces inside.
    """
    inside = np.zeros(pieces.shape, dtype=bool)
    if not pieces.any():
        return inside
    boxes = cc3d.statistics(pieces.astype(np.uint32), no_slice_conversion=False)["bounding_boxes"]
    for number in np.unique(pieces[pieces > 0]).tolist():
        box = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in boxes[number])
        piece = pieces[box] == number
        around = scipy.ndimage.binary_dilation(piece, _TOUCHING) & ~piece
        if 2 * np.count_nonzero(tissue[box] & around) > np.count_nonzero(around):
            inside[box] |= piece
    return inside
