"""Whether the slices of a series lie on the planes of a label map, so that DICOM results can place them there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightunet_monai.errors import OutputError
from lightunet_monai.sources import DicomSeries, position_limit

_ROUNDING_MM = 1e-6
"""Of the arithmetic; positions are nowhere written more exactly."""


def check_slices(series: DicomSeries, affine: NDArray[np.float64], planes: int) -> None:
    """Check that each slice of a series lies on its plane of a grid.

    Parameters
    ----------
    series : DicomSeries
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ mm.
    planes : int
        Number of planes ``[:, :, k]``.

    Raises
    ------
    OutputError
        If there are more or fewer slices, one has no position, or lies elsewhere.
    """
    if len(series.slices) != planes:
        raise _not_on_grid(series, f"found {len(series.slices)} slices, expected {planes} as in the label map")
    limit = position_limit(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    for index, item in enumerate(series.slices):
        if item.position is None:
            raise OutputError(
                f"{item}: has no position, which a DICOM result needs.",
                hint="Use nifti, nrrd or segnrrd.",
                reason="no-position",
            )
        expected = np.diag([-1.0, -1.0, 1.0]) @ (affine[:3, :3] @ (0, 0, index) + affine[:3, 3])
        deviation = float(np.linalg.norm(expected - item.position))
        if deviation > limit + _ROUNDING_MM:
            raise _not_on_grid(
                series, f"{item} lies {deviation:.3f} mm from plane {index} of the label map, allowed {limit:.3f} mm"
            )


def _not_on_grid(series: DicomSeries, what: str) -> OutputError:
    return OutputError(
        f"series {series.series_uid}: {what}.",
        hint="DICOM results need a label map on the slices of the series; use nifti, nrrd or segnrrd.",
        reason="other-grid",
    )
