"""Decoding of 2-D images: what they all must tell, and the checks that are the same for all of them. No torch here.

Colour becomes brightness. A spacing that the file does not state stays unknown; none is made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UnsupportedImageError
from .limits import MAX_IMAGE_PIXELS, MIN_IMAGE_SIDE

IMAGE2D_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff")
"""Files that Pillow decodes; DICOM is recognised by its content."""

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", *TIFF_SIGNATURES)
"""What PNG, JPEG and TIFF files begin with, whatever they are called."""

FLAT_PERCENTILES = (0.5, 99.5)
"""Where they are equal, what differs is too little for a picture: a model has nothing to scale brightness by."""

PLAUSIBLE_SPACING_MM = (0.001, 5.0)
"""Pixels of pictures of tissue, from microscopes to coarse ultrasound; what a header says beyond is no measurement."""


@dataclass(frozen=True)
class Plane2D:
    """One decoded image.

    Parameters
    ----------
    pixels : ndarray of float32, shape (rows, columns)
        Brightness; larger is brighter.
    spacing : (float, float) or None
        Distance between pixel centres along columns index (X) and rows index (Y), mm; None if the file has none.
    warnings : tuple of str
        What was tolerated, and where the spacing comes from.
    """

    pixels: NDArray[np.float32]
    spacing: tuple[float, float] | None
    warnings: tuple[str, ...] = ()


def is_plausible_spacing(spacing: tuple[float, float]) -> bool:
    """Tell whether both distances, mm, can be those of a picture of tissue."""
    return all(PLAUSIBLE_SPACING_MM[0] <= value <= PLAUSIBLE_SPACING_MM[1] for value in spacing)


def is_image2d(path: Path) -> bool:
    """A PNG, JPEG or TIFF file by its name."""
    return path.name.lower().endswith(IMAGE2D_SUFFIXES)


def check_size(columns: int, rows: int, path: Path | str) -> None:
    """Refuse an image by its size, before a pixel is decoded.

    Raises
    ------
    UnsupportedImageError
        If it has too many pixels, or a side too short.
    """
    if columns * rows > MAX_IMAGE_PIXELS:
        raise UnsupportedImageError(
            f"{path}: {columns} x {rows} pixels, expected at most {MAX_IMAGE_PIXELS} in all.",
            hint="Cut out a region, or save the image smaller.",
            reason="too-large",
        )
    if min(columns, rows) < MIN_IMAGE_SIDE:
        raise UnsupportedImageError(
            f"{path}: {columns} x {rows} pixels, expected at least {MIN_IMAGE_SIDE} on each side.",
            hint="Give the original image.",
            reason="too-small",
        )


def check_contrast(plane: Plane2D, path: Path | str) -> None:
    """Refuse an image of one value in nearly all of its pixels.

    Raises
    ------
    UnsupportedImageError
    """
    low, high = np.percentile(plane.pixels, FLAT_PERCENTILES)
    if low == high:
        share = "every" if plane.pixels.min() == plane.pixels.max() else "nearly every"
        raise UnsupportedImageError(
            f"{path}: {share} pixel has the value {low:g}, expected a picture.", hint="Check the file.", reason="flat"
        )


def why_not_ct(path: Path) -> InputError | None:
    """The error for a picture handed to the CT model, or None if the file is none."""
    if not is_image2d(path) or not path.is_file():
        return None
    return UnsupportedImageError(
        f"{path}: a 2-D image, expected a CT volume.",
        hint="For a breast ultrasound image add --model ultrasound.",
        reason="image2d",
    )
