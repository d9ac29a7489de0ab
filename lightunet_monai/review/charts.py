"""Line charts of an evaluation as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .drawing import FAINT, INK, PAPER

_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2", "#8b9198")
"""Okabe and Ito: told apart also by people who do not tell red from green."""

Points = Sequence[tuple[float, float]]


def draw_chart(
    curves: Mapping[str, Points],
    x_title: str,
    y_title: str,
    *,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    with_diagonal: bool = False,
) -> bytes:
    """Draw curves into one chart.

    Parameters
    ----------
    curves : mapping
        Points (x, y) by name, in the order in which they are joined.
    x_title, y_title : str
    x_range, y_range : tuple of float or None
        Ends of the axes; by the points if None.
    with_diagonal : bool
        Also draw y = x, faint.

    Returns
    -------
    bytes
        PNG.
    """
    figure = Figure(figsize=(6.4, 4.2), dpi=110, facecolor=PAPER)
    ax = figure.subplots()
    ax.set_facecolor(PAPER)
    if with_diagonal:
        ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="dotted")
    for index, (name, points) in enumerate(curves.items()):
        marker = "o" if len(points) <= 20 else ""
        x, y = [point[0] for point in points], [point[1] for point in points]
        colour = _COLOURS[index % len(_COLOURS)]
        ax.plot(x, y, color=colour, label=name, linewidth=1.6, marker=marker, markersize=4)
    ax.set_xlabel(x_title, color=INK, parse_math=False)
    ax.set_ylabel(y_title, color=INK, parse_math=False)  # a curve's name may hold dollars
    if x_range is not None:
        ax.set_xlim(*x_range)
    if y_range is not None:
        ax.set_ylim(*y_range)
    ax.tick_params(colors=FAINT)
    ax.grid(color="#2a2e33", linewidth=0.6)
    for side in ax.spines.values():
        side.set_color("#2a2e33")
    if len(curves) > 1:
        ax.legend(fontsize=8, facecolor=PAPER, edgecolor="#2a2e33", labelcolor=INK)
    figure.tight_layout()
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", facecolor=PAPER, metadata={"Software": None})
    return content.getvalue()
