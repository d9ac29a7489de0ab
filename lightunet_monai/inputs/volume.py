"""An image source becomes a volume tensor: Hounsfield units on a grid with an affine, or a refusal.

volume = load_volume(choose_series(discover_sources("study/")))
volume.shape, volume.affine          # (1, X, Y, Z), voxel index to RAS+ mm
"""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils.enums import MetaKeys, SpaceKeys

from ..sources import DicomSeries, ImageSource
from .hounsfield import read_hu
from .plausibility import ct_warnings, refuse_other_units
from .regularize import plan_regularization


def load_volume(source: ImageSource, *, assume_hu: bool = False, regularize: bool = False) -> MetaTensor:
    """Load a source as a MONAI tensor.

    Parameters
    ----------
    source : ImageSource
        From `choose_series`, or made from paths.
    assume_hu : bool
        Take stored values as Hounsfield units where a DICOM header has no rescale.
    regularize : bool
        Resample a tilted or slightly uneven stack onto an orthogonal grid instead of refusing it;
        `plan_regularization` gives the way back to the source's slices.

    Returns
    -------
    MetaTensor
        float32, shape (1, X, Y, Z), index [0, column, row, slice], Hounsfield units. ``affine`` maps voxel
        index to RAS+ mm, float64. ``meta`` holds ``filename_or_obj`` (the name of the source, from which
        MONAI names output files), ``original_affine``, ``spatial_shape`` and ``warnings`` (list of str).

    Raises
    ------
    GeometryError
        If the slices do not form one regular volume.
    UnsupportedImageError
        If it is no CT volume.
    UnreadableFileError
        If a file is damaged; names it.
    """
    volume = read_hu(source, dtype="float32", assume_hu=assume_hu, allow_shear=regularize)
    voxels, affine, warnings = volume.voxels, volume.affine, list(volume.warnings)
    what = source.name if isinstance(source, DicomSeries) else str(source.path)
    refuse_other_units(voxels, what=what)  # before resampling, which mixes padding with what was measured
    regularization = plan_regularization(source) if regularize else None
    if regularization is not None:
        voxels, affine = regularization.to_regular(voxels), regularization.affine
        warnings.append(regularization.describe())
    warnings += ct_warnings(voxels, what=source.name)
    meta = {
        MetaKeys.ORIGINAL_AFFINE: torch.from_numpy(affine.copy()),
        MetaKeys.SPATIAL_SHAPE: np.array(voxels.shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        MetaKeys.SPACE: SpaceKeys.RAS,
        "filename_or_obj": source.name,
        "warnings": warnings,
    }
    return MetaTensor(torch.from_numpy(voxels)[None], affine=torch.from_numpy(affine.copy()), meta=meta)
