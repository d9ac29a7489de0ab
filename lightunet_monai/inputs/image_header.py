"""What every format of image file must tell, and the checks that are the same for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import GeometryError, UnreadableFileError, UnsupportedImageError
from .geometry import MAX_SPACING_MM, MIN_SPACING_MM, SHEAR_TOLERANCE_DEGREES, check_extent
from .limits import MAX_VOLUME_VOXELS

ReadVoxels = Callable[[], NDArray[np.float32]]
"""Reads the voxels, shape (X, Y, Z)."""

_LARGEST_GZIP_RATIO = 1100
"""No deflate stream unpacks to more than 1032 times its size."""

UNIT_HINT = "Write the file in millimetres."
VOXEL_TYPE_HINT = "Write the file with one real number a voxel, Hounsfield units."


@dataclass(frozen=True)
class ImageFileHeader:
    """What the header of an image file says.

    Parameters
    ----------
    shape : tuple of int
        Voxels along X, Y, Z.
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ mm.
    warnings : tuple of str
        What was tolerated.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    warnings: tuple[str, ...] = ()


def check_affine(
    affine: NDArray[np.float64], what: str, *, shape: tuple[int, ...] | None = None, allow_shear: bool = False
) -> None:
    """Check that an affine is that of a volume: finite, plausible spacing, perpendicular axes.

    With a shape, its extent is checked, too.

    Raises
    ------
    GeometryError
        With reason ``"tilt"`` if the last axis leans, which resampling can mend; ``"affine"`` if the first two do.
    """
    columns = affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    found = " x ".join(f"{value:.4g}" for value in spacing)
    if not np.isfinite(affine).all() or spacing.min() < MIN_SPACING_MM or spacing.max() > MAX_SPACING_MM:
        raise GeometryError(
            f"{what}: the spacing is {found} mm, expected {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm.",
            hint="The header gives the spacing in another unit, or this is no CT volume.",
            reason="implausible-spacing",
        )
    if shape is not None:
        check_extent(shape, spacing.tolist(), what)
    unit = columns / spacing
    cosines = np.abs(np.array([unit[:, 0] @ unit[:, 1], unit[:, 0] @ unit[:, 2], unit[:, 1] @ unit[:, 2]]))
    shear = float(np.degrees(np.arcsin(np.clip(cosines.max(), 0, 1))))
    if shear > MAX_SHEAR_DEGREES:
        raise GeometryError(
            f"{what}: the axes lie {shear:.1f} degrees off a right angle, expected at most {MAX_SHEAR_DEGREES:g}.",
            hint="The orientation in the header is damaged; convert the original images again.",
            reason="affine",
        )
    within = float(np.degrees(np.arcsin(min(cosines[0], 1.0))))
    if within > SHEAR_TOLERANCE_DEGREES:
        # Slices are planes of the first two axes; only their shift against each other can be resampled.
        raise GeometryError(
            f"{what}: the first two axes lie {within:.2f} degrees off a right angle, "
            f"expected at most {SHEAR_TOLERANCE_DEGREES} degrees within a slice.",
            hint="Store it with its slices along the last axis, or resample it onto perpendicular axes.",
            reason="affine",
        )
    if shear > SHEAR_TOLERANCE_DEGREES and not allow_shear:
        raise GeometryError(
            f"{what}: the axes lie {shear:.2f} degrees off a right angle (gantry tilt), "
            f"expected at most {SHEAR_TOLERANCE_DEGREES} degrees.",
            hint="Use --regularize to resample it onto a regular grid.",
            reason="tilt",
        )


MAX_SHEAR_DEGREES = 45.0
"""No gantry tilts further than 30 degrees; a larger angle is a damaged header."""


def check_shape(shape: tuple[int, ...], path: Path | str) -> tuple[int, int, int]:
    """The three sizes of one volume; further axes may only have length 1.

    Raises
    ------
    UnsupportedImageError
        If it is not one volume, or too large.
    """
    found = " x ".join(map(str, shape))
    if len(shape) < 3 or min(shape[:3], default=0) < 2:
        raise UnsupportedImageError(
            f"{path}: {found} voxels, expected three dimensions of 2 or more.",
            hint="Give a whole volume, not a single slice.",
            reason="not-3d",
        )
    if any(size != 1 for size in shape[3:]):
        raise UnsupportedImageError(
            f"{path}: {found} voxels, expected one volume; found {int(np.prod(shape[3:]))}.",
            hint="Write each volume (phase, channel) to a file of its own.",
            reason="several-volumes",
        )
    if int(np.prod([int(size) for size in shape], dtype=object)) > MAX_VOLUME_VOXELS:
        raise UnsupportedImageError(
            f"{path}: {found} voxels, expected at most {MAX_VOLUME_VOXELS}.",
            hint="Write the volume with fewer voxels.",
            reason="too-large",
        )
    return int(shape[0]), int(shape[1]), int(shape[2])


def check_file_size(path: Path, expected_bytes: int, offset: int, *, is_packed: bool) -> None:
    """Raise UnreadableFileError if a file cannot hold as many voxel bytes as its header announces."""
    available = path.stat().st_size - (0 if is_packed else offset)
    if available * (_LARGEST_GZIP_RATIO if is_packed else 1) < expected_bytes:
        raise UnreadableFileError(
            f"{path}: truncated, {available} bytes{' packed' if is_packed else ''}, "
            f"expected {expected_bytes} bytes of voxels.",
            hint="Copy or export the file again.",
            reason="truncated",
        )
