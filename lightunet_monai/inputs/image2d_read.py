"""Which decoder reads a 2-D image, and what its pixels must be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import NoImageFoundError, UnreadableFileError, UnsupportedImageError
from .dicom_file import is_dicom
from .files import has_image_suffix
from .image2d_dicom import read_dicom2d
from .image2d_files import read_picture
from .image2d_pixels import SIGNATURES, Plane2D, check_contrast, is_image2d

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
        raise UnsupportedImageError(
            f"{path}: a folder, expected one 2-D image file.",
            hint="Give one image of it; for a CT study leave out --model ultrasound.",
            reason="folder",
        )
    if not path.is_file():
        raise UnsupportedImageError(f"{path}: no regular file.", hint="Save the image as a file.", reason="format")
    if has_image_suffix(path):
        raise UnsupportedImageError(f"{path}: a volume, expected a 2-D image.", hint=_CT_HINT, reason="volume")
    head = _first_bytes(path)
    if not head:
        raise UnreadableFileError(f"{path}: the file is empty.", hint="Copy or save it again.")
    if is_dicom(path):
        return _checked(read_dicom2d(path, apply_voi=apply_voi), path)
    if not is_image2d(path) and not head.startswith(SIGNATURES):
        raise UnsupportedImageError(
            f"{path}: neither PNG, JPEG, TIFF nor DICOM.", hint="Save the image as PNG.", reason="format"
        )
    return _checked(read_picture(path), path)


def read_model_input(path: Path, *, apply_voi: bool = False) -> Plane2D:
    """Read one 2-D image for a model: one with contrast, and with a warning where its spacing is unknown.

    Raises
    ------
    InputError
        As `load_image2d`.
    """
    plane = read_image2d(path, apply_voi=apply_voi)
    check_contrast(plane, path)
    if plane.spacing is not None:
        return plane
    note = f"{path.name}: the file states no pixel spacing; areas are in pixels, not in mm."
    return replace(plane, warnings=(*plane.warnings, note))


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(max(map(len, SIGNATURES)))
    except OSError as error:
        raise UnreadableFileError(f"{path}: cannot be opened: {error.strerror}.", hint="Check the path.") from error


def _checked(plane: Plane2D, path: Path) -> Plane2D:
    pixels = plane.pixels
    if not np.isfinite(pixels).all():
        raise UnreadableFileError(f"{path}: some pixels are no finite numbers.", hint="Save the image again.")
    return plane
