"""How far a figure could be off because these cases were drawn and no others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
SEED = 0
LEVEL = 0.95
"""Share of the resamples inside an interval."""


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval.

    Parameters
    ----------
    value : float
        Of the cases as they are; NaN if none carries it.
    low, high : float
        Ends of the 95 % interval.
    cases : int
        Cases that carry the figure.
    """

    value: float
    low: float
    high: float
    cases: int


def bootstrap_ratio(
    parts: Sequence[float], wholes: Sequence[float], *, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """Give sum(parts) / sum(wholes) over cases with a percentile bootstrap interval.

    Whole cases are drawn with replacement, not lesions or voxels, because those of one case resemble each other
    (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13). A mean over cases has ones in `wholes`,
    and zeros for cases that do not carry the figure; a sensitivity has found lesions over lesions.

    Parameters
    ----------
    parts, wholes : sequence of float
        One number a case.
    resamples : int
    seed : int
        The same seed gives the same interval.

    Returns
    -------
    Interval
    """
    part, whole = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)
    carriers = int(np.count_nonzero(whole))
    if not carriers:
        return Interval(math.nan, math.nan, math.nan, 0)
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        chosen = random.integers(part.size, size=part.size)
        total = whole[chosen].sum()
        if total > 0:  # a resample without any carrier has no value
            drawn.append(part[chosen].sum() / total)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(float(part.sum() / whole.sum()), float(low), float(high), carriers)


def bootstrap_mean(values: Sequence[float]) -> Interval:
    """Give the mean over the cases that have a value, the others being NaN, with its interval as `bootstrap_ratio`."""
    has = [not math.isnan(value) for value in values]
    return bootstrap_ratio([value if one else 0.0 for value, one in zip(values, has, strict=True)], has)
