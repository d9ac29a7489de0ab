"""What pictures of a case have in common: the window, outlines, patient directions, scale bars and colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

from .planes import Plane

STATEMENT = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS"

WINDOW_LEVEL_HU, WINDOW_WIDTH_HU = 0, 500
"""Fat (-100), fibroglandular tissue (0 to 50) and a mass (30 to 80) are told apart; skin does not saturate."""

INK, PAPER, FAINT, ALERT = "#e8eaed", "#101214", "#8b9198", "#ffb454"
_SCALE_BARS_MM = (1, 2, 5, 10, 20, 50, 100)


def draw_volume(ax: Any, plane: Plane, volume_hu: NDArray[np.generic]) -> None:
    """Show one plane of a volume in the soft-tissue window, true to scale, and fit the axes to it."""
    values = plane.cut(volume_hu).astype(np.float32)
    rows, columns = values.shape
    low, high = WINDOW_LEVEL_HU - WINDOW_WIDTH_HU / 2, WINDOW_LEVEL_HU + WINDOW_WIDTH_HU / 2
    picture = ax.imshow(values, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="bilinear")
    (a, b), (c, d) = plane.to_mm
    picture.set_transform(Affine2D(np.array([[a, b, 0], [c, d, 0], [0, 0, 1]])) + ax.transData)
    corners = plane.to_mm @ np.array([[-0.5, columns - 0.5, -0.5, columns - 0.5], [-0.5, -0.5, rows - 0.5, rows - 0.5]])
    ax.set(xlim=(corners[0].min(), corners[0].max()), ylim=(corners[1].min(), corners[1].max()), facecolor="black")
    ax.set_aspect("equal", adjustable="box")
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_color("#2a2e33")


def draw_outline(
    ax: Any,
    plane: Plane,
    label_map: NDArray[np.generic],
    value: int,
    colour: Any,
    style: str = "solid",
    width: float = 1.3,
) -> None:
    """Outline where a label map has a value, if this plane cuts it."""
    mask = plane.cut(label_map) == value
    if mask.any():
        right_mm, up_mm = plane.grid(label_map.shape)
        limits = ax.get_xlim(), ax.get_ylim()
        ax.contour(
            right_mm, up_mm, mask.astype(np.float32), levels=[0.5], colors=[colour], linewidths=width, linestyles=style
        )
        ax.set(xlim=limits[0], ylim=limits[1])


def draw_marks(ax: Any, plane: Plane, title: str) -> None:
    """Write the patient's directions at the four sides, and a title above."""
    left, right, bottom, top = plane.marks()
    style = {"transform": ax.transAxes, "color": INK}
    for text, x, y, across, upwards in (
        (left, 0.045, 0.5, "left", "center"),
        (right, 0.955, 0.5, "right", "center"),
        (bottom, 0.5, 0.045, "center", "bottom"),
        (top, 0.5, 0.955, "center", "top"),
    ):
        ax.text(x, y, text, ha=across, va=upwards, fontsize=11, fontweight="bold", **style)
    ax.set_title(title, color=FAINT, fontsize=10, loc="left", pad=5)


def draw_scale_bar(ax: Any) -> None:
    """Draw a bar of a round length, at most a quarter of the width."""
    width = abs(ax.get_xlim()[1] - ax.get_xlim()[0])
    length = max((bar for bar in _SCALE_BARS_MM if bar <= width / 4), default=_SCALE_BARS_MM[0])
    share = length / width
    ax.plot(
        [0.955 - share, 0.955], [0.045, 0.045], transform=ax.transAxes, color=INK, linewidth=2.2, solid_capstyle="butt"
    )
    ax.text(
        0.955 - share / 2,
        0.058,
        f"{length} mm",
        transform=ax.transAxes,
        ha="center",
        va="bottom",
        color=INK,
        fontsize=8.5,
    )
