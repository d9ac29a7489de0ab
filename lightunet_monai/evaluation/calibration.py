"""Probabilities that mean what they say, and the operating threshold on a free-response curve.

calibration = Calibration()
for probability, reference in cases:
    calibration.add(probability, reference)
temperature = calibration.fit_temperature()
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .summary import Summary

LOGIT_LIMIT = 20.0
BIN_WIDTH = 0.05
"""Of the histogram of logits: far below what a temperature can tell apart."""

RELIABILITY_BINS = 10
LOWEST, HIGHEST = math.log(0.05), math.log(20.0)
"""Range of the logarithm of the temperature."""

ALIKE = 0.001
"""Operating points whose mean Dice differs by no more are alike: a false positive weighs more than that."""

BOUND_WIDTH = 0.01
"""So near to an end of the range, of the logarithm, the search was stopped by the end: there is no minimum inside."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Voxels of one range of probability.

    Parameters
    ----------
    low, high : float
        Ends of the range.
    voxels : int
    said : float
        Their mean probability.
    observed : float
        Share of them that is lesion in the reference.
    """

    low: float
    high: float
    voxels: int
    said: float
    observed: float


class Calibration:
    """Counts of voxels by logit, with and without a lesion in the reference: all that a temperature needs.

    The memory does not grow with the cases.
    """

    def __init__(self) -> None:
        bins = 2 * round(LOGIT_LIMIT / BIN_WIDTH)
        self.background = np.zeros(bins, dtype=np.int64)
        self.lesion = np.zeros(bins, dtype=np.int64)
        self.logits = (np.arange(bins) + 0.5) * BIN_WIDTH - LOGIT_LIMIT

    def add(self, probability: NDArray[np.floating], reference: NDArray[np.bool_]) -> None:
        """Count the voxels of one case.

        Parameters
        ----------
        probability : ndarray, shape (X, Y, Z)
            Of a lesion, 0 to 1.
        reference : ndarray of bool, shape (X, Y, Z)
        """
        # Most voxels are surely background; their logits lie below the limit and all fall into the first bin.
        logit = to_logit(probability.astype(np.float64))
        index = np.clip((logit + LOGIT_LIMIT) / BIN_WIDTH, 0, self.logits.size - 1).astype(np.int64)
        self.lesion += np.bincount(index[reference], minlength=self.logits.size)
        self.background += np.bincount(index[~reference], minlength=self.logits.size)

    def negative_log_likelihood(self, temperature: float) -> float:
        """Mean over all voxels, of the logits divided by a temperature."""
        scaled = self.logits / temperature
        loss = np.logaddexp(0.0, scaled) @ self.background + np.logaddexp(0.0, -scaled) @ self.lesion
        return float(loss / max(1, self.background.sum() + self.lesion.sum()))

    def fit_temperature(self) -> float:
        """Find the temperature of least negative log-likelihood (Guo et al. 2017, arXiv:1706.04599).

        Returns
        -------
        float
            Between 0.05 and 20; 1 where there is no voxel of a lesion or none of the background.
        """
        if not self.lesion.any() or not self.background.any():
            return 1.0
        low, high = LOWEST, HIGHEST  # the loss has one minimum along the logarithm: golden section
        ratio = (math.sqrt(5.0) - 1.0) / 2.0
        while high - low > 1e-4:
            left, right = high - ratio * (high - low), low + ratio * (high - low)
            if self.negative_log_likelihood(math.exp(left)) < self.negative_log_likelihood(math.exp(right)):
                high = right
            else:
                low = left
        return math.exp((low + high) / 2.0)

    @staticmethod
    def is_at_bound(temperature: float) -> bool:
        """Whether a temperature lies at an end of the range in which `fit_temperature` looks: no minimum was found."""
        return not LOWEST + BOUND_WIDTH < math.log(temperature) < HIGHEST - BOUND_WIDTH

    def calibration_error(self, temperature: float) -> float:
        """Expected calibration error over ten equal ranges of probability, without the first.

        Nine voxels of ten are background that no one doubts; with them the error of any model is near 0. So only
        voxels with a probability of at least 0.1 count.
        """
        counted = [group for group in self.reliability(temperature)[1:] if group.voxels]
        total = sum(group.voxels for group in counted)
        return sum(abs(group.said - group.observed) * group.voxels for group in counted) / total if total else 0.0

    def reliability(self, temperature: float = 1.0) -> tuple[ReliabilityBin, ...]:
        """Calibration curve: what was said and what is true, in ten equal ranges of probability.

        A model whose probabilities mean what they say lies on the diagonal (DeGroot and Fienberg 1983,
        doi:10.2307/2987588).

        Parameters
        ----------
        temperature : float
            By which logits are divided; 1 leaves the probabilities as they were given.

        Returns
        -------
        tuple of ReliabilityBin
            From the lowest range on; ``said`` and ``observed`` are NaN where a range holds no voxel.
        """
        probability = 1.0 / (1.0 + np.exp(-self.logits / temperature))
        group = np.minimum((probability * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
        both = self.background + self.lesion
        found = []
        for index in range(RELIABILITY_BINS):
            chosen = group == index
            count = int(both[chosen].sum())
            said = float(probability[chosen] @ both[chosen]) / count if count else math.nan
            observed = float(self.lesion[chosen].sum()) / count if count else math.nan
            found.append(
                ReliabilityBin(index / RELIABILITY_BINS, (index + 1) / RELIABILITY_BINS, count, said, observed)
            )
        return tuple(found)


@dataclass(frozen=True)
class OperatingPoint:
    """One point of a free-response curve.

    Parameters
    ----------
    threshold : float
        Calibrated probability from which on a voxel belongs to a piece.
    sure_threshold : float
        Calibrated probability that a piece must reach somewhere.
    sensitivity, dice : float
        Of lesions from 5 mm on; a missed lesion has a Dice of 0.
    false_positives : float
        Per volume.
    """

    threshold: float
    sure_threshold: float
    sensitivity: float
    dice: float
    false_positives: float

    @classmethod
    def from_summary(cls, threshold: float, sure_threshold: float, summary: Summary) -> OperatingPoint:
        """Take the figures of lesions from 5 mm on."""
        group = next(group for group in summary.groups if group.low == 5.0 and math.isinf(group.high))
        return cls(threshold, sure_threshold, group.sensitivity, group.dice_mean, summary.false_positives_per_case)


def choose_point(points: Sequence[OperatingPoint], false_positives: float) -> OperatingPoint:
    """Choose the operating point: the largest mean lesion Dice within a number of false positives.

    Of points whose Dice is alike (`ALIKE`) the one with the fewest false positives is taken.

    Parameters
    ----------
    points : sequence of OperatingPoint
        At least one.
    false_positives : float
        Most per volume. Where no point that finds a lesion keeps it, of these the one with the fewest is taken.

    Returns
    -------
    OperatingPoint
    """
    points = [point for point in points if point.dice > 0.0] or points  # what finds nothing has no false positives
    allowed = [point for point in points if point.false_positives <= false_positives]
    if not allowed:
        return min(points, key=lambda point: (point.false_positives, -point.dice))
    most = max(point.dice for point in allowed)
    alike = [point for point in allowed if point.dice >= most - ALIKE]
    return min(alike, key=lambda point: (point.false_positives, -point.dice))


def to_logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give log(p / (1 - p)), finite also for 0 and 1."""
    edge = 1.0 / (1.0 + math.exp(LOGIT_LIMIT))
    clipped = np.clip(probability, edge, 1.0 - edge)
    return np.log(clipped) - np.log1p(-clipped)
