"""NIfTI files, by nibabel."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from ..errors import GeometryError, UnreadableFileError, UnsupportedImageError
from .image_header import (
    UNIT_HINT,
    VOXEL_TYPE_HINT,
    ImageFileHeader,
    ReadVoxels,
    check_file_size,
    check_shape,
)
from .limits import MAX_INFLATED_EXTRA_BYTES
from .packed import read_to_end

FORMS_TOLERANCE_MM = 0.1
"""How far a corner of the volume may lie apart by qform and by sform: single-precision quaternions reach 0.01 mm."""

_PIXDIM_TOLERANCE = 0.01
_TO_MM = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}
READ_ERRORS = (
    OSError, EOFError, ValueError, OverflowError, zlib.error,
    ImageFileError, HeaderDataError, MemoryError,
)  # fmt: skip
"""What nibabel raises on a damaged file."""


def open_nifti(path: Path) -> tuple[ImageFileHeader, ReadVoxels]:
    """Read the header of a NIfTI file.

    Returns
    -------
    ImageFileHeader
    callable
        Reads the voxels, float32, shape (X, Y, Z), with ``scl_slope`` and ``scl_inter`` applied.

    Raises
    ------
    GeometryError
        If qform and sform are missing or disagree.
    UnsupportedImageError
        If it is not one volume of real numbers.
    UnreadableFileError
        If it is no NIfTI file or truncated.
    """
    try:
        image: Any = nib.load(path)
    except READ_ERRORS as error:
        raise UnreadableFileError(f"{path}: no NIfTI file: {type(error).__name__}.", hint="Check the file.") from None
    if not isinstance(image, (nib.Nifti1Image, nib.Nifti2Image)):
        raise UnreadableFileError(f"{path}: no NIfTI file but {type(image).__name__}.", hint="Convert it to NIfTI.")
    shape = check_shape(tuple(image.shape), path)
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        raise UnsupportedImageError(
            f"{path}: voxels of type {dtype}, expected one real number each.", hint=VOXEL_TYPE_HINT, reason="voxel-type"
        )
    offset = int(image.dataobj.offset)
    header_bytes = image.header.single_vox_offset
    if offset < header_bytes:  # nibabel takes 0 at its word, and the header for voxels
        raise UnreadableFileError(
            f"{path}: the voxels are said to begin at byte {offset}, expected {header_bytes} or more.",
            hint="Write the file again.",
        )
    check_file_size(path, int(np.prod(shape)) * dtype.itemsize, offset, is_packed=_is_packed(path))
    affine, warnings = nifti_affine(image.header, path, shape)
    return ImageFileHeader(shape, affine, warnings), lambda: _read_voxels(image, path, shape)


def _read_voxels(image: Any, path: Path, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    try:
        voxels = read_whole(image, path, _float_voxels)
    except READ_ERRORS as error:
        raise UnreadableFileError(
            f"{path}: damaged or truncated: {type(error).__name__}.", hint="Copy or export the file again."
        ) from None
    return voxels.reshape(shape)


def read_whole(image: Any, path: Path, read: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
    """Read the voxels of an image, of a packed one in one pass with the rest of its stream, where the checksum is.

    Raises
    ------
    READ_ERRORS
        If the file is damaged or truncated.
    """
    if not _is_packed(path):
        return read(image)
    with gzip.open(path) as stream:
        voxels = read(type(image).from_file_map({"image": FileHolder(fileobj=stream)}))
        read_to_end(stream, MAX_INFLATED_EXTRA_BYTES)
    return voxels


def _float_voxels(image: Any) -> NDArray[np.float32]:
    return np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def nifti_affine(header: Any, path: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Give the affine in mm from the coded forms, and warnings; never the fallback that nibabel makes from pixdim.

    Raises
    ------
    GeometryError
        If qform and sform are missing, damaged or disagree with each other or the spacing, or the unit is no length.
    """
    scale, warnings = _scale_to_mm(header, path)
    pixdim = np.asarray(header["pixdim"][1:4], np.float64)
    if int(header["qform_code"]) > 0 and (pixdim <= 0).any():
        found = " x ".join(f"{value:g}" for value in pixdim)
        raise GeometryError(
            f"{path}: the spacing is {found}, expected more than 0.",
            hint="Write the file with its spacing; it is not guessed.",
            reason="implausible-spacing",
        )
    try:
        forms = [
            form for form in (header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]) if form is not None
        ]
    except (ValueError, HeaderDataError, np.linalg.LinAlgError) as error:
        raise GeometryError(
            f"{path}: damaged orientation: {type(error).__name__}.",
            hint="Write the file with its orientation; it is not guessed.",
            reason="affine",
        ) from None
    if not forms:
        raise GeometryError(
            f"{path}: neither qform nor sform is set, expected one of them.",
            hint="Write the file with its orientation; it is not guessed.",
            reason="no-geometry",
        )
    affine = np.asarray(forms[0], np.float64)
    if len(forms) == 2:
        _check_forms_agree(affine, np.asarray(forms[1], np.float64), shape, scale, path)
    _check_pixdim(affine, pixdim, path)
    affine = affine.copy()
    affine[:3] *= scale
    return affine, warnings


def _scale_to_mm(header: Any, path: Path) -> tuple[float, tuple[str, ...]]:
    try:
        unit = header.get_xyzt_units()[0]
    except KeyError:
        unit = "invalid"
    if unit not in _TO_MM:
        raise GeometryError(f"{path}: the unit of length is {unit}, expected mm.", hint=UNIT_HINT, reason="unit")
    warnings = (f"{path}: no unit of length in the header, taken as mm.",) if unit == "unknown" else ()
    return _TO_MM[unit], warnings


def _check_forms_agree(
    sform: NDArray[np.float64], qform: NDArray[np.float64], shape: tuple[int, ...], scale: float, path: Path
) -> None:
    corners = np.array([[x, y, z, 1] for x in (0, shape[0] - 1) for y in (0, shape[1] - 1) for z in (0, shape[2] - 1)])
    apart = float(np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max()) * scale
    if not apart <= FORMS_TOLERANCE_MM:
        raise GeometryError(
            f"{path}: qform and sform put a corner of the volume {apart:.2f} mm apart, "
            f"expected at most {FORMS_TOLERANCE_MM} mm.",
            hint="Write the file with one orientation.",
            reason="forms-disagree",
        )


def _check_pixdim(affine: NDArray[np.float64], pixdim: NDArray[np.float64], path: Path) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.abs(np.abs(pixdim) - spacing) <= _PIXDIM_TOLERANCE * spacing).all():
        found, expected = (" x ".join(f"{value:.4g}" for value in values) for values in (pixdim, spacing))
        raise GeometryError(
            f"{path}: pixdim gives the spacing {found}, the affine {expected}.",
            hint="Write the file with one spacing.",
            reason="spacing-disagrees",
        )
