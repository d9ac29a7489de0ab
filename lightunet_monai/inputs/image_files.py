"""Volumes in one file: NIfTI by nibabel, NRRD and MetaImage by SimpleITK.

Each format can leave out its geometry or contradict itself, and the libraries then fill in identity
without a word. So the geometry is taken from what the header really says, or the file is refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadableFileError, UnsupportedImageError
from .image_header import ImageFileHeader, ReadVoxels, check_affine
from .itk_files import open_with_simpleitk
from .nifti_files import open_nifti


def read_image_header(path: Path, *, allow_shear: bool = False) -> ImageFileHeader:
    """Read shape and affine of a NIfTI, NRRD or MetaImage file, and check them.

    Raises
    ------
    GeometryError
        If the file has no geometry, contradicts itself, or has an implausible spacing or extent.
    UnsupportedImageError
        If it is not one 3-D volume of one number a voxel.
    UnreadableFileError
        If it is damaged or truncated.
    """
    header, _ = _open(path)
    check_affine(header.affine, str(path), shape=header.shape, allow_shear=allow_shear)
    return header


def read_image_file(path: Path, *, allow_shear: bool = False) -> tuple[NDArray[np.float32], ImageFileHeader]:
    """Read a NIfTI, NRRD or MetaImage file.

    Returns
    -------
    ndarray of float32, shape (X, Y, Z)
    ImageFileHeader

    Raises
    ------
    GeometryError, UnsupportedImageError, UnreadableFileError
        As `read_image_header`; also if voxels are no numbers.
    """
    header, read_voxels = _open(path)
    check_affine(header.affine, str(path), shape=header.shape, allow_shear=allow_shear)
    voxels = read_voxels()
    if not np.isfinite(voxels.sum(dtype=np.float64)):
        count = int(voxels.size - np.count_nonzero(np.isfinite(voxels)))
        raise UnsupportedImageError(
            f"{path}: {count} of {voxels.size} voxels are no finite numbers, expected Hounsfield units everywhere.",
            hint="Replace them, for example by -1024, when the volume is made.",
            reason="not-a-number",
        )
    return voxels, header


def _open(path: Path) -> tuple[ImageFileHeader, ReadVoxels]:
    if not path.is_file():
        raise UnreadableFileError(f"{path}: is no file.", hint="Check the path.")
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return open_nifti(path)
    return open_with_simpleitk(path)
