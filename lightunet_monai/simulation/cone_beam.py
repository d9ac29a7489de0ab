"""Forward projection and FDK reconstruction on a circle about the y axis, compiled by numba.

Rays follow Joseph (IEEE Trans. Med. Imaging 1:192, 1982): one sample in every plane of voxels across the axis that the
ray runs along most, linear between voxels. Reconstruction follows Feldkamp, Davis and Kress (J. Opt. Soc. Am. A 1:612,
1984). Arrays keep y, or the detector's v, last: along them all rays of a column take the same voxels, which the
compiler turns into vector instructions.

stack = project(fields, grid, detector, circle)
volume = reconstruct(line_integrals, grid, detector, circle, hann_cut=0.8)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numba
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from .grid import FloatArray, Grid

if TYPE_CHECKING:
    from .projection import Detector

ROWS_BEFORE = 4
"""Detector rows on the chest wall's side of the central ray."""

COLUMNS_TOGETHER = 8
"""Rows of voxels that are back-projected together, so that they stay in the cache while the views go by."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function) -> _Function:
    """Compile on the first call; what was compiled is kept, unless there is no folder to keep it in."""
    options = {"parallel": True, "fastmath": True}
    try:
        compiled: _Function = numba.njit(**options, cache=True)(function)
    except RuntimeError:
        compiled = numba.njit(**options)(function)
    return compiled


@dataclass(frozen=True)
class Circle:
    """Views evenly over 360 degrees; the source of view 0 is on the z axis, that of the next one turned towards +x.

    Parameters
    ----------
    source_axis, source_detector : float
        Distances from the source, mm.
    views : int
        Over 360 degrees.
    """

    source_axis: float
    source_detector: float
    views: int

    def directions(self) -> FloatArray:
        """Return x and z of the unit vector from the axis to the source, float32 of shape (views, 2)."""
        angles = 2.0 * np.pi * np.arange(self.views) / self.views
        return np.stack([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def project(fields: Sequence[FloatArray], grid: Grid, detector: Detector, circle: Circle) -> FloatArray:
    """Return path lengths through volumes on one grid.

    Parameters
    ----------
    fields : sequence of ndarray of float32, shape (X, Y, Z)
        What is integrated; nothing beyond the grid.
    grid : Grid
        Of every field.
    detector : Detector
        Its pixels and the isocentre.
    circle : Circle
        Of the source.

    Returns
    -------
    ndarray of float32, shape (fields, views, columns, rows)
        mm times the field's unit.
    """
    padded = np.stack([np.pad(field.transpose(0, 2, 1), 1) for field in fields])
    occupied: NDArray[np.bool_] = np.any(padded, axis=(0, 3))
    starts = _starts(grid, detector)
    paths = np.zeros((len(fields), circle.views, detector.columns, detector.rows), dtype=np.float32)
    _project(
        padded,
        np.ascontiguousarray(padded.transpose(0, 2, 1, 3)),
        _touched(occupied),
        _touched(occupied.T),
        np.asarray(grid.spacing, dtype=np.float32),
        np.asarray(starts, dtype=np.float32),
        circle.directions(),
        np.float32(circle.source_axis),
        np.float32(circle.source_detector),
        np.float32(detector.pixel),
        paths,
    )
    return paths


def reconstruct(
    line_integrals: FloatArray, grid: Grid, detector: Detector, circle: Circle, *, hann_cut: float
) -> FloatArray:
    """Return attenuation in 1/mm on the grid, float32 of shape (X, Y, Z).

    Parameters
    ----------
    line_integrals : ndarray of float32, shape (views, columns, rows)
        Of a full circle.
    grid : Grid
        To reconstruct on.
    detector : Detector
        Its pixels and the isocentre.
    circle : Circle
        Of the source.
    hann_cut : float
        End of the Hann window on the ramp filter, relative to the Nyquist frequency of the columns.
    """
    filtered = _filtered(line_integrals, detector, circle, hann_cut)
    volume = np.zeros((grid.shape[0], grid.shape[2], grid.shape[1]), dtype=np.float32)
    _back_project(
        filtered,
        np.asarray(grid.spacing, dtype=np.float32),
        np.asarray(_starts(grid, detector), dtype=np.float32),
        circle.directions(),
        np.float32(circle.source_axis),
        np.float32(circle.source_detector),
        np.float32(detector.pixel),
        volume,
    )
    return np.ascontiguousarray(volume.transpose(0, 2, 1))


def _starts(grid: Grid, detector: Detector) -> list[float]:
    """Position of the first voxel from the isocentre, mm."""
    return [float(o - c) for o, c in zip(grid.origin, detector.isocentre, strict=True)]


def _touched(occupied: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where a ray between two neighbouring lines of voxels of a plane (axis 0) meets anything."""
    touched = occupied.copy()
    touched[:, :-1] |= occupied[:, 1:]
    return np.ascontiguousarray(touched)


def _filtered(line_integrals: FloatArray, detector: Detector, circle: Circle, hann_cut: float) -> FloatArray:
    """Weigh by the obliquity of the rays and filter along the columns by a ramp with a Hann window."""
    at_axis = detector.pixel * circle.source_axis / circle.source_detector
    u = (np.arange(detector.columns) - (detector.columns - 1) / 2.0)[:, None] * detector.pixel
    v = (np.arange(detector.rows) - ROWS_BEFORE)[None, :] * detector.pixel
    cosine = circle.source_detector / np.sqrt(circle.source_detector**2 + u**2 + v**2)
    length = scipy.fft.next_fast_len(2 * detector.columns, real=True)
    response = _ramp(length, at_axis, hann_cut) * (np.pi / circle.views)
    weighted = line_integrals * cosine.astype(np.float32)
    spectrum = scipy.fft.rfft(weighted, n=length, axis=1, overwrite_x=True)
    spectrum *= response.astype(np.float32)[None, :, None]
    filtered = scipy.fft.irfft(spectrum, n=length, axis=1, overwrite_x=True)
    return np.ascontiguousarray(filtered[:, : detector.columns], dtype=np.float32)


def _ramp(length: int, step: float, hann_cut: float) -> FloatArray:
    """Response of the band-limited ramp (Kak and Slaney, 1988, eq. 3.61) times the sampling step, with its window."""
    kernel = np.zeros(length)
    kernel[0] = 0.25 / step
    odd = np.arange(1, length // 2 + 1, 2)
    kernel[odd] = kernel[-odd] = -1.0 / (np.pi**2 * odd**2 * step)
    ramp = scipy.fft.rfft(kernel).real
    frequency = np.arange(ramp.size) / (length / 2.0)
    window = np.where(frequency < hann_cut, 0.5 * (1.0 + np.cos(np.pi * frequency / hann_cut)), 0.0)
    response: FloatArray = np.asarray(ramp * window, dtype=np.float32)
    return response


@_compiled
def _project(
    along_x: Any,
    along_z: Any,
    touched_x: Any,
    touched_z: Any,
    spacing: Any,
    starts: Any,
    directions: Any,
    source_axis: Any,
    source_detector: Any,
    pixel: Any,
    paths: Any,
) -> None:  # pragma: no cover - runs compiled
    fields, views, columns, rows = paths.shape
    lengths = along_x.shape[3]
    for task in numba.prange(views * columns):
        view, column = task // columns, task % columns
        dx, dz = directions[view, 0], directions[view, 1]
        u = (column - np.float32((columns - 1) / 2.0)) * pixel
        # In the plane of the circle: the source, and the way from it to the detector's column.
        source_x, source_z = source_axis * dx, source_axis * dz
        way_x = -source_detector * dx + u * dz
        way_z = -source_detector * dz - u * dx
        if abs(way_z) >= abs(way_x):
            planes, volume, lines = along_z.shape[1], along_z, touched_z
            first, step, source, way = starts[2], spacing[2], source_z, way_z
            other_first, other_step, other_source, other_way = starts[0], spacing[0], source_x, way_x
        else:
            planes, volume, lines = along_x.shape[1], along_x, touched_x
            first, step, source, way = starts[0], spacing[0], source_x, way_x
            other_first, other_step, other_source, other_way = starts[2], spacing[2], source_z, way_z
        count = volume.shape[2]
        line = np.empty(lengths, dtype=np.float32)
        for plane in range(1, planes - 1):
            share = (first + (plane - 1) * step - source) / way
            position = (other_source + share * other_way - other_first) / other_step + 1.0
            if position < 0.0 or position >= count - 1:
                continue
            index = int(position)
            if not lines[plane, index]:
                continue
            weight = np.float32(position - index)
            # Row r of the column passes y = share * (r - ROWS_BEFORE) * pixel.
            slope = np.float32(share * pixel / spacing[1])
            base = np.float32(1.0 - starts[1] / spacing[1] - ROWS_BEFORE * slope)
            begin = max(0, int(np.ceil(-base / slope)))
            end = min(rows, int(np.floor((lengths - np.float32(1.001) - base) / slope)) + 1)
            for field in range(fields):
                near, far = volume[field, plane, index], volume[field, plane, index + 1]
                for y in range(lengths):
                    line[y] = near[y] + weight * (far[y] - near[y])
                path = paths[field, view, column]
                for row in range(begin, end):
                    at = base + slope * np.float32(row)
                    below = np.int32(at)
                    path[row] += line[below] + (at - np.float32(below)) * (line[below + 1] - line[below])
        across = np.sqrt(way_x * way_x + way_z * way_z)
        for row in range(rows):
            v = (row - np.float32(ROWS_BEFORE)) * pixel
            stride = step * np.sqrt(across * across + v * v) / abs(way)
            for field in range(fields):
                paths[field, view, column, row] *= stride


@_compiled
def _back_project(
    filtered: Any,
    spacing: Any,
    starts: Any,
    directions: Any,
    source_axis: Any,
    source_detector: Any,
    pixel: Any,
    volume: Any,
) -> None:  # pragma: no cover - runs compiled
    views, columns, rows = filtered.shape
    width, depth, height = volume.shape
    for block in numba.prange((width + COLUMNS_TOGETHER - 1) // COLUMNS_TOGETHER):
        line = np.empty(rows, dtype=np.float32)
        for view in range(views):
            dx, dz = directions[view, 0], directions[view, 1]
            for column in range(block * COLUMNS_TOGETHER, min(width, (block + 1) * COLUMNS_TOGETHER)):
                x = starts[0] + column * spacing[0]
                for slab in range(depth):
                    z = starts[2] + slab * spacing[2]
                    nearer = source_axis - (x * dx + z * dz)
                    magnification = source_detector / nearer
                    position = (x * dz - z * dx) * magnification / pixel + np.float32((columns - 1) / 2.0)
                    if position < 0.0 or position >= columns - 1:
                        continue
                    index = int(position)
                    weight = np.float32(position - index)
                    closeness = np.float32((source_axis / nearer) ** 2)
                    slope = np.float32(spacing[1] * magnification / pixel)
                    base = np.float32(starts[1] * magnification / pixel + ROWS_BEFORE)
                    begin = max(0, int(np.ceil(-base / slope)))
                    end = min(height, int(np.floor((rows - np.float32(1.001) - base) / slope)) + 1)
                    near, far = filtered[view, index], filtered[view, index + 1]
                    first, last = int(base + slope * begin), min(rows, int(base + slope * end) + 2)
                    for row in range(first, last):
                        line[row] = closeness * (near[row] + weight * (far[row] - near[row]))
                    target = volume[column, slab]
                    for y in range(begin, end):
                        at = base + slope * np.float32(y)
                        below = np.int32(at)
                        target[y] += line[below] + (at - np.float32(below)) * (line[below + 1] - line[below])
