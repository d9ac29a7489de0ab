"""A 2-D image becomes a float32 plane with its spacing, where the header has one, or a refusal.

image = load_image2d(Path("lesion.png"))
image.shape, image.meta["has_spacing"]          # (1, X, Y, 1)

PNG, JPEG and TIFF files, and single-frame DICOM (ultrasound, mammography, secondary capture). Colour becomes
brightness. A spacing that the file does not state stays unknown; none is made up.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils.enums import MetaKeys

from ..errors import UnsupportedImageError
from .image2d_pixels import Plane2D
from .image2d_read import read_image2d, read_model_input


def load_image2d(path: str | os.PathLike[str], *, apply_voi: bool = False) -> MetaTensor:
    """Load one 2-D image.

    Parameters
    ----------
    path : path
        PNG, JPEG, TIFF or single-frame DICOM.
    apply_voi : bool
        DICOM: apply the window or VOI LUT of the header.

    Returns
    -------
    MetaTensor
        float32, shape (1, X, Y, 1), index [0, column, row, 0], brightness. ``affine`` maps pixel index to mm with
        the origin at the first pixel, or to pixels where the spacing is unknown; ``meta["has_spacing"]`` tells
        which. ``meta["warnings"]`` is a list of str.

    Raises
    ------
    NoImageFoundError
        If the file does not exist.
    UnsupportedImageError
        If it is no 2-D image of a supported kind, has several pages or frames, too many pixels, or one value in
        nearly all of them.
    UnreadableFileError
        If it is damaged.
    """
    path = Path(path)
    return _tensor(read_model_input(path, apply_voi=apply_voi), path)


def load_mask2d(path: str | os.PathLike[str], like: MetaTensor) -> MetaTensor:
    """Load the reference mask of a 2-D image.

    Parameters
    ----------
    path : path
        PNG or TIFF of the image's size with at most two values; the larger one is the lesion. A mask of one value
        is empty if it is 0, else all lesion.
    like : MetaTensor, shape (1, X, Y, 1)
        The image.

    Returns
    -------
    MetaTensor of uint8, shape (1, X, Y, 1)
        0 and 1.

    Raises
    ------
    UnsupportedImageError
        If the sizes differ or the mask has more than two values.
    """
    path = Path(path)
    plane = read_image2d(path)
    columns, rows = (int(size) for size in like.shape[1:3])
    if plane.pixels.shape != (rows, columns):
        raise UnsupportedImageError(
            f"{path}: {plane.pixels.shape[1]} x {plane.pixels.shape[0]} pixels, its image has {columns} x {rows}.",
            hint="Give the mask that was drawn on this image.",
            reason="mask-size",
        )
    values = np.unique(plane.pixels)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        raise UnsupportedImageError(
            f"{path}: {len(values)} different values from {values[0]:g} to {values[-1]:g}, expected 0 and one other.",
            hint="Give a mask without grey levels, as PNG: JPEG blurs its edges.",
            reason="mask-values",
        )
    mask = (plane.pixels > 0).astype(np.uint8)
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(mask.T))[None, ..., None], affine=like.affine)


def _tensor(plane: Plane2D, path: Path) -> MetaTensor:
    array = np.ascontiguousarray(plane.pixels.T)[None, ..., None]  # (rows, columns) -> (1, X, Y, 1)
    # Patients are LPS in DICOM: columns run to the left, rows downwards; a picture has no place in the patient.
    across, down = plane.spacing or (1.0, 1.0)
    affine = torch.diag(torch.tensor([-across, -down, 1.0, 1.0], dtype=torch.float64))
    meta = {
        MetaKeys.ORIGINAL_AFFINE: affine.clone(),
        MetaKeys.SPATIAL_SHAPE: np.array(array.shape[1:]),
        MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        "filename_or_obj": path.name,
        "has_spacing": plane.spacing is not None,
        "warnings": list(plane.warnings),
    }
    return MetaTensor(torch.from_numpy(array), affine=affine, meta=meta)
