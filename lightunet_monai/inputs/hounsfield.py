"""An image source as Hounsfield units in a NumPy array, without torch and without a second copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import GeometryError, InputError, UnsupportedImageError
from ..sources import DicomSeries, ImageSource
from .discover import complete_series
from .geometry import MENDABLE, NO_AFFINE_HINT
from .image_files import read_image_file
from .pixels import check_one_size, check_storage, may_need_float, pixel_warnings, read_planes_hu
from .rescale import ValuesExceedInt16Error

VoxelType = Literal["int16", "float32"]


@dataclass(frozen=True)
class Volume:
    """Intensities on a grid.

    Parameters
    ----------
    voxels : ndarray of int16 or float32, shape (X, Y, Z)
        Hounsfield units; axes are columns, rows, slices. From DICOM, a transposed view of (Z, Y, X) memory.
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ mm.
    warnings : tuple of str
        What was tolerated.
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    warnings: tuple[str, ...] = ()


def read_hu(
    source: ImageSource, *, dtype: VoxelType | None = None, assume_hu: bool = False, allow_shear: bool = False
) -> Volume:
    """Read a source as Hounsfield units.

    Parameters
    ----------
    source : ImageSource
        From `discover_sources`, or made from paths.
    dtype : "int16", "float32" or None
        None takes int16 where it holds every value exactly, else float32. NIfTI, NRRD and MetaImage files
        always give float32.
    assume_hu : bool
        Take stored values as Hounsfield units where a DICOM header has no rescale.
    allow_shear : bool
        Return a tilted or slightly uneven stack as it is stored, with its sheared affine.

    Returns
    -------
    Volume

    Raises
    ------
    GeometryError
        If the slices do not form one regular volume.
    UnsupportedImageError
        If it is no CT volume, or int16 was asked for and cannot hold the values.
    UnreadableFileError
        If a file is damaged; names it.
    """
    check_source(source, assume_hu=assume_hu, allow_shear=allow_shear)
    if not isinstance(source, DicomSeries):
        voxels, header = read_image_file(source.path, allow_shear=allow_shear)
        return Volume(voxels, header.affine, header.warnings)
    series = complete_series(source)
    check_source(series, assume_hu=assume_hu, allow_shear=allow_shear)
    if series.affine is None:
        raise GeometryError(f"Series {series.series_uid}: no affine.", hint=NO_AFFINE_HINT, reason="no-position")
    voxels = _read_series(series, dtype, assume_hu)
    warnings = series.warnings + pixel_warnings(series.slices, f"Series {series.series_uid}", assume_hu=assume_hu)
    return Volume(voxels, np.array(series.affine), warnings)


def check_source(source: ImageSource, *, assume_hu: bool = False, allow_shear: bool = False) -> None:
    """Raise the problem that discovery found in a source, unless an option takes care of it."""
    problem = remaining_problem(source, assume_hu=assume_hu, allow_shear=allow_shear)
    if problem is None:
        return
    # A fresh copy: an exception that is kept would keep every traceback it was raised with.
    copy: InputError = type(problem)(problem.message, hint=problem.hint, reason=problem.reason)
    raise copy


def remaining_problem(source: ImageSource, *, assume_hu: bool = False, allow_shear: bool = False) -> InputError | None:
    """The problem that discovery found in a source, unless there is none or an option takes care of it."""
    problem = source.problem if isinstance(source, DicomSeries) else None
    if problem is None or (assume_hu and problem.reason == "no-rescale"):
        return None
    return None if allow_shear and problem.reason in MENDABLE else problem


def _read_series(series: DicomSeries, dtype: VoxelType | None, assume_hu: bool) -> NDArray[Any]:
    """Voxels of shape (X, Y, Z), a view of (Z, Y, X) memory as the slices are stored."""
    check_storage(series.slices, assume_hu=assume_hu)
    rows, columns = check_one_size(series.slices, f"Series {series.series_uid}")
    shape = (len(series.slices), rows, columns)
    if dtype != "float32" and not may_need_float(series.slices):
        try:
            out = np.empty(shape, np.int16)
            read_planes_hu(series.slices, out)
            return np.asarray(out.T)
        except ValuesExceedInt16Error:
            del out
    if dtype == "int16":
        raise UnsupportedImageError(
            f"Series {series.series_uid}: Hounsfield units that int16 cannot hold, expected whole numbers "
            "from -32768 to 32767.",
            hint="Read it as float32.",
            reason="not-int16",
        )
    floats = np.empty(shape, np.float32)
    read_planes_hu(series.slices, floats)
    return np.asarray(floats.T)
