"""Ducts from the nipple and vessels from the chest wall, as branching trees of capsules."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas
from .tissues import Tissue

Piece = tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]


def grow_tree(
    random: np.random.Generator,
    root: NDArray[np.float64],
    direction: NDArray[np.float64],
    *,
    length: float,
    radius: float,
    depth: int,
) -> list[Piece]:
    """Return the pieces (start, end, radii) of a branching tree, mm.

    Parameters
    ----------
    random : Generator
        Bends and branch points.
    root, direction : ndarray of shape (3,)
        Where the trunk begins and its unit direction.
    length, radius : float
        Of the trunk; each generation keeps 0.75 and 0.7 of it.
    depth : int
        Generations.
    """
    pieces: list[Piece] = []
    point, heading = root, direction
    steps = 5
    for step in range(steps):
        heading = heading + 0.22 * random.standard_normal(3)
        heading = heading / np.linalg.norm(heading)
        end = point + heading * length / steps
        pieces.append((point, end, (radius * (1 - 0.06 * step), radius * (1 - 0.06 * (step + 1)))))
        point = end
    if depth > 0:
        for _ in range(2):
            turned = heading + 0.55 * random.standard_normal(3)
            turned = turned / np.linalg.norm(turned)
            pieces += grow_tree(random, point, turned, length=0.75 * length, radius=0.7 * radius, depth=depth - 1)
    return pieces


def paint_tree(canvas: Canvas, pieces: list[Piece], hu: float, inner_depth: NDArray[np.float32]) -> None:
    """Paint the pieces whose middle lies in the breast; `inner_depth` is on the fine grid, mm."""
    for start, end, radii in pieces:
        middle = (start + end) / 2.0
        index = np.rint((middle - np.asarray(canvas.grid.origin)) / np.asarray(canvas.grid.spacing)).astype(int)
        if np.any(index < 0) or np.any(index >= np.asarray(canvas.grid.shape)):
            continue
        if inner_depth[tuple(index)] > max(radii):
            canvas.paint_tube(start, end, radii, hu, Tissue.VESSEL_OR_DUCT)
