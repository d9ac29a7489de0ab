"""Tilted and slightly uneven stacks of slices, resampled onto an orthogonal grid, and label maps put back.

All slices of a stack are parallel. What is wrong is where they lie: shifted against each other within
their plane (a tilted gantry) or at uneven distances. So slices of the regular grid are parallel to the
stored ones, and a voxel is interpolated linearly within a slice and, only where the distances are
uneven, between two slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GeometryError
from ..sources import DicomSeries, ImageSource, position_limit
from .discover import complete_series
from .geometry import NO_AFFINE_HINT, SHEAR_TOLERANCE_DEGREES
from .image_files import read_image_header
from .rescale import AIR_HU

_EVEN_TOLERANCE = 1e-3
"""Slices nearer to a slice of the regular grid than this part of the spacing are taken for it."""

_SHOWN_MM, _SHOWN_DEGREES = 0.001, 0.01
"""What is less than the last digit of a message is left out of it."""

_SHIFT_TOLERANCE = 1e-3
"""In-plane shifts below this part of a pixel change nothing that can be seen."""


@dataclass(frozen=True, eq=False)
class Regularization:
    """The way from the slices of a source to an orthogonal grid, and back.

    Parameters
    ----------
    source_shape, shape : tuple of int
        Columns, rows, slices of the source and of the orthogonal grid.
    affine : ndarray of float64, shape (4, 4)
        Voxel index of the orthogonal grid to RAS+ mm.
    heights : ndarray of float64, shape (slices of the source,)
        Where each source slice lies, in slices of the orthogonal grid.
    shifts : ndarray of float64, shape (slices of the source, 2)
        Where column 0 and row 0 of each source slice lie, in columns and rows of the orthogonal grid.
    shear_degrees : float
        Angle that is straightened.
    """

    source_shape: tuple[int, int, int]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    heights: NDArray[np.float64]
    shifts: NDArray[np.float64]
    shear_degrees: float

    def to_regular(self, voxels: NDArray[Any]) -> NDArray[np.float32]:
        """Resample a volume; voxels outside the source become air.

        Parameters
        ----------
        voxels : ndarray, shape `source_shape`
            Hounsfield units.

        Returns
        -------
        ndarray of float32, shape `shape`
        """
        self._check_shape(voxels, self.source_shape)
        out: NDArray[np.float32] = np.empty(self.shape[::-1], np.float32).T
        for index in range(self.shape[2]):
            below, weight = self._neighbour(float(index))
            plane = self._spread(voxels[:, :, below], below)
            if weight:
                plane = (1 - weight) * plane + weight * self._spread(voxels[:, :, below + 1], below + 1)
            out[:, :, index] = plane
        return out

    def to_source_slices(self, label_map: NDArray[Any]) -> NDArray[Any]:
        """Put a label map on the orthogonal grid back on the source's slices.

        Each label is interpolated linearly, and the one with most weight wins, so edges stay smooth.

        Parameters
        ----------
        label_map : ndarray of integers, shape `shape`

        Returns
        -------
        ndarray of the same type, shape `source_shape`
        """
        self._check_shape(label_map, self.shape)
        out: NDArray[Any] = np.zeros(self.source_shape[::-1], label_map.dtype).T
        for index, height in enumerate(self.heights):
            low = int(np.clip(np.floor(height), 0, self.shape[2] - 1))
            high, weight = min(low + 1, self.shape[2] - 1), float(np.clip(height - low, 0, 1))
            values = np.union1d(np.unique(label_map[:, :, low]), np.unique(label_map[:, :, high]))
            best = np.zeros(self.source_shape[:2], np.float32)
            for value in values:
                mask = (1 - weight) * (label_map[:, :, low] == value) + weight * (label_map[:, :, high] == value)
                votes = self._gather(mask.astype(np.float32), index)
                wins = votes > best
                out[:, :, index][wins] = value
                best = np.maximum(best, votes)
        return out

    @property
    def uneven_mm(self) -> float:
        """How far the slice that lies worst is from its place in a straight, even stack, mm."""
        offsets = self._offsets()
        even = np.linspace(offsets[0], offsets[-1], len(offsets))
        return float(np.linalg.norm(offsets - even, axis=1).max())

    @property
    def returns_to_slices(self) -> bool:
        """Whether the source's slices lie near enough to a straight, even stack for a label map to be put back on them.

        A leaning stack has a grid of its own, a sheared one. Uneven slices have none: on the even one of their affine
        they would be displaced, and a label map with them, which therefore stays on the orthogonal grid.
        """
        offsets = self._offsets()
        columns_mm, rows_mm, _ = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        slices_mm = float(np.linalg.norm(offsets[-1] - offsets[0])) / (len(offsets) - 1)
        return self.uneven_mm <= position_limit((columns_mm, rows_mm, slices_mm))

    def describe(self) -> str:
        """What was found and done, for the report."""
        found, uneven = [], self.uneven_mm
        if uneven >= _SHOWN_MM:
            found.append(f"uneven slices, up to {uneven:.3f} mm off an even stack")
        if self.shear_degrees >= _SHOWN_DEGREES:
            found.append(f"stack leaning by {self.shear_degrees:.2f} degrees")
        end = (
            "the label map was put back on the original slices"
            if self.returns_to_slices
            else "the label map and all measurements are on that grid, not on the original slices"
        )
        reason = f" ({'; '.join(found)})" if found else ""
        return f"The slices were resampled onto an orthogonal grid{reason}; {end}."

    def _offsets(self) -> NDArray[np.float64]:
        """Where each slice lies, in mm along columns, rows and slices of the orthogonal grid."""
        spacing = np.linalg.norm(self.affine[:3, :3], axis=0)
        return np.asarray(np.column_stack([self.shifts, self.heights]) * spacing)

    def _check_shape(self, voxels: NDArray[Any], expected: tuple[int, int, int]) -> None:
        if voxels.shape != expected:
            raise GeometryError(
                f"array of shape {voxels.shape}, expected {expected}.", hint="Give one on this grid.", reason="shape"
            )

    def _neighbour(self, height: float) -> tuple[int, float]:
        """The source slice at or below a slice of the regular grid, and the weight of the next one."""
        last = len(self.heights) - 1
        below = int(np.clip(np.searchsorted(self.heights, height, side="right") - 1, 0, last))
        nearest = min((below, min(below + 1, last)), key=lambda index: abs(self.heights[index] - height))
        if abs(self.heights[nearest] - height) < _EVEN_TOLERANCE or below == last:
            return nearest, 0.0
        gap = self.heights[below + 1] - self.heights[below]
        return below, float(np.clip((height - self.heights[below]) / gap, 0, 1))

    def _spread(self, plane: NDArray[Any], index: int) -> NDArray[np.float32]:
        """Place a source slice on a slice of the regular grid."""
        x, y, fx, fy = self._whole_and_part(index)
        out = np.zeros(self.shape[:2], np.float32)
        above_air = plane.astype(np.float32) - AIR_HU
        columns, rows = plane.shape
        for dx, wx in ((0, 1 - fx), (1, fx)):
            for dy, wy in ((0, 1 - fy), (1, fy)):
                if wx * wy > 0:
                    out[x + dx : x + dx + columns, y + dy : y + dy + rows] += np.float32(wx * wy) * above_air
        return np.asarray(out + np.float32(AIR_HU))

    def _gather(self, plane: NDArray[np.float32], index: int) -> NDArray[np.float32]:
        """Read a source slice from a slice of the regular grid."""
        x, y, fx, fy = self._whole_and_part(index)
        columns, rows, _ = self.source_shape
        out = np.zeros((columns, rows), np.float32)
        for dx, wx in ((0, 1 - fx), (1, fx)):
            for dy, wy in ((0, 1 - fy), (1, fy)):
                if wx * wy > 0:
                    out += np.float32(wx * wy) * plane[x + dx : x + dx + columns, y + dy : y + dy + rows]
        return out

    def _whole_and_part(self, index: int) -> tuple[int, int, float, float]:
        whole = np.floor(self.shifts[index] + _SHIFT_TOLERANCE)
        part = np.clip(self.shifts[index] - whole, 0, 1)
        part[part < _SHIFT_TOLERANCE] = 0.0
        return int(whole[0]), int(whole[1]), float(part[0]), float(part[1])


def plan_regularization(source: ImageSource) -> Regularization | None:
    """How a source would be resampled onto an orthogonal grid; from headers alone.

    Parameters
    ----------
    source : ImageSource
        One that `load_volume` takes with ``regularize=True``.

    Returns
    -------
    Regularization or None
        None if the source is regular and nothing is resampled.

    Raises
    ------
    GeometryError
        If the source has no grid at all.
    """
    if not isinstance(source, DicomSeries):
        header = read_image_header(source.path, allow_shear=True)
        steps = np.arange(header.shape[2])[:, None] * header.affine[:3, 2]
        regularization = _plan(header.affine, header.shape, steps)
        return regularization if regularization.shear_degrees > SHEAR_TOLERANCE_DEGREES else None
    series = complete_series(source)
    if series.affine is None or series.shape is None:
        raise series.problem or GeometryError(
            f"Series {series.series_uid}: no affine.", hint=NO_AFFINE_HINT, reason="no-position"
        )
    if not isinstance(series.problem, GeometryError):  # none, or one of the pixels, as a missing rescale
        return None
    positions = np.array([item.position for item in series.slices], np.float64) * (-1.0, -1.0, 1.0)  # LPS to RAS
    return _plan(np.array(series.affine), series.shape, positions - positions[0])


def _plan(affine: NDArray[np.float64], shape: tuple[int, int, int], steps: NDArray[np.float64]) -> Regularization:
    """Plan from the first slice's axes and the offset of each slice from the first, RAS mm."""
    spacing = np.linalg.norm(affine[:3, :2], axis=0)
    column, row = (affine[:3, :2] / spacing).T
    # Perpendicular within the plane too; a DICOM plane is, within its tolerance.
    row = row - (row @ column) * column
    row /= np.linalg.norm(row)
    normal = np.cross(column, row)
    along = steps @ normal
    normal, along = (normal, along) if along[-1] >= 0 else (-normal, -along)
    thickness = float(along[-1] / (len(along) - 1))
    shifts = np.stack([steps @ column / spacing[0], steps @ row / spacing[1]], axis=1)
    first = np.floor(shifts.min(axis=0) + _SHIFT_TOLERANCE)
    shifts = shifts - first
    extra = np.ceil(shifts.max(axis=0) - _SHIFT_TOLERANCE).astype(int)
    regular = np.eye(4)
    regular[:3, 0], regular[:3, 1], regular[:3, 2] = column * spacing[0], row * spacing[1], normal * thickness
    regular[:3, 3] = affine[:3, 3] + regular[:3, :2] @ first
    mean = steps[-1] / (len(steps) - 1)
    return Regularization(
        source_shape=shape,
        shape=(shape[0] + int(extra[0]), shape[1] + int(extra[1]), shape[2]),
        affine=regular,
        heights=along / thickness,
        shifts=shifts,
        shear_degrees=float(np.degrees(np.arctan2(np.linalg.norm(mean - (mean @ normal) * normal), thickness))),
    )
