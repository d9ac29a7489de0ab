"""One picture of a case: the most telling planes, with the lesions outlined."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import cc3d
import numpy as np
from numpy.typing import NDArray

from lightunet_monai.errors import OutputError
from lightunet_monai.segmentation import Segmentation

from .drawing import (
    ALERT,
    FAINT,
    STATEMENT,
    WINDOW_LEVEL_HU,
    WINDOW_WIDTH_HU,
    Canvas,
    Field,
    Panel,
    draw_plane,
    font,
    plane_field,
)
from .planes import Plane, choose_planes

TISSUE_HU = -300
CLOSE_UP_FACTOR, CLOSE_UP_MIN_MM = 2.5, 10.0
"""Field of a close-up in diameters of the lesion; lesions below 10 mm are shown like one of 10 mm."""

WIDTH, HEIGHT, HEIGHT_WITHOUT_LESION = 1620, 1200, 708
TITLE, BODY, SMALL, MARK, BAR = 26.5, 17.5, 15.0, 18.5, 14.0
"""Pixels of the picture and of its letters."""

LEGEND_TOP = 98
"""Between the line about the case and the names of the planes."""

_LESION_LINE, _LINE = 2.2, 1.0

Cut = tuple[int, NDArray[np.float64]]
"""A lesion in a plane: its number, and the middles of its voxels there, mm to the right and upwards, (n, 2)."""


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
    canvas = Canvas(WIDTH, HEIGHT if has_lesion else HEIGHT_WITHOUT_LESION)
    rows = 2 if has_lesion else 1
    cuts = _cut_lesions(planes, segmentation, lesions) if lesions else [[], [], []]
    for column, (plane, cut) in enumerate(zip(planes, cuts, strict=True)):
        whole = plane_field(plane, segmentation.label_map.shape)
        place = f"{plane.name}, plane {plane.index + 1} of {segmentation.label_map.shape[plane.axis]}"
        fields = ((place, whole), (f"{plane.name}, close-up", _close_up(plane, voxel, lesions)))[:rows]
        for row, (title, field) in enumerate(fields):
            panel = Panel(_box(row, column), field)
            _draw_panel(panel, plane, segmentation, volume_hu, cut)
            if not row:
                panel.cross(plane.place(_as_float(voxel)), 2.0)
            panel.marks(plane, MARK)
            panel.scale_bar(BAR)
            panel.frame()
            canvas.place(panel)
            canvas.text(panel.left, panel.top - 8, title, BODY - 1, FAINT, anchor="ld")
    _draw_texts(canvas, segmentation, lesions)
    return save(canvas, Path(path))


def _box(row: int, column: int) -> tuple[float, float, float, float]:
    """The room of a panel: left, top, right, bottom."""
    left, top = 24 + 529 * column, 140 + 518 * row
    return left, top, left + 514, top + 488


def _as_float(voxel: tuple[int, int, int]) -> tuple[float, float, float]:
    return float(voxel[0]), float(voxel[1]), float(voxel[2])


def _voxel_to_show(
    segmentation: Segmentation, volume_hu: NDArray[np.generic], lesions: Sequence[LesionLike]
) -> tuple[int, int, int]:
    """The centroid of the largest lesion, else the planes with most lesion voxels, else the middle of the tissue."""
    if lesions:
        x, y, z = (round(value) for value in lesions[0].centroid_voxel)
        return x, y, z
    if segmentation.has_lesion:
        labelled = np.isin(segmentation.label_map, segmentation.labels.lesions)
        x, y, z = (int(labelled.sum(axis=tuple({0, 1, 2} - {axis})).argmax()) for axis in range(3))
        return x, y, z
    stride = [max(1, size // 64) for size in volume_hu.shape]
    tissue = np.asarray(volume_hu[:: stride[0], :: stride[1], :: stride[2]]) > TISSUE_HU
    middle = np.median(np.argwhere(tissue), axis=0) * stride if tissue.any() else np.array(volume_hu.shape) // 2
    x, y, z = (int(value) for value in middle)
    return x, y, z


def _draw_panel(
    panel: Panel,
    plane: Plane,
    segmentation: Segmentation,
    volume_hu: NDArray[np.generic],
    cut: Sequence[Cut],
) -> None:
    draw_plane(panel, plane, volume_hu)
    labels = plane.cut(segmentation.label_map)
    # Where structures touch, their outlines are one line: it is that of the lesion, else of the first in the table.
    for label in sorted(segmentation.labels, key=lambda label: (label.is_lesion, -label.value)):
        width = _LESION_LINE if label.is_lesion else _LINE
        panel.outline(labels == label.value, plane.to_mm, label.color, width)
    _write_numbers(panel, plane, cut)


def _cut_lesions(planes: Sequence[Plane], segmentation: Segmentation, lesions: Sequence[LesionLike]) -> list[list[Cut]]:
    """Tell for each plane which lesions it cuts, and where: a centroid and a diameter do not tell it of every form."""
    centroids = np.array([lesion.centroid_voxel for lesion in lesions])
    # No voxel of a lesion is further from its centroid than its largest diameter, which also ends beyond the voxels.
    voxels_a_mm = np.linalg.norm(np.linalg.inv(segmentation.affine[:3, :3]), axis=1)
    reach = np.array([lesion.feret_diameter_mm for lesion in lesions])[:, None] * voxels_a_mm
    start = np.maximum(0, np.floor((centroids - reach).min(axis=0))).astype(int)
    stop = np.ceil((centroids + reach).max(axis=0)).astype(int) + 1
    labels = segmentation.label_map[tuple(map(slice, start, stop))]
    pieces = cc3d.connected_components(labels * np.isin(labels, segmentation.labels.lesions), connectivity=26)
    middles = cc3d.statistics(pieces)["centroids"] + start
    piece_of = [1 + int(np.linalg.norm(middles[1:] - centroid, axis=1).argmin()) for centroid in centroids]
    cuts = []
    for plane in planes:
        here = replace(plane, index=plane.index - int(start[plane.axis])).cut(pieces)
        corner = start[[plane.across, plane.up]]
        places = [(np.argwhere(here == piece)[:, ::-1] + corner) @ plane.to_mm.T for piece in piece_of]
        cuts.append([(lesion.number, place) for lesion, place in zip(lesions, places, strict=True) if len(place)])
    return cuts


def _write_numbers(panel: Panel, plane: Plane, cut: Sequence[Cut]) -> None:
    """Number the lesions that the panel shows, to the upper right of what it shows of them."""
    width, height = panel.image.size
    half_voxel = np.abs(plane.to_mm).sum(axis=1) / 2
    for number, places in cut:
        pixels = panel.pixels(places)
        pixels = pixels[((pixels >= 0) & (pixels < (width, height))).all(axis=1)]
        if len(pixels):
            x, y = pixels[(pixels @ (1, -1)).argmax()] + panel.scale * half_voxel * (1, -1)
            text = str(number)
            right, top = width - font(MARK, bold=True).getlength(text) - panel.edge, MARK + panel.edge
            panel.text(min(x + 5, right), max(y, top), text, MARK, ALERT, bold=True, anchor="ld")


def _close_up(plane: Plane, voxel: tuple[int, int, int], lesions: Sequence[LesionLike]) -> Field:
    half = CLOSE_UP_FACTOR * max(CLOSE_UP_MIN_MM, lesions[0].feret_diameter_mm if lesions else 0.0) / 2
    x, y = plane.place(_as_float(voxel))
    return x - half, x + half, y - half, y + half


def _draw_texts(canvas: Canvas, segmentation: Segmentation, lesions: Sequence[LesionLike]) -> None:
    provenance = segmentation.provenance
    write_head(canvas, _summary(segmentation, lesions))
    _draw_legend(canvas, segmentation)
    window = f"Window: level {WINDOW_LEVEL_HU} HU, width {WINDOW_WIDTH_HU} HU"
    spacing = " × ".join(f"{value:.3g}" for value in segmentation.spacing)
    grid = " × ".join(str(size) for size in segmentation.label_map.shape)
    left = f"{window}    Grid: {grid}    Spacing: {spacing} mm"
    model = f"{provenance.model_name} {provenance.model_version}, weights {provenance.weights_sha256[:12]}"
    model = {"SEMIAUTOMATIC": f"edited by hand after {model}", "MANUAL": "drawn by hand"}.get(
        provenance.algorithm_type, f"{model}; shipped weights: simulated data"
    )
    write_foot(canvas, left, model)


def _draw_legend(canvas: Canvas, segmentation: Segmentation) -> None:
    """Name the structures in the colours of their outlines, where there are several."""
    x = 24.0
    for label in segmentation.labels if len(segmentation.labels) > 1 else ():
        text = f"— {label.title}"
        canvas.text(x, LEGEND_TOP, text, SMALL, label.color)
        x += font(SMALL).getlength(text) + SMALL


def _summary(segmentation: Segmentation, lesions: Sequence[LesionLike]) -> str:
    if lesions:
        shown = [
            f"{lesion.number}: {_ml(lesion.volume_ml)}, "
            f"{lesion.axial_long_axis_mm:.1f} × {lesion.axial_short_axis_mm:.1f} mm axial"
            for lesion in lesions[:3]
        ]
        more = f"    and {len(lesions) - 3} more" if len(lesions) > 3 else ""
        return "    ".join(shown) + more
    volumes = [f"{label.title}: {_ml(segmentation.volume_ml(label.value))}" for label in segmentation.labels]
    if segmentation.has_lesion:
        return "    ".join(volumes)
    is_model = segmentation.provenance.algorithm_type == "AUTOMATIC"
    nothing = "No lesion was found by the model." if is_model else "No lesion is marked."
    return "    ".join([nothing, *volumes]) if segmentation.label_map.any() else nothing


def _ml(volume: float) -> str:
    """A volume with two decimals, or with as many as give two digits: none but 0 reads as 0.00 ml."""
    digits = 2 if volume == 0 else max(2, 1 - math.floor(math.log10(volume)))
    return f"{volume:.{digits}f} ml"


def write_head(canvas: Canvas, summary: str) -> None:
    """Write the title, the statement of use and a line about the case."""
    canvas.text(24, 30, "Segmentation overview", TITLE, bold=True)
    canvas.text(canvas.image.width - 24, 34, STATEMENT, MARK + 1, ALERT, bold=True, anchor="ra")
    canvas.text(24, 74, summary, BODY)


def write_foot(canvas: Canvas, left: str, right: str) -> None:
    """Write small lines into the lower corners."""
    y = canvas.image.height - 24
    canvas.text(24, y, left, SMALL, FAINT, anchor="ld")
    canvas.text(canvas.image.width - 24, y, right, SMALL, FAINT, anchor="rd")


def save(canvas: Canvas, path: Path) -> Path:
    """Write a picture as PNG, atomically."""
    part = path.with_name(f".{uuid.uuid4().hex[:12]}.part.png")
    try:
        part.write_bytes(canvas.png())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written: {error.strerror or error}.", hint="Choose another folder."
        ) from error
    return path
