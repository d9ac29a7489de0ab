"""What labelled tissues tell: how dense the breast is, and where its skin is."""

from __future__ import annotations

import numpy as np
import scipy  # its parts load when they are first used: most studies have no lesion
from numpy.typing import NDArray

from lightunet_monai.segmentation import Segmentation

from .neighbours import face_neighbours

FIBROGLANDULAR_CODES = frozenset({"1342375003"})
ADIPOSE_CODES = frozenset({"89749009", "55603005"})
SKIN_CODES = frozenset({"82038008", "39937001"})
"""SNOMED CT types of these structures: those of the breast (DICOM CID 7163), and fat and skin of any region."""


def breast_density(segmentation: Segmentation) -> float | None:
    """Volumetric glandular fraction: fibroglandular / (fibroglandular + adipose + lesions), by volume.

    That is the share of fibroglandular tissue in the volume of the breast without its skin (as in Tomography 2023;
    9(6):2039, doi:10.3390/tomography9060160). A lesion is part of the breast, but not of the fibroglandular tissue.

    Parameters
    ----------
    segmentation : Segmentation
        Of both breasts where the volume shows both.

    Returns
    -------
    float or None
        0 to 1; None if the label table lacks one of the tissues, or no voxel is labelled as either.
    """
    dense, fat = _voxels(segmentation, FIBROGLANDULAR_CODES), _voxels(segmentation, ADIPOSE_CODES)
    if dense is None or fat is None or dense + fat == 0:
        return None
    lesions = sum(
        int(np.count_nonzero(segmentation.label_map == label.value)) for label in segmentation.labels if label.is_lesion
    )
    return dense / (dense + fat + lesions)


def values_of(segmentation: Segmentation, codes: frozenset[str]) -> list[int]:
    """Label values of the structures with one of these types."""
    return [label.value for label in segmentation.labels if label.type.value in codes]


def _voxels(segmentation: Segmentation, codes: frozenset[str]) -> int | None:
    values = values_of(segmentation, codes)
    return sum(int(np.count_nonzero(segmentation.label_map == value)) for value in values) if values else None


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
    values = values_of(segmentation, SKIN_CODES)
    label_map, affine = segmentation.label_map, segmentation.affine
    skin = np.zeros(label_map.shape, dtype=bool)
    for value in values:
        skin |= label_map == value
    rim = np.argwhere(face_neighbours(skin) & (label_map == 0)) if skin.any() else np.empty((0, 3))
    if not len(rim):
        return None
    points = rim @ affine[:3, :3].T + affine[:3, 3]
    return LabelledSkin(points, float(np.linalg.norm(affine[:3, :3], axis=0).mean()) / 2)
