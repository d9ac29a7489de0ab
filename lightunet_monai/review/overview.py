"""One picture of a case: the most telling planes, with the lesions outlined."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightunet_monai.errors import OutputError
from lightunet_monai.segmentation import Segmentation

from .drawing import (
    ALERT,
    FAINT,
    INK,
    PAPER,
    STATEMENT,
    WINDOW_LEVEL_HU,
    WINDOW_WIDTH_HU,
    draw_marks,
    draw_outline,
    draw_scale_bar,
    draw_volume,
)
from .planes import Plane, choose_planes

TISSUE_HU = -300
CLOSE_UP_FACTOR, CLOSE_UP_MIN_MM = 2.5, 10.0
"""Field of a close-up in diameters of the lesion; lesions below 10 mm are shown like one of 10 mm."""

DOTS_PER_INCH = 120


class LesionLike(Protocol):
    """What the picture needs to know of a lesion; see `outputs.findings.Lesion`."""

    number: int
    volume_ml: float
    feret_diameter_mm: float
    axial_long_axis_mm: float
    axial_short_axis_mm: float
    centroid_voxel: tuple[float, float, float]


class FindingsLike(Protocol):
    """Lesions, the largest first; see `outputs.findings.Findings`."""

    @property
    def lesions(self) -> Sequence[Any]:
        """Each a `LesionLike`."""


def write_overview(
    segmentation: Segmentation,
    volume_hu: NDArray[np.generic],
    path: Path,
    *,
    findings: FindingsLike | None = None,
) -> Path:
    """Draw the axial, coronal and sagittal plane through the largest lesion, and a close-up of each.

    Without a lesion the planes go through the middle of the tissue and there are no close-ups. The picture holds no
    name, identifier, date or path.

    Parameters
    ----------
    segmentation : Segmentation
        Label map (X, Y, Z) and affine.
    volume_hu : ndarray, shape (X, Y, Z)
        Hounsfield units on the same grid.
    path : Path
        ``.png``; replaced atomically.
    findings : Findings or None
        Adds numbers and sizes.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    lesions: Sequence[LesionLike] = findings.lesions if findings is not None else ()
    voxel = _voxel_to_show(segmentation, volume_hu, lesions)
    planes = choose_planes(segmentation.affine, voxel)
    has_lesion = segmentation.has_lesion or bool(lesions)
    figure = Figure(figsize=(13.5, 10.0 if has_lesion else 5.9), dpi=DOTS_PER_INCH, facecolor=PAPER)
    rows = 2 if has_lesion else 1
    axes = figure.subplots(rows, 3, squeeze=False)
    figure.subplots_adjust(
        left=0.015, right=0.985, top=0.885 if rows == 2 else 0.80, bottom=0.07, wspace=0.03, hspace=0.11
    )
    for column, plane in enumerate(planes):
        _draw_plane(axes[0, column], plane, segmentation, volume_hu, lesions)
        _draw_cross(axes[0, column], plane, voxel)
        if has_lesion:
            _draw_plane(axes[1, column], plane, segmentation, volume_hu, lesions)
            _zoom(axes[1, column], plane, voxel, lesions)
        place = f"{plane.name}, plane {plane.index + 1} of {segmentation.label_map.shape[plane.axis]}"
        for row, title in enumerate((place, f"{plane.name}, close-up")[:rows]):
            draw_marks(axes[row, column], plane, title)
            draw_scale_bar(axes[row, column])
    _draw_texts(figure, segmentation, lesions)
    return save(figure, Path(path))


def _voxel_to_show(
    segmentation: Segmentation, volume_hu: NDArray[np.generic], lesions: Sequence[LesionLike]
) -> tuple[int, int, int]:
    """The centroid of the largest lesion, else the planes with most lesion voxels, else the middle of the tissue."""
    if lesions:
        x, y, z = (round(value) for value in lesions[0].centroid_voxel)
        return x, y, z
    if segmentation.has_lesion:
        labelled = np.isin(segmentation.label_map, [label.value for label in segmentation.labels if label.is_lesion])
        x, y, z = (int(labelled.sum(axis=tuple({0, 1, 2} - {axis})).argmax()) for axis in range(3))
        return x, y, z
    stride = [max(1, size // 64) for size in volume_hu.shape]
    tissue = np.asarray(volume_hu[:: stride[0], :: stride[1], :: stride[2]]) > TISSUE_HU
    middle = np.median(np.argwhere(tissue), axis=0) * stride if tissue.any() else np.array(volume_hu.shape) // 2
    x, y, z = (int(value) for value in middle)
    return x, y, z


def _draw_plane(
    ax: Any,
    plane: Plane,
    segmentation: Segmentation,
    volume_hu: NDArray[np.generic],
    lesions: Sequence[LesionLike],
) -> None:
    draw_volume(ax, plane, volume_hu)
    for label in segmentation.labels:
        colour = tuple(value / 255 for value in label.color)
        draw_outline(ax, plane, segmentation.label_map, label.value, colour, width=1.3 if label.is_lesion else 0.6)
    _draw_numbers(ax, plane, segmentation, lesions)


def _draw_numbers(ax: Any, plane: Plane, segmentation: Segmentation, lesions: Sequence[LesionLike]) -> None:
    """Number the lesions that the plane cuts, to the upper right of their outline."""
    for lesion in lesions:
        radius = lesion.feret_diameter_mm / 2
        if abs(lesion.centroid_voxel[plane.axis] - plane.index) * segmentation.spacing[plane.axis] <= radius:
            place = plane.place(lesion.centroid_voxel) + 0.72 * radius
            ax.text(*place, f" {lesion.number}", color=ALERT, fontsize=11, fontweight="bold", clip_on=True)


def _draw_cross(ax: Any, plane: Plane, voxel: tuple[int, int, int]) -> None:
    """Short lines at the borders show where the two other planes lie."""
    x, y = plane.place((float(voxel[0]), float(voxel[1]), float(voxel[2])))
    for low, high in ((0.0, 0.028), (0.972, 1.0)):
        ax.axvline(x, low, high, color=ALERT, linewidth=1.2)
        ax.axhline(y, low, high, color=ALERT, linewidth=1.2)


def _zoom(ax: Any, plane: Plane, voxel: tuple[int, int, int], lesions: Sequence[LesionLike]) -> None:
    half = CLOSE_UP_FACTOR * max(CLOSE_UP_MIN_MM, lesions[0].feret_diameter_mm if lesions else 0.0) / 2
    x, y = plane.place((float(voxel[0]), float(voxel[1]), float(voxel[2])))
    ax.set(xlim=(x - half, x + half), ylim=(y - half, y + half))


def _draw_texts(figure: Figure, segmentation: Segmentation, lesions: Sequence[LesionLike]) -> None:
    provenance = segmentation.provenance
    figure.text(0.015, 0.975, "Segmentation overview", color=INK, fontsize=16, fontweight="bold", va="top")
    figure.text(0.985, 0.972, STATEMENT, color=ALERT, fontsize=12, fontweight="bold", va="top", ha="right")
    figure.text(
        0.015,
        0.938 if len(figure.axes) > 3 else 0.915,
        _summary(segmentation, lesions),
        color=INK,
        fontsize=10.5,
        va="top",
    )
    window = f"Window: level {WINDOW_LEVEL_HU} HU, width {WINDOW_WIDTH_HU} HU"
    spacing = " × ".join(f"{value:.3g}" for value in segmentation.spacing)
    grid = " × ".join(str(size) for size in segmentation.label_map.shape)
    left = f"{window}    Grid: {grid}    Spacing: {spacing} mm"
    model = f"{provenance.model_name} {provenance.model_version}, weights {provenance.weights_sha256[:12]}"
    model = {"SEMIAUTOMATIC": f"edited by hand after {model}", "MANUAL": "drawn by hand"}.get(
        provenance.algorithm_type, f"{model}, trained on simulated data"
    )
    figure.text(0.015, 0.022, left, color=FAINT, fontsize=9, va="bottom")
    figure.text(0.985, 0.022, model, color=FAINT, fontsize=9, va="bottom", ha="right")


def _summary(segmentation: Segmentation, lesions: Sequence[LesionLike]) -> str:
    if lesions:
        shown = [
            f"{lesion.number}: {lesion.volume_ml:.2f} ml, "
            f"{lesion.axial_long_axis_mm:.1f} × {lesion.axial_short_axis_mm:.1f} mm axial"
            for lesion in lesions[:3]
        ]
        more = f"    and {len(lesions) - 3} more" if len(lesions) > 3 else ""
        return "    ".join(shown) + more
    volumes = [f"{label.title}: {segmentation.volume_ml(label.value):.2f} ml" for label in segmentation.labels]
    if segmentation.has_lesion:
        return "    ".join(volumes)
    is_model = segmentation.provenance.algorithm_type == "AUTOMATIC"
    nothing = "No lesion was found by the model." if is_model else "No lesion is marked."
    return "    ".join([nothing, *volumes]) if segmentation.label_map.any() else nothing


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, atomically."""
    part = path.with_name(f".{uuid.uuid4().hex[:12]}.part.png")
    try:
        FigureCanvasAgg(figure)
        figure.savefig(part, facecolor=PAPER, metadata={"Software": None, "Description": STATEMENT})
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written: {error.strerror or error}.", hint="Choose another folder."
        ) from error
    return path
