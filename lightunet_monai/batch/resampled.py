"""Which grid the result of a resampled series lies on, and how that is said.

A leaning stack has a grid of its own, a sheared one, to which its label map returns. Uneven slices have none: on the
even one of their affine they would be displaced, and the result with them. So it stays on the grid it was made on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..inputs import Regularization, Volume, plan_regularization, read_hu
from ..outputs.slice_grid import position_limit
from ..sources import ImageSource

_SHOWN_MM, _SHOWN_DEGREES = 0.001, 0.01
"""What is less than the last digit of a message is left out of it."""


def returns_to_slices(regularization: Regularization) -> bool:
    """Whether the slices lie near enough to a straight, even stack for a label map to be put back on them."""
    offsets = _offsets(regularization)
    columns_mm, rows_mm, _ = np.linalg.norm(regularization.affine[:3, :3], axis=0).tolist()
    slices_mm = float(np.linalg.norm(offsets[-1] - offsets[0])) / (len(offsets) - 1)
    return uneven_by(regularization) <= position_limit((columns_mm, rows_mm, slices_mm))


def read_on_result_grid(source: ImageSource, *, assume_hu: bool = False) -> Volume:
    """Read a source on the grid that label maps of it lie on: its own slices, or the grid that uneven ones were put on.

    Raises
    ------
    InputError
        As `read_hu` with ``allow_shear=True``.
    """
    volume = read_hu(source, dtype="float32", assume_hu=assume_hu, allow_shear=True)
    regularization = plan_regularization(source)
    if regularization is None or returns_to_slices(regularization):
        return volume
    warnings = (*volume.warnings, describe_resampling(regularization))
    return Volume(regularization.to_regular(volume.voxels), regularization.affine, warnings)


def uneven_by(regularization: Regularization) -> float:
    """How far the slice that lies worst is from its place in a straight, even stack, mm."""
    offsets = _offsets(regularization)
    even = np.linspace(offsets[0], offsets[-1], len(offsets))
    return float(np.linalg.norm(offsets - even, axis=1).max())


def describe_resampling(regularization: Regularization) -> str:
    """What was found and done, for the report."""
    found, uneven, shear = [], uneven_by(regularization), regularization.shear_degrees
    if uneven >= _SHOWN_MM:
        found.append(f"uneven slices, up to {uneven:.3f} mm off an even stack")
    if shear >= _SHOWN_DEGREES:
        found.append(f"stack leaning by {shear:.2f} degrees")
    end = (
        "the label map was put back on the original slices"
        if returns_to_slices(regularization)
        else "the label map and all measurements are on that grid, not on the original slices"
    )
    reason = f" ({'; '.join(found)})" if found else ""
    return f"The slices were resampled onto an orthogonal grid{reason}; {end}."


def _offsets(regularization: Regularization) -> NDArray[np.float64]:
    """Where each slice lies, in mm along columns, rows and slices of the orthogonal grid."""
    spacing = np.linalg.norm(regularization.affine[:3, :3], axis=0)
    return np.asarray(np.column_stack([regularization.shifts, regularization.heights]) * spacing)
