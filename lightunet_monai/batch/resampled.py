"""A source on the grid that its label maps lie on, also where it was resampled."""

from __future__ import annotations

from ..inputs import Volume, plan_regularization, read_hu
from ..sources import ImageSource


def read_on_result_grid(source: ImageSource, *, assume_hu: bool = False) -> Volume:
    """Read a source on the grid that label maps of it lie on: its own slices, or the grid that uneven ones were put on.

    Raises
    ------
    InputError
        As `read_hu` with ``allow_shear=True``.
    """
    volume = read_hu(source, dtype="float32", assume_hu=assume_hu, allow_shear=True)
    regularization = plan_regularization(source)
    if regularization is None or regularization.returns_to_slices:
        return volume
    warnings = (*volume.warnings, regularization.describe())
    return Volume(regularization.to_regular(volume.voxels), regularization.affine, warnings)
