"""One picture of a prediction beside its reference: both outlines on the three planes through the largest lesion."""

from __future__ import annotations

import cc3d
import numpy as np
from numpy.typing import NDArray

from .drawing import FAINT, STATEMENT, WINDOW_LEVEL_HU, WINDOW_WIDTH_HU, Canvas, Panel, draw_plane, plane_field
from .planes import choose_planes

REFERENCE_COLOUR, PREDICTION_COLOUR = "#56b4e9", "#e69f00"
"""Told apart also by people who do not tell red from green (Okabe and Ito); the prediction is dashed as well."""

MARGIN_MM = 8.0
"""Around the largest lesion in a close-up."""

WIDTH, HEIGHT = 816, 576
_SMALL, _LINE = 11.0, 1.5
_DASH = (5.0, 3.0)


def draw_comparison(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    affine: NDArray[np.float64],
    volume_hu: NDArray[np.generic] | None = None,
) -> bytes:
    """Draw axial, coronal and sagittal planes with both outlines, whole and as close-ups.

    The planes go through the middle of the largest lesion of the reference, or without one of the prediction. The
    picture holds no name, path or identifier.

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (X, Y, Z)
        On the same grid.
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ mm.
    volume_hu : ndarray, shape (X, Y, Z), or None
        Hounsfield units behind the outlines; black without it.

    Returns
    -------
    bytes
        PNG.
    """
    shown = np.full(reference.shape, np.int16(WINDOW_LEVEL_HU - WINDOW_WIDTH_HU)) if volume_hu is None else volume_hu
    voxel, box = _largest_piece(reference if reference.any() else prediction)
    canvas = Canvas(WIDTH, HEIGHT)
    for column, plane in enumerate(choose_planes(affine, voxel)):
        corners = np.array([plane.place((x, y, z)) for x in box[0] for y in box[1] for z in box[2]])
        middle, half = (corners.min(0) + corners.max(0)) / 2, np.ptp(corners, axis=0).max() / 2 + MARGIN_MM
        near = (middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half)
        whole = plane_field(plane, reference.shape)
        for row, (title, field) in enumerate(((plane.name, whole), (f"{plane.name}, close-up", near))):
            left, top = 8 + 270 * column, 28 + 266 * row
            panel = Panel((left, top, left + 260, top + 240), field)
            draw_plane(panel, plane, shown)
            panel.outline(plane.cut(reference).astype(bool), plane.to_mm, REFERENCE_COLOUR, _LINE)
            panel.outline(plane.cut(prediction).astype(bool), plane.to_mm, PREDICTION_COLOUR, _LINE, dash=_DASH)
            panel.marks(plane, _SMALL + 1)
            panel.scale_bar(_SMALL - 1)
            panel.frame()
            canvas.place(panel)
            canvas.text(panel.left, panel.top - 5, title, _SMALL, FAINT, anchor="ld")
    canvas.text(8, HEIGHT - 6, "— reference", _SMALL, REFERENCE_COLOUR, anchor="ld")
    canvas.text(114, HEIGHT - 6, "- - prediction", _SMALL, PREDICTION_COLOUR, anchor="ld")
    canvas.text(WIDTH - 8, HEIGHT - 6, STATEMENT, _SMALL - 2, anchor="rd")
    return canvas.png()


def _largest_piece(mask: NDArray[np.bool_]) -> tuple[tuple[int, int, int], list[tuple[float, float]]]:
    """The middle voxel of the largest piece and its first and last index along each axis; of the grid if none."""
    if mask.any():
        pieces = cc3d.connected_components(mask, connectivity=26)
        sizes = np.bincount(pieces.reshape(-1, order="A"))
        sizes[0] = 0
        mask = pieces == int(sizes.argmax())
    else:
        mask = np.ones_like(mask)
    ends = []
    for axis in range(3):
        planes = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        ends.append((float(planes[0]), float(planes[-1])))
    x, y, z = (int((low + high) / 2) for low, high in ends)
    return (x, y, z), ends
