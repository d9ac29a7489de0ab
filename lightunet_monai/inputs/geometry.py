"""From slice positions to one affine: order, spacing, orientation, and the checks that guard them.

Only Image Position and Orientation (Patient) and Pixel Spacing count. Instance numbers, Slice Location,
Slice Thickness and Spacing Between Slices are never used: real series get each of them wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import GeometryError
from ..sources import Affine
from .planes import Plane

ORIENTATION_TOLERANCE = 1e-4
"""Largest difference between direction cosines of one volume: decimal strings differ by about 1e-5."""

DIRECTION_TOLERANCE = 1e-3
"""Largest departure of the cosines from unit length and right angle; some writers round to three digits."""

PIXEL_SPACING_TOLERANCE = 1e-4
"""Largest relative difference of pixel spacing within one volume: a tenth of a pixel over 1000 pixels."""

POSITION_TOLERANCE_MM = 0.01
"""Slices nearer than this lie at one position, and a slice may be this far off its place."""

SPACING_TOLERANCE = 0.01
"""How far a gap may differ from the slice spacing, relative to it: rounded positions reach some 0.5 %."""

SHEAR_TOLERANCE_DEGREES = 0.1
"""Angle between the stacking direction and the slice normal; below it a 300 mm stack drifts by half a millimetre."""

MIN_SPACING_MM, MAX_SPACING_MM = 0.01, 20.0
"""Spacing outside this range is a unit mistake or no tomography."""

MAX_EXTENT_MM = 2500.0
"""Of a volume along an axis; a CT of the whole body is 2 m long."""

MAX_CUBIC_METRES = 1.5
"""Of a whole volume: 2 m of a field of view of 0.78 m are 1.2."""

IRREGULAR_LIMIT = 0.25
"""Largest departure of a slice from its place, in slice spacings, that resampling (``regularize``) may mend."""


@dataclass(frozen=True)
class Grid:
    """Where the slices of one volume lie.

    Parameters
    ----------
    order : tuple of int
        Indices of the given planes in slice order: increasing distance along the slice normal.
    shape : tuple of int
        Columns, rows, slices.
    affine : ndarray of float64, shape (4, 4)
        Voxel index (column, row, slice) to RAS+ mm. The third column is the true stacking vector, so a
        tilted gantry gives a sheared affine.
    slice_positions : ndarray of float64, shape (slices,)
        Distance of each slice along the slice normal, mm, in slice order.
    shear_degrees : float
        Angle between the stacking vector and the slice normal.
    largest_error_mm : float
        How far the worst slice lies from the place that the affine gives it.
    problem : GeometryError or None
        Why the slices are no regular volume, although they have order and spacing: shear or irregular spacing.
    """

    order: tuple[int, ...]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    slice_positions: NDArray[np.float64]
    shear_degrees: float
    largest_error_mm: float
    problem: GeometryError | None = None

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along columns, rows, slices, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def make_grid(planes: Sequence[Plane], rows: int, columns: int, *, what: str) -> Grid:
    """Order the planes of one volume and check that they fill a regular grid.

    Parameters
    ----------
    planes : sequence of Plane
        All of one size.
    rows, columns : int
        Size of each plane.
    what : str
        Begins every message, for example ``"Series 1.2.3"``.

    Returns
    -------
    Grid
        With ``problem`` set where resampling could mend the grid.

    Raises
    ------
    GeometryError
        If the planes have no position, lie at one position, differ in orientation or pixel spacing,
        leave a gap, or make a volume larger than any of a patient.
    """
    check_planes_have_geometry(planes, what)
    orientation = _common_orientation(planes, what)
    pixel_spacing = _common_pixel_spacing(planes, what)
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    row, column = orientation
    normal = np.cross(row, column)
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    positions, along = positions[order], along[order]
    _check_slice_count(len(planes), what)
    _check_gaps(along, what)
    _check_distinct(along, what)
    step = (positions[-1] - positions[0]) / (len(planes) - 1)
    spacing = float(step @ normal)
    shear = float(np.degrees(np.arctan2(np.linalg.norm(step - spacing * normal), spacing)))
    _check_spacing_range((*pixel_spacing[::-1], spacing), what)
    check_extent((columns, rows, len(planes)), (*pixel_spacing[::-1], float(np.linalg.norm(step))), what)
    errors = np.linalg.norm(positions - positions[0] - np.outer(np.arange(len(along)), step), axis=1)
    affine = _affine(row * pixel_spacing[1], column * pixel_spacing[0], step, positions[0])
    return Grid(
        order=tuple(order.tolist()),
        shape=(columns, rows, len(planes)),
        affine=affine,
        slice_positions=along,
        shear_degrees=shear,
        largest_error_mm=float(errors.max()),
        problem=_regularity_problem(along, errors, spacing, shear, what),
    )


def check_planes_have_geometry(planes: Sequence[Plane], what: str) -> None:
    """Raise GeometryError unless every plane has a position, an orientation and a pixel spacing."""
    for name, values in (
        ("Image Position (Patient)", [plane.position for plane in planes]),
        ("Image Orientation (Patient)", [plane.orientation for plane in planes]),
        ("Pixel Spacing", [plane.pixel_spacing for plane in planes]),
    ):
        missing = sum(value is None for value in values)
        if missing:
            raise GeometryError(
                f"{what}: no {name} in {missing} of {len(planes)} slices, expected it in all.",
                hint="Export the original images; their geometry is not guessed.",
                reason="no-position" if "Spacing" not in name else "no-spacing",
            )


def check_extent(shape: Sequence[int], spacing: Sequence[float], what: str) -> None:
    """Refuse a volume that is larger than any of a patient: on the model's grid it would ask for all memory.

    Parameters
    ----------
    shape : sequence of int
        Voxels along three axes.
    spacing : sequence of float
        Distance between voxel centres along them, mm.
    what : str
        Begins the message.

    Raises
    ------
    GeometryError
        If it extends over more than `MAX_EXTENT_MM` along an axis or `MAX_CUBIC_METRES`.
    """
    extent = np.asarray(shape, dtype=np.float64) * np.asarray(spacing, dtype=np.float64)
    cubic_metres = float(np.prod(extent / 1000))
    if extent.max() <= MAX_EXTENT_MM and cubic_metres <= MAX_CUBIC_METRES:
        return
    voxels, steps = " x ".join(map(str, shape)), " x ".join(f"{value:.4g}" for value in spacing)
    found = " x ".join(f"{value:.0f}" for value in extent)
    raise GeometryError(
        f"{what}: {voxels} voxels of {steps} mm extend over {found} mm, {cubic_metres:.2f} cubic metres, "
        f"expected at most {MAX_EXTENT_MM:g} mm along each axis and {MAX_CUBIC_METRES:g} cubic metres.",
        hint="Check the units of the spacing in the header; no volume of a patient is that large.",
        reason="implausible-spacing",
    )


def to_tuple(affine: NDArray[np.float64]) -> Affine:
    """An affine as nested tuples, as value types hold it."""
    return tuple(tuple(float(value) for value in line) for line in affine)  # type: ignore[misc]


def _common_orientation(planes: Sequence[Plane], what: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit row and column cosines of all planes."""
    cosines = np.array([plane.orientation for plane in planes], dtype=np.float64).reshape(-1, 2, 3)
    lengths = np.linalg.norm(cosines, axis=2)
    inner = np.abs((cosines[:, 0] * cosines[:, 1]).sum(axis=1))
    worst = float(max(np.abs(lengths - 1).max(), inner.max()))
    if worst > DIRECTION_TOLERANCE:
        raise GeometryError(
            f"{what}: the direction cosines depart from unit length or right angle by {worst:.4f}, "
            f"expected at most {DIRECTION_TOLERANCE}.",
            hint="The orientation in the header is damaged.",
            reason="orientation",
        )
    spread = float(np.abs(cosines - np.median(cosines, axis=0)).max())
    if spread > ORIENTATION_TOLERANCE:
        normals = np.cross(cosines[:, 0], cosines[:, 1])
        middle = np.median(normals, axis=0)
        angle = float(np.degrees(np.arccos(np.clip(normals @ middle / np.linalg.norm(middle), -1, 1))).max())
        raise GeometryError(
            f"{what}: the slices differ in orientation by up to {angle:.2f} degrees, expected parallel slices.",
            hint="Ask for an export of one reconstruction.",
            reason="mixed-orientation",
        )
    row, column = np.median(cosines, axis=0)
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    return row, column / np.linalg.norm(column)


def _common_pixel_spacing(planes: Sequence[Plane], what: str) -> NDArray[np.float64]:
    """Distance between rows and between columns, mm."""
    spacings = np.array([plane.pixel_spacing for plane in planes], dtype=np.float64)
    low, high = spacings.min(axis=0), spacings.max(axis=0)
    if (low <= 0).any():
        raise GeometryError(
            f"{what}: the pixel spacing is {low.min():g} mm, expected more than 0.",
            hint="Export the original images; their geometry is not guessed.",
            reason="implausible-spacing",
        )
    if (high / low - 1 > PIXEL_SPACING_TOLERANCE).any():
        raise GeometryError(
            f"{what}: the pixel spacing ranges from {low.min():.4f} to {high.max():.4f} mm, expected one value.",
            hint="Ask for an export of one reconstruction.",
            reason="mixed-spacing",
        )
    return np.asarray(np.median(spacings, axis=0))


def _check_slice_count(count: int, what: str) -> None:
    if count < 2:
        raise GeometryError(
            f"{what}: 1 slice, expected at least 2 to make a volume.",
            hint="Give the folder with the whole series.",
            reason="single-slice",
        )


def _check_distinct(along: NDArray[np.float64], what: str) -> None:
    gaps = np.diff(along)
    repeated = int((gaps < POSITION_TOLERANCE_MM).sum())
    if repeated:
        first = along[int(np.argmax(gaps < POSITION_TOLERANCE_MM))]
        most = int(np.diff(np.flatnonzero(np.concatenate(([True], gaps >= POSITION_TOLERANCE_MM, [True])))).max())
        hint = "Nothing in the headers tells the volumes apart; export one acquisition or phase only."
        if repeated == len(along) - 1:  # as Koning's breast CT; no second volume need be there
            hint = "All headers give the same position; ask for an export in which each slice has its own."
        raise GeometryError(
            f"{what}: up to {most} different images at one slice position, first at {first:.2f} mm, expected 1 "
            f"({len(along)} images at {len(along) - repeated} positions).",
            hint=hint,
            reason="duplicate-positions",
        )


def _check_gaps(along: NDArray[np.float64], what: str) -> None:
    """Refuse missing slices: a gap that is much wider than the usual one cannot be mended."""
    along = along[np.concatenate(([True], np.diff(along) >= POSITION_TOLERANCE_MM))]
    gaps = np.diff(along)
    if not len(gaps):
        return
    usual = float(np.median(gaps)) if len(gaps) > 2 else float(gaps.min())
    wide = np.flatnonzero(gaps > (1 + 2 * IRREGULAR_LIMIT) * usual)
    if not len(wide):
        return
    first = int(wide[0])
    more = f" and {len(wide) - 1} more" if len(wide) > 1 else ""
    raise GeometryError(
        f"{what}: gap of {gaps[first]:.3f} mm between slices {first + 1} and {first + 2}{more}, "
        f"expected {usual:.3f} mm.",
        hint="Slices are missing; ask for a complete export of the series.",
        reason="gap",
    )


def _check_spacing_range(spacing: tuple[float, ...], what: str) -> None:
    if min(spacing) < MIN_SPACING_MM or max(spacing) > MAX_SPACING_MM:
        found = " x ".join(f"{value:g}" for value in spacing)
        raise GeometryError(
            f"{what}: the spacing is {found} mm, expected {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm.",
            hint="The header gives the spacing in another unit, or this is no CT volume.",
            reason="implausible-spacing",
        )


def _regularity_problem(
    along: NDArray[np.float64], errors: NDArray[np.float64], spacing: float, shear: float, what: str
) -> GeometryError | None:
    gaps = np.diff(along)
    uneven = float(np.abs(gaps - spacing).max())
    allowed = max(POSITION_TOLERANCE_MM, SPACING_TOLERANCE * spacing)
    can_mend = "Use --regularize to resample it onto a regular grid."
    if errors.max() > IRREGULAR_LIMIT * max(spacing, 1.0) or uneven > IRREGULAR_LIMIT * spacing:
        return GeometryError(
            f"{what}: slice gaps from {gaps.min():.3f} to {gaps.max():.3f} mm and slices up to {errors.max():.3f} mm "
            f"off a straight stack, expected equal gaps of {spacing:.3f} mm.",
            hint="Ask for a complete export of one reconstruction.",
            reason="irregular-spacing",
        )
    if uneven > allowed or errors.max() > max(allowed, 2 * POSITION_TOLERANCE_MM):
        return GeometryError(
            f"{what}: slice gaps from {gaps.min():.3f} to {gaps.max():.3f} mm and slices up to {errors.max():.3f} mm "
            f"off a straight stack, expected {spacing:.3f} mm within {allowed:.3f} mm.",
            hint=can_mend,
            reason="uneven-spacing",
        )
    if shear > SHEAR_TOLERANCE_DEGREES:
        return GeometryError(
            f"{what}: the stack of slices leans by {shear:.2f} degrees against the slice normal (gantry tilt), "
            f"expected at most {SHEAR_TOLERANCE_DEGREES} degrees.",
            hint=can_mend,
            reason="tilt",
        )
    return None


def _affine(
    column_step: NDArray[np.float64],
    row_step: NDArray[np.float64],
    step: NDArray[np.float64],
    first: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Voxel index to RAS+ from LPS vectors."""
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = column_step, row_step, step, first
    affine[:2] *= -1  # LPS to RAS
    affine[:2, 3] += 0.0  # -0.0 to 0.0
    return np.asarray(affine + 0.0)


MENDABLE = frozenset(("tilt", "uneven-spacing"))
"""Reasons of geometry problems that ``regularize`` mends."""

NO_AFFINE_HINT = "Take one of the series that discover_sources finds."
"""For a series that was made by hand."""
