"""What a part of the benchmark gives: lines of the page, and numbers for the picture. Used by benchmark.py."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SLOW_SECONDS = 30.0
"""A way whose first run takes longer than this runs once: warming up and repeating change little of so long a time."""

MOST_TICKS = 6
OURS, OTHERS = "#0072B2", "#E69F00"
"""Blue and orange of Okabe and Ito's palette: told apart with any colour vision, and by their lightness in grey."""


@dataclass(frozen=True)
class Measured:
    """What one part measured.

    Parameters
    ----------
    lines : list of str
        The part in Markdown, without its title.
    figures : dict
        The numbers behind the lines by name, where the picture needs them.
    """

    lines: list[str]
    figures: dict[str, Any] = field(default_factory=dict)


def can_draw(parts: Mapping[str, Measured]) -> bool:
    """Whether the parts that the picture shows have been measured."""
    return {"windows", "scaling"} <= parts.keys()


def draw(parts: Mapping[str, Measured], path: Path, threads: int) -> None:
    """Draw the seconds of each way over the same volume, and the seconds of the network against tissue.

    Parameters
    ----------
    parts : mapping
        With ``windows``, whose figures are ``seconds`` (by way, ours first), and ``scaling``, whose figures are
        ``tissue`` (voxels), ``seconds``, ``slope`` (seconds a voxel) and ``offset`` (seconds).
    path : Path
        PNG; written beside it, then renamed.
    threads : int
        CPU threads, for the title.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), dpi=90, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_ways(left, parts["windows"].figures["seconds"])
    _draw_scaling(right, parts["scaling"].figures)
    figure.suptitle(f"The same network and weights, {threads} threads", fontsize="medium")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    canvas.print_png(part, metadata={"Software": None})
    os.replace(part, path)


def _draw_ways(axes: Any, seconds: Mapping[str, float]) -> None:
    names, values = list(seconds), list(seconds.values())
    colours = [OURS if name.startswith("ours") else OTHERS for name in names]
    bars = axes.barh(names, values, color=colours)
    texts = [f"{value:.1f} s ({value / values[0]:.1f} x)" for value in values]
    axes.bar_label(bars, texts, padding=3, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(values))  # room for the numbers at the longest bar
    axes.tick_params(axis="y", labelsize="small")
    axes.set(xlabel="seconds", title="One volume, way by way (shorter is better)")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_scaling(axes: Any, figures: Mapping[str, Any]) -> None:
    thousands = [voxels / 1e3 for voxels in figures["tissue"]]
    slope, offset = figures["slope"], figures["offset"]
    line = [0.0, max(figures["tissue"])]
    label = f"{offset:.2f} s {'+' if slope >= 0 else '-'} {abs(slope) * 1e6:.1f} s per million voxels"
    axes.plot([x / 1e3 for x in line], [offset + slope * x for x in line], color=OTHERS, label=label)
    axes.plot(thousands, figures["seconds"], "o", color=OURS, label="measured")
    axes.locator_params(nbins=MOST_TICKS)
    axes.set(xlabel="tissue, thousand voxels", ylabel="seconds of the network", title="Time against tissue")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
