"""One case compared with its reference, lesion by lesion and voxel by voxel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

CONNECTIVITY = 26
"""Voxels that touch by a corner belong to one lesion."""

DETECTION_DICE = 0.1
"""A reference lesion counts as found from this Dice on: a prediction that only grazes it does not."""


@dataclass(frozen=True)
class LesionScore:
    """One lesion of the reference.

    Parameters
    ----------
    diameter : float
        Of the sphere of equal volume, mm.
    volume_ml : float
        Of the reference.
    dice : float
        Between the lesion and all predicted lesions that touch it; 0 if there is none.
    predicted_ml : float
        Volume of the predicted lesions that touch it.
    """

    diameter: float
    volume_ml: float
    dice: float
    predicted_ml: float

    @property
    def is_detected(self) -> bool:
        """Whether the prediction found it."""
        return self.dice >= DETECTION_DICE


@dataclass(frozen=True)
class CaseScore:
    """One case.

    Parameters
    ----------
    name : str
    lesions : tuple of LesionScore
        Of the reference.
    false_positives : int
        Predicted lesions that find none of the reference: they touch none, or only some that stay missed.
    dice : float
        Of all voxels; NaN where neither reference nor prediction holds a lesion.
    """

    name: str
    lesions: tuple[LesionScore, ...]
    false_positives: int
    dice: float


def score_case(
    name: str, prediction: NDArray[np.bool_], reference: NDArray[np.bool_], voxel_volume_ml: float
) -> CaseScore:
    """Compare a predicted mask with its reference.

    Parameters
    ----------
    name : str
        Of the case.
    prediction, reference : ndarray of bool, shape (X, Y, Z)
        On the same grid.
    voxel_volume_ml : float
        Volume of a voxel.

    Returns
    -------
    CaseScore
    """
    predicted = _components(prediction)
    references = _components(reference)
    predicted_sizes = np.bincount(predicted.reshape(-1, order="A"))
    reference_sizes = np.bincount(references.reshape(-1, order="A"))
    both = (predicted > 0) & (references > 0)
    pairs, counts = np.unique(np.stack([references[both], predicted[both]]), axis=1, return_counts=True)
    lesions, found = [], np.zeros(len(predicted_sizes), dtype=bool)
    for index in range(1, len(reference_sizes)):
        touching = pairs[0] == index
        shared = int(counts[touching].sum())
        size = int(predicted_sizes[np.unique(pairs[1][touching])].sum())
        volume_ml = float(reference_sizes[index]) * voxel_volume_ml
        lesion = LesionScore(
            diameter=equivalent_diameter(volume_ml),
            volume_ml=volume_ml,
            dice=2 * shared / (int(reference_sizes[index]) + size) if size else 0.0,
            predicted_ml=size * voxel_volume_ml,
        )
        lesions.append(lesion)
        found[pairs[1][touching]] |= lesion.is_detected
    total = int(prediction.sum()) + int(reference.sum())
    return CaseScore(
        name=name,
        lesions=tuple(lesions),
        false_positives=len(predicted_sizes) - 1 - int(found.sum()),
        dice=2 * int(both.sum()) / total if total else math.nan,
    )


def equivalent_diameter(volume_ml: float) -> float:
    """Diameter in mm of the sphere of this volume: (6 V / pi) ** (1/3)."""
    return float((6000.0 * volume_ml / math.pi) ** (1 / 3))


def _components(mask: NDArray[np.bool_]) -> NDArray[np.integer]:
    labels: NDArray[np.integer] = cc3d.connected_components(mask, connectivity=CONNECTIVITY)
    return labels
