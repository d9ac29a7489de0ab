"""Which decoder reads a 2-D image, and what its pixels must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import NoImageFoundError, UnreadableFileError, UnsupportedImageError
from .dicom_file import is_dicom
from .files import has_image_suffix
from .image2d_dicom import read_dicom2d
from .image2d_files import read_picture
from .image2d_pixels import Plane2D, is_image2d

_CT_HINT = "For a CT study leave out --model ultrasound."


def read_image2d(path: Path, *, apply_voi: bool = False) -> Plane2D:
    """Read one 2-D image of any kind, without torch.

    Raises
    ------
    InputError
        As `load_image2d`.
    """
    try:
        is_there, is_folder = path.exists(), path.is_dir()
    except OSError as error:  # a name that is too long
        raise NoImageFoundError(f"{path}: cannot be opened: {error.strerror}.", hint="Check the path.") from error
    if not is_there:
        raise NoImageFoundError(f"{path}: no such file.", hint="Check the path.")
    if is_folder:
        raise UnsupportedImageError(f"{path}: a folder, expected one 2-D image file.", hint=_CT_HINT, reason="folder")
    if not path.is_file():
        raise UnsupportedImageError(f"{path}: no regular file.", hint="Save the image as a file.", reason="format")
    if has_image_suffix(path):
        raise UnsupportedImageError(f"{path}: a volume, expected a 2-D image.", hint=_CT_HINT, reason="volume")
    if is_dicom(path):
        return _checked(read_dicom2d(path, apply_voi=apply_voi), path)
    if not is_image2d(path):
        raise UnsupportedImageError(
            f"{path}: neither PNG, JPEG, TIFF nor DICOM.", hint="Save the image as PNG.", reason="format"
        )
    return _checked(read_picture(path), path)


def _checked(plane: Plane2D, path: Path) -> Plane2D:
    pixels = plane.pixels
    if not np.isfinite(pixels).all():
        raise UnreadableFileError(f"{path}: some pixels are no finite numbers.", hint="Save the image again.")
    return plane
