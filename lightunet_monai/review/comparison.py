"""One picture of a prediction beside its reference: both outlines on the three planes through the largest lesion."""

from __future__ import annotations

import io

import cc3d
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .drawing import INK, PAPER, STATEMENT, WINDOW_LEVEL_HU, WINDOW_WIDTH_HU, draw_marks, draw_outline, draw_scale_bar
from .drawing import draw_volume as draw_plane
from .planes import choose_planes

REFERENCE_COLOUR, PREDICTION_COLOUR = "#56b4e9", "#e69f00"
"""Told apart also by people who do not tell red from green (Okabe and Ito); the prediction is dashed as well."""

MARGIN_MM = 8.0
"""Around the largest lesion in a close-up."""

_DOTS_PER_INCH = 80


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
    figure = Figure(figsize=(10.2, 7.2), dpi=_DOTS_PER_INCH, facecolor=PAPER)
    axes = figure.subplots(2, 3, squeeze=False)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.95, bottom=0.05, wspace=0.03, hspace=0.12)
    for column, plane in enumerate(choose_planes(affine, voxel)):
        for row, title in enumerate((plane.name, f"{plane.name}, close-up")):
            ax = axes[row, column]
            draw_plane(ax, plane, shown)
            draw_outline(ax, plane, reference, True, REFERENCE_COLOUR)
            draw_outline(ax, plane, prediction, True, PREDICTION_COLOUR, "dashed")
            if row:
                corners = np.array([plane.place((x, y, z)) for x in box[0] for y in box[1] for z in box[2]])
                middle, half = (corners.min(0) + corners.max(0)) / 2, np.ptp(corners, axis=0).max() / 2 + MARGIN_MM
                ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
            draw_marks(ax, plane, title)
            draw_scale_bar(ax)
    figure.text(0.01, 0.012, "— reference", color=REFERENCE_COLOUR, fontsize=10)
    figure.text(0.14, 0.012, "- - prediction", color=PREDICTION_COLOUR, fontsize=10)
    figure.text(0.99, 0.012, STATEMENT, color=INK, fontsize=8, ha="right")
    return to_png(figure)


def to_png(figure: Figure) -> bytes:
    """Give a figure as PNG, the same bytes for the same figure."""
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return content.getvalue()


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
