"""NIfTI: label map and probability map."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from lightunet_monai.errors import OutputError
from lightunet_monai.segmentation import Segmentation

from .atomic import atomic_file
from .marking import RESEARCH_USE

COMPRESSION = 1
"""Gzip level: label maps are long runs of one value, so higher levels cost time and gain little."""

NIFTI_INTENT_LABEL = 1002
NIFTI_INTENT_ESTIMATE = 1001
NIFTI_XFORM_SCANNER = 1


def write_nifti(segmentation: Segmentation, path: Path) -> Path:
    """Write the label map as NIfTI-1, uint8, on the grid of the source.

    The affine stands in the sform (code 1, scanner), which can express shear; the qform cannot, so it holds the
    nearest rigid transform and is marked unknown (code 0) when the affine is sheared.

    A picture has no place in a patient: both codes are then 0 (unknown), and without a spacing so is the unit.

    Parameters
    ----------
    segmentation : Segmentation
        Label map (X, Y, Z) and affine, voxel index to RAS+ mm.
    path : Path
        ``.nii.gz`` or ``.nii``.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    return _write(segmentation.label_map, segmentation, NIFTI_INTENT_LABEL, "label map", path)


def write_probability(segmentation: Segmentation, path: Path) -> Path:
    """Write the probability map, 0 to 1, as NIfTI-1 float32 on the grid of the source.

    Raises
    ------
    OutputError
        If the segmentation carries no probability map or the file cannot be written.
    """
    if segmentation.probability is None:
        raise OutputError(
            f"{path}: the segmentation carries no probability map.",
            hint="Ask for probabilities when the segmentation is made.",
            reason="no-probability",
        )
    values = segmentation.probability.astype(np.float32, copy=False)
    return _write(values, segmentation, NIFTI_INTENT_ESTIMATE, "probability", path)


def _write(values: NDArray[Any], segmentation: Segmentation, intent: int, kind: str, path: Path) -> Path:
    affine = segmentation.affine
    code = 0 if segmentation.is_picture else NIFTI_XFORM_SCANNER
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm" if segmentation.has_spacing else "unknown")
    image.set_sform(affine, code=code)
    image.set_qform(affine, code=0 if _is_sheared(affine) else code, strip_shears=True)
    image.header.set_intent(intent, name=kind, allow_unknown=True)
    image.header["descrip"] = RESEARCH_USE.encode("ascii")
    with atomic_file(Path(path)) as part, open(part, "wb") as stream:
        if part.suffix.lower() == ".gz":
            # A fixed time stamp and no file name: the same label map gives the same bytes.
            with gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION, fileobj=stream, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(stream)
    return Path(path)


def _is_sheared(affine: NDArray[np.float64]) -> bool:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # The qform keeps three float32 numbers of the rotation, so smaller deviations would be lost in it anyway.
    return not np.allclose(axes.T @ axes, np.eye(3), atol=1e-5)
