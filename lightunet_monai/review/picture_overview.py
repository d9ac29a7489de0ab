"""One picture of a 2-D image: the image, and beside it the image with the lesions outlined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightunet_monai.segmentation import Segmentation

from .drawing import FAINT, Canvas, Panel, to_grey
from .overview import BODY, save, write_foot, write_head

WIDTH, HEIGHT = 1320, 720

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
    grey = to_grey(image, low, max(high, low + 1e-6))
    to_mm = np.array([[across, 0.0], [0.0, -down]])  # rows run downwards
    rows, columns = image.shape
    field = (-0.5 * across, (columns - 0.5) * across, (0.5 - rows) * down, 0.5 * down)
    canvas = Canvas(WIDTH, HEIGHT)
    for column, title in enumerate(("Image", "Outline")):
        left = 20 + 645 * column
        panel = Panel((left, 138, left + 635, 662), field)
        panel.show(grey, to_mm)
        if column:
            for label in segmentation.labels:
                panel.outline(labels == label.value, to_mm, label.color, 2.2)
        panel.frame()
        canvas.place(panel)
        canvas.text(panel.left, panel.top - 8, title, BODY - 1, FAINT, anchor="ld")
    _draw_texts(canvas, segmentation)
    return save(canvas, Path(path))


def _draw_texts(canvas: Canvas, segmentation: Segmentation) -> None:
    provenance = segmentation.provenance
    columns, rows, _ = segmentation.label_map.shape
    across, down, _ = segmentation.spacing
    spacing = f"{across:.3g} × {down:.3g} mm" if segmentation.has_spacing else "not stated by the image"
    write_head(canvas, "" if segmentation.label_map.any() else "No lesion was found by the model.")
    left = f"Grid: {columns} × {rows} pixels    Spacing: {spacing}"
    model = f"{provenance.model_name} {provenance.model_version}, weights {provenance.weights_sha256[:12]}"
    write_foot(canvas, left, model)
