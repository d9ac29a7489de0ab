"""One case compared with its reference, voxel by voxel and surface by surface."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray

SURFACE_TOLERANCE_MM = 1.0
"""A piece of surface within this distance of the other surface agrees with it."""

HAUSDORFF_PERCENTILE = 95.0
"""The largest distance of all hangs on one voxel; the 95th percentile does not."""


@dataclass(frozen=True)
class VoxelScore:
    """The confusion matrix of one case, and how far its two surfaces lie apart.

    A ratio without a denominator is NaN: it has no value, and it is left out of every mean. So a case in which neither
    side holds a lesion has no Dice, and one without a lesion in the reference has no recall and no volume error.

    Parameters
    ----------
    true_positives, false_positives, false_negatives, true_negatives : int
        Voxels in both masks, in the prediction only, in the reference only, in neither.
    voxel_volume_ml : float
        Volume of a voxel.
    hausdorff95_mm : float
        95 % Hausdorff distance; NaN if either mask is empty, for there is no surface to measure to.
    surface_dice : float
        At `SURFACE_TOLERANCE_MM`; 0 if one mask is empty, NaN if both are.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    voxel_volume_ml: float
    hausdorff95_mm: float
    surface_dice: float

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN) (Dice 1945, doi:10.2307/1932409)."""
        return _ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)

    @property
    def iou(self) -> float:
        """Intersection over union, TP / (TP + FP + FN) (Jaccard 1912)."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """TP / (TP + FP), the share of the prediction that is right."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """TP / (TP + FN), the share of the reference that is found; also called sensitivity."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; of voxels it is the Dice by definition."""
        return self.dice

    @property
    def specificity(self) -> float:
        """TN / (TN + FP); close to 1 for any model, since most voxels are air or fat."""
        return _ratio(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def reference_ml(self) -> float:
        """Volume of the reference."""
        return (self.true_positives + self.false_negatives) * self.voxel_volume_ml

    @property
    def predicted_ml(self) -> float:
        """Volume of the prediction."""
        return (self.true_positives + self.false_positives) * self.voxel_volume_ml

    @property
    def volume_error(self) -> float:
        """|predicted - reference| / reference, of the volumes."""
        return _ratio(abs(self.predicted_ml - self.reference_ml), self.reference_ml)


def score_voxels(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Sequence[float], voxel_volume_ml: float
) -> VoxelScore:
    """Compare a predicted mask with its reference.

    The 95 % Hausdorff distance is the larger of the two 95th percentiles, from prediction to reference and back
    (Huttenlocher et al. 1993, doi:10.1109/34.232073). The surface Dice is the share of all surface voxels that lie
    within `SURFACE_TOLERANCE_MM` of the other surface (Nikolov et al. 2018, arXiv:1809.04430). Both are MONAI's.

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (X, Y, Z)
        On the same grid, whose axes are perpendicular.
    spacing : sequence of float
        Distance between voxel centres along X, Y, Z, mm.
    voxel_volume_ml : float
        Volume of a voxel.

    Returns
    -------
    VoxelScore
    """
    shared = int(np.count_nonzero(prediction & reference))
    only_predicted = int(np.count_nonzero(prediction)) - shared
    missed = int(np.count_nonzero(reference)) - shared
    distance, surface_dice = _surfaces(prediction, reference, spacing)
    return VoxelScore(
        true_positives=shared,
        false_positives=only_predicted,
        false_negatives=missed,
        true_negatives=prediction.size - shared - only_predicted - missed,
        voxel_volume_ml=voxel_volume_ml,
        hausdorff95_mm=distance,
        surface_dice=surface_dice,
    )


def _surfaces(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Sequence[float]
) -> tuple[float, float]:
    is_empty = not prediction.any(), not reference.any()
    if any(is_empty):
        return math.nan, math.nan if all(is_empty) else 0.0
    box = _box(prediction | reference)  # MONAI copies its masks as float32: only what matters of them
    masks = [torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None] for mask in (prediction, reference)]
    steps = [float(step) for step in spacing]
    with warnings.catch_warnings():
        # MONAI 1.6 passes itself an argument that it has deprecated.
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        distance = compute_hausdorff_distance(
            *masks, include_background=True, percentile=HAUSDORFF_PERCENTILE, spacing=steps
        )
        share = compute_surface_dice(*masks, [SURFACE_TOLERANCE_MM], include_background=True, spacing=steps)
    return float(distance), float(share)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box that holds all of a mask, one voxel wider where there is room."""
    box = []
    for axis in range(mask.ndim):
        planes = np.flatnonzero(mask.any(axis=tuple({*range(mask.ndim)} - {axis})))
        box.append(slice(max(0, int(planes[0]) - 1), int(planes[-1]) + 2))
    return tuple(box)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
