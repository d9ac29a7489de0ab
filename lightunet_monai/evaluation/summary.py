"""Many scored cases become one table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .lesions import CaseScore, LesionScore

DIAMETER_EDGES = (0.0, 5.0, 8.0, 12.0, 20.0, math.inf)
"""Ends of the ranges of lesion diameter, mm."""


@dataclass(frozen=True)
class LesionGroup:
    """Lesions of one range of diameters.

    Parameters
    ----------
    low, high : float
        Diameter, mm; from ``low`` on, below ``high``.
    count : int
        Lesions of the reference.
    sensitivity : float
        Share that was found.
    dice_mean, dice_median : float
        Over all lesions of the group; a missed one counts 0.
    volume_error_median : float
        Of |predicted - reference| / reference over those that were found.
    """

    low: float
    high: float
    count: int
    sensitivity: float
    dice_mean: float
    dice_median: float
    volume_error_median: float


@dataclass(frozen=True)
class Summary:
    """Figures of a set of cases.

    Parameters
    ----------
    cases : int
    false_positives_per_case : float
    clean_cases : int
        Cases without a lesion in the reference.
    false_positives_per_clean_case : float
    groups : tuple of LesionGroup
        By diameter; after them the lesions from 5 mm, from 8 mm, and all.
    """

    cases: int
    false_positives_per_case: float
    clean_cases: int
    false_positives_per_clean_case: float
    groups: tuple[LesionGroup, ...]

    def to_json(self) -> dict[str, Any]:
        """Give JSON values; a figure of an empty group is None."""
        values: dict[str, Any] = without_nan(asdict(self))
        return values

    def to_text(self) -> str:
        """Give a Markdown table."""
        lines = [
            "| lesion diameter | lesions | sensitivity | Dice mean | Dice median | volume error, median |",
            "|---|---|---|---|---|---|",
        ]
        for g in self.groups:
            title = f"{g.low:g}-{g.high:g} mm" if math.isfinite(g.high) else f"{g.low:g} mm and more"
            figures = [_text(value) for value in (g.sensitivity, g.dice_mean, g.dice_median)]
            error = _text(100 * g.volume_error_median, ".1f", " %")
            title = title if g.low or math.isfinite(g.high) else "all"
            lines.append(f"| {title} | {g.count} | {' | '.join(figures)} | {error} |")
        each = _text(self.false_positives_per_clean_case, ".2f")
        lines.append("")
        lines.append(
            f"{self.cases} volume{'' if self.cases == 1 else 's'}, "
            f"{self.false_positives_per_case:.2f} false positives per volume; "
            f"{self.clean_cases} of them without a lesion, with {each} each."
        )
        return "\n".join(lines)


def summarize(scores: Sequence[CaseScore]) -> Summary:
    """Summarise scored cases.

    Parameters
    ----------
    scores : sequence of CaseScore

    Returns
    -------
    Summary
    """
    lesions = [lesion for score in scores for lesion in score.lesions]
    clean = [score.false_positives for score in scores if not score.lesions]
    ranges = [
        *pairwise(DIAMETER_EDGES),
        (5.0, math.inf),
        (8.0, math.inf),
        (0.0, math.inf),
    ]
    return Summary(
        cases=len(scores),
        false_positives_per_case=_mean([score.false_positives for score in scores]),
        clean_cases=len(clean),
        false_positives_per_clean_case=_mean(clean),
        groups=tuple(_group(lesions, low, high) for low, high in ranges),
    )


def _group(lesions: Sequence[LesionScore], low: float, high: float) -> LesionGroup:
    chosen = [lesion for lesion in lesions if low <= lesion.diameter < high]
    dice = [lesion.dice for lesion in chosen]
    errors = [abs(x.predicted_ml - x.volume_ml) / x.volume_ml for x in chosen if x.is_detected]
    return LesionGroup(
        low=low,
        high=high,
        count=len(chosen),
        sensitivity=_mean([float(lesion.is_detected) for lesion in chosen]),
        dice_mean=_mean(dice),
        dice_median=float(np.median(dice)) if dice else math.nan,
        volume_error_median=float(np.median(errors)) if errors else math.nan,
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _text(value: float, form: str = ".3f", unit: str = "") -> str:
    """A dash for a figure of an empty group."""
    return "-" if math.isnan(value) else f"{value:{form}}{unit}"


def without_nan(value: Any) -> Any:
    """Give the same JSON values with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
