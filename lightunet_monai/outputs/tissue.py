"""What labelled tissues tell: how dense the breast is, and where its skin is."""

from __future__ import annotations

import numpy as np
import scipy  # its parts load when they are first used: most studies have no lesion
from numpy.typing import NDArray

from lightunet_monai.labels import SKIN_CODES
from lightunet_monai.segmentation import Segmentation

from .neighbours import face_centres
from .surroundings import AIR_HU


def breast_density(segmentation: Segmentation) -> float | None:
    """Volumetric glandular fraction of a segmentation, 0 to 1, as in `LabelTable.breast_density`."""
    if not segmentation.labels.has_tissues:
        return None
    labels = segmentation.labels
    return labels.breast_density({v: int(np.count_nonzero(segmentation.label_map == v)) for v in labels.values})


def tissue_warnings(segmentation: Segmentation) -> list[str]:
    """Say what speaks against the tissues that a model has labelled; what people have drawn is as they meant it."""
    if not segmentation.labels.has_tissues or segmentation.provenance.algorithm_type != "AUTOMATIC":
        return []
    labels = segmentation.labels
    found = {value for value in labels.values if (segmentation.label_map == value).any()}
    skin = set(labels.values_of(SKIN_CODES))
    if found.isdisjoint(set(labels.values).difference(labels.lesions)):
        what = "No tissue"
    elif skin and found.isdisjoint(skin):
        what = "No skin"
    else:
        return []
    return [
        f"{what} is labelled, expected a whole breast with its skin and air around it: do not trust the tissue labels "
        "and the breast density."
    ]


class LabelledSkin:
    """The outer surface of the labelled skin: the faces at which it touches what is outside.

    Parameters
    ----------
    points : ndarray of float64, shape (n, 3)
        Centres of these faces, RAS+ mm.
    """

    def __init__(self, points: NDArray[np.float64]) -> None:
        self.tree = scipy.spatial.cKDTree(points)

    def distance_mm(self, surface_points: NDArray[np.float64]) -> float:
        """Shortest distance from the surface of a lesion (n, 3), RAS+ mm; good to about one voxel."""
        return float(self.tree.query(surface_points)[0].min())


def find_labelled_skin(segmentation: Segmentation, volume_hu: NDArray[np.generic] | None = None) -> LabelledSkin | None:
    """Find the outer surface of the skin in the label map.

    Outside is what is not labelled and, where intensities are known, air: muscle, an implant or a gap in the labels
    beneath the skin is not outside. Where the skin ends at the border of the volume it has no surface there.

    Parameters
    ----------
    segmentation : Segmentation
    volume_hu : ndarray, shape (X, Y, Z), or None
        Hounsfield units.

    Returns
    -------
    LabelledSkin or None
        None if no voxel is labelled as skin, or nothing of the outside lies beside it.
    """
    label_map, affine = segmentation.label_map, segmentation.affine
    skin = np.zeros(label_map.shape, dtype=bool)
    for value in segmentation.labels.values_of(SKIN_CODES):
        skin |= label_map == value
    if not skin.any():
        return None
    outside = label_map == 0
    if volume_hu is not None:
        outside &= np.asarray(volume_hu) < AIR_HU
    faces = face_centres(skin, outside)
    return LabelledSkin(faces @ affine[:3, :3].T + affine[:3, 3]) if len(faces) else None
