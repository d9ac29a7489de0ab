"""One picture of a 2-D image: the image, and beside it the image with the lesions outlined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightunet_monai.segmentation import Segmentation

from .drawing import ALERT, FAINT, INK, PAPER, STATEMENT
from .overview import DOTS_PER_INCH, save

SHOWN_PERCENTILES = (0.5, 99.5)
"""Black and white of the picture; the result does not depend on them."""


def write_picture_overview(segmentation: Segmentation, pixels: NDArray[np.generic], path: Path) -> Path:
    """Draw the image and its lesions. The picture adds no name, identifier, date or path.

    Parameters
    ----------
    segmentation : Segmentation
        Of a picture: label map (X, Y, 1).
    pixels : ndarray, shape (X, Y)
        The image.
    path : Path
        ``.png``; replaced atomically.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    image = np.asarray(pixels, dtype=np.float32).T  # (rows, columns)
    labels = segmentation.label_map[:, :, 0].T
    low, high = np.percentile(image, SHOWN_PERCENTILES)
    across, down, _ = segmentation.spacing
    figure = Figure(figsize=(11.0, 6.0), dpi=DOTS_PER_INCH, facecolor=PAPER)
    axes = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.015, right=0.985, top=0.86, bottom=0.08, wspace=0.03)
    for ax, title in zip(axes, ("Image", "Outline"), strict=True):
        ax.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=down / across)
        ax.set_title(title, color=FAINT, fontsize=10, loc="left", pad=5)
        ax.set(xticks=[], yticks=[])
    for label in segmentation.labels:
        mask = labels == label.value
        if mask.any():
            colour = tuple(value / 255 for value in label.color)
            # A frame of background closes outlines at the border of the image.
            padded = np.pad(mask.astype(np.float32), 1)
            columns, rows = np.arange(padded.shape[1]) - 1, np.arange(padded.shape[0]) - 1
            axes[1].contour(columns, rows, padded, levels=[0.5], colors=[colour], linewidths=1.4)
    axes[1].set(xlim=axes[0].get_xlim(), ylim=axes[0].get_ylim())
    _draw_texts(figure, segmentation)
    return save(figure, Path(path))


def _draw_texts(figure: Figure, segmentation: Segmentation) -> None:
    provenance = segmentation.provenance
    columns, rows, _ = segmentation.label_map.shape
    across, down, _ = segmentation.spacing
    spacing = f"{across:.3g} × {down:.3g} mm" if segmentation.has_spacing else "not stated by the image"
    figure.text(0.015, 0.975, "Segmentation overview", color=INK, fontsize=16, fontweight="bold", va="top")
    figure.text(0.985, 0.972, STATEMENT, color=ALERT, fontsize=12, fontweight="bold", va="top", ha="right")
    marked = "" if segmentation.label_map.any() else "No lesion was found by the model."
    figure.text(0.015, 0.925, marked, color=INK, fontsize=10.5, va="top")
    left = f"Grid: {columns} × {rows} pixels    Spacing: {spacing}"
    model = f"{provenance.model_name} {provenance.model_version}, weights {provenance.weights_sha256[:12]}"
    figure.text(0.015, 0.022, left, color=FAINT, fontsize=9, va="bottom")
    figure.text(0.985, 0.022, model, color=FAINT, fontsize=9, va="bottom", ha="right")
