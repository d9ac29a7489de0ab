"""What labelled tissues tell: how dense the breast is, and where its skin is."""

from __future__ import annotations

import numpy as np
import scipy  # its parts load when they are first used: most studies have no lesion
from numpy.typing import NDArray

from lightunet_monai.labels import SKIN_CODES
from lightunet_monai.segmentation import Segmentation

from .neighbours import face_neighbours


def breast_density(segmentation: Segmentation) -> float | None:
    """Volumetric glandular fraction of a segmentation, 0 to 1, as in `LabelTable.breast_density`."""
    if not segmentation.labels.has_tissues:
        return None
    labels = segmentation.labels
    return labels.breast_density({v: int(np.count_nonzero(segmentation.label_map == v)) for v in labels.values})


class LabelledSkin:
    """The outer surface of the labelled skin: unlabelled voxels that touch it by a face.

    Parameters
    ----------
    points : ndarray of float64, shape (n, 3)
        Their positions, RAS+ mm.
    half_voxel_mm : float
        The surface lies that far before them.
    """

    def __init__(self, points: NDArray[np.float64], half_voxel_mm: float) -> None:
        self.tree = scipy.spatial.cKDTree(points)
        self.half_voxel_mm = half_voxel_mm

    def distance_mm(self, surface_points: NDArray[np.float64]) -> float:
        """Shortest distance from the surface of a lesion (n, 3), RAS+ mm; 0 or more, good to about one voxel."""
        return max(0.0, float(self.tree.query(surface_points)[0].min()) - self.half_voxel_mm)


def find_labelled_skin(segmentation: Segmentation) -> LabelledSkin | None:
    """Find the outer surface of the skin in the label map.

    Where the skin ends at the border of the volume it has no surface there.

    Returns
    -------
    LabelledSkin or None
        None if no voxel is labelled as skin, or nothing unlabelled lies beside it.
    """
    values = segmentation.labels.values_of(SKIN_CODES)
    label_map, affine = segmentation.label_map, segmentation.affine
    skin = np.zeros(label_map.shape, dtype=bool)
    for value in values:
        skin |= label_map == value
    rim = np.argwhere(face_neighbours(skin) & (label_map == 0)) if skin.any() else np.empty((0, 3))
    if not len(rim):
        return None
    points = rim @ affine[:3, :3].T + affine[:3, 3]
    return LabelledSkin(points, float(np.linalg.norm(affine[:3, :3], axis=0).mean()) / 2)
