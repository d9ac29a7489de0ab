"""All figures of one case, and of all cases together.

cases = [evaluate_case(name, prediction, reference, spacing=..., voxel_volume_ml=...) for ...]
evaluation = Evaluation(tuple(cases))
evaluation.to_json(), evaluation.to_text()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bootstrap import Interval, bootstrap_mean, bootstrap_ratio
from .lesions import CaseScore, score_case
from .summary import summarize, without_nan
from .tables import csv_cell, csv_text
from .voxels import VoxelScore, score_voxels

DENSITY_EDGES = (0.0, 0.1, 0.2, 0.3, math.inf)
"""Ends of the ranges of breast density, as a share of volume; breast CT studies find a mean of 0.15 to 0.20."""


@dataclass(frozen=True)
class CaseEvaluation:
    """One case.

    Parameters
    ----------
    voxels : VoxelScore
    lesions : CaseScore
    density : float or None
        Share of dense tissue in the breast, 0 to 1, where it is known.
    """

    voxels: VoxelScore
    lesions: CaseScore
    density: float | None = None

    @property
    def name(self) -> str:
        """Of the case."""
        return self.lesions.name

    @property
    def found(self) -> int:
        """Lesions of the reference that were found."""
        return sum(lesion.is_detected for lesion in self.lesions.lesions)


def evaluate_case(
    name: str,
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    *,
    spacing: Sequence[float],
    voxel_volume_ml: float,
    density: float | None = None,
) -> CaseEvaluation:
    """Compare a predicted mask with its reference, by voxels, surfaces and lesions.

    Parameters
    ----------
    name : str
        Of the case.
    prediction, reference : ndarray of bool, shape (X, Y, Z)
        On the same grid.
    spacing : sequence of float
        Along X, Y, Z, mm.
    voxel_volume_ml : float
        Volume of a voxel.
    density : float or None
        Share of dense tissue in the breast.

    Returns
    -------
    CaseEvaluation
    """
    return CaseEvaluation(
        score_voxels(prediction, reference, spacing, voxel_volume_ml),
        score_case(name, prediction, reference, voxel_volume_ml),
        density,
    )


_PER_CASE: dict[str, tuple[str, str]] = {
    "dice": ("Dice", ""),
    "iou": ("IoU", ""),
    "precision": ("precision", ""),
    "recall": ("recall", ""),
    "f1": ("F1", ""),
    "specificity": ("specificity", ""),
    "hausdorff95_mm": ("HD95", " mm"),
    "surface_dice": ("surface Dice, 1 mm", ""),
    "volume_error": ("volume error", ""),
}
"""Attributes of `VoxelScore` whose mean over cases is given: title and unit."""

_OVER_ALL: dict[str, tuple[str, Callable[[CaseEvaluation], tuple[float, float]]]] = {
    "lesion_sensitivity": ("lesion sensitivity", lambda case: (case.found, len(case.lesions.lesions))),
    "false_positives_per_volume": ("false positives per volume", lambda case: (case.lesions.false_positives, 1)),
    "lesion_precision": ("lesion precision", lambda case: (case.found, case.found + case.lesions.false_positives)),
    "lesion_f1": (
        "lesion F1",
        lambda case: (2 * case.found, case.found + len(case.lesions.lesions) + case.lesions.false_positives),
    ),
}
"""Ratios of counts of lesions over all cases."""

TITLES = {**{name: title for name, (title, _) in _PER_CASE.items()}, **{name: t for name, (t, _) in _OVER_ALL.items()}}
UNITS = {name: unit for name, (_, unit) in _PER_CASE.items()}


@dataclass(frozen=True)
class Evaluation:
    """All cases of one operating point."""

    cases: tuple[CaseEvaluation, ...]

    def figures(self) -> dict[str, Interval]:
        """Give each figure with its interval, by name; `TITLES` has what people read."""
        figures = {}
        for name in _PER_CASE:
            figures[name] = bootstrap_mean([float(getattr(case.voxels, name)) for case in self.cases])
        for name, (_, counts) in _OVER_ALL.items():
            parts, wholes = zip(*map(counts, self.cases), strict=True) if self.cases else ((), ())
            figures[name] = bootstrap_ratio(parts, wholes)
        return figures

    def confusion_matrix(self) -> dict[str, dict[str, int]]:
        """Count voxels and lesions over all cases; there is no such thing as a lesion rightly not found."""
        voxels = {
            name: sum(int(getattr(case.voxels, name)) for case in self.cases)
            for name in ("true_positives", "false_positives", "false_negatives", "true_negatives")
        }
        lesions = {
            "true_positives": sum(case.found for case in self.cases),
            "false_positives": sum(case.lesions.false_positives for case in self.cases),
            "false_negatives": sum(len(case.lesions.lesions) - case.found for case in self.cases),
        }
        return {"voxels": voxels, "lesions": lesions}

    def by_diameter(self) -> list[dict[str, Any]]:
        """Lesions by range of diameter, as `summarize` groups them, with an interval of the sensitivity."""
        rows = []
        for group in summarize([case.lesions for case in self.cases]).groups:
            chosen = [
                [lesion.is_detected for lesion in case.lesions.lesions if group.low <= lesion.diameter < group.high]
                for case in self.cases
            ]
            interval = bootstrap_ratio([sum(found) for found in chosen], [len(found) for found in chosen])
            rows.append({**asdict(group), "sensitivity_low": interval.low, "sensitivity_high": interval.high})
        return rows

    def by_density(self) -> list[dict[str, Any]]:
        """Cases by range of breast density; empty where no case has one."""
        return density_groups([case.lesions for case in self.cases], [case.density for case in self.cases])

    def to_json(self) -> dict[str, Any]:
        """Give JSON values; a figure that no case carries is None, and so is an end of a range without end."""
        content: dict[str, Any] = without_nan(
            {
                "cases": len(self.cases),
                "figures": {
                    name: {"title": TITLES[name], "unit": UNITS.get(name, "").strip(), **asdict(interval)}
                    for name, interval in self.figures().items()
                },
                "confusion_matrix": self.confusion_matrix(),
                "by_diameter": self.by_diameter(),
                "by_density": self.by_density() or None,
                "cases_without_density": sum(case.density is None for case in self.cases),
            }
        )
        return content

    def to_text(self) -> str:
        """Give Markdown tables: the figures with their intervals, then the lesions by diameter."""
        lines = ["| figure | value | 95 % interval | cases |", "|---|---|---|---|"]
        for name, interval in self.figures().items():
            if interval.cases:
                values = (f"{x:.3f}{UNITS.get(name, '')}" for x in (interval.value, interval.low, interval.high))
                value, low, high = values
                lines.append(f"| {TITLES[name]} | {value} | {low} to {high} | {interval.cases} |")
            else:
                lines.append(f"| {TITLES[name]} | - | - | 0 |")
        return "\n".join([*lines, "", summarize([case.lesions for case in self.cases]).to_text()])


def density_groups(scores: Sequence[CaseScore], densities: Sequence[float | None]) -> list[dict[str, Any]]:
    """Group scored cases by breast density.

    Parameters
    ----------
    scores : sequence of CaseScore
    densities : sequence of float or None
        Of the same cases, 0 to 1.

    Returns
    -------
    list of dict
        One for each of the ranges of `DENSITY_EDGES` that holds a case.
    """
    rows = []
    for low, high in pairwise(DENSITY_EDGES):
        chosen = [
            score
            for score, density in zip(scores, densities, strict=True)
            if density is not None and low <= density < high
        ]
        if chosen:
            everything = summarize(chosen).groups[-1]
            found = bootstrap_ratio(
                [sum(lesion.is_detected for lesion in score.lesions) for score in chosen],
                [len(score.lesions) for score in chosen],
            )
            false = bootstrap_ratio([score.false_positives for score in chosen], [1] * len(chosen))
            rows.append(
                {
                    "low": low,
                    "high": min(high, 1.0),
                    "cases": len(chosen),
                    "lesions": everything.count,
                    "sensitivity": found.value,
                    "sensitivity_low": found.low,
                    "sensitivity_high": found.high,
                    "dice_mean": everything.dice_mean,
                    "false_positives_per_volume": false.value,
                    "false_positives_low": false.low,
                    "false_positives_high": false.high,
                }
            )
    return rows


def free_response_point(
    threshold: float, scores: Sequence[CaseScore], densities: Sequence[float | None]
) -> dict[str, Any]:
    """Give one point of a free-response curve (FROC), of all lesions and of groups of them.

    Sensitivity over the number of false positives per volume, as the threshold goes down (Bunch et al. 1977,
    doi:10.1117/12.955926).

    Parameters
    ----------
    threshold : float
        Probability.
    scores : sequence of CaseScore
        Of the masks at this threshold.
    densities : sequence of float or None
        Breast density of the same cases.

    Returns
    -------
    dict
        JSON values.
    """
    summary = summarize(scores)
    point: dict[str, Any] = without_nan(
        {
            "threshold": threshold,
            "sensitivity": summary.groups[-1].sensitivity,
            "false_positives_per_volume": summary.false_positives_per_case,
            "by_diameter": [
                {"low": group.low, "high": group.high, "count": group.count, "sensitivity": group.sensitivity}
                for group in summary.groups
            ],
            "by_density": density_groups(scores, densities) or None,
        }
    )
    return point


def cases_csv(cases: Sequence[CaseEvaluation]) -> str:
    """Give one line a case; a figure that the case does not have is an empty cell.

    Parameters
    ----------
    cases : sequence of CaseEvaluation

    Returns
    -------
    str
        CSV with a header.
    """
    rows = []
    for case in cases:
        counts = asdict(case.voxels)
        rows.append(
            {
                "case": case.name,
                **{name: csv_cell(float(getattr(case.voxels, name))) for name in _PER_CASE},
                "reference_ml": csv_cell(case.voxels.reference_ml),
                "predicted_ml": csv_cell(case.voxels.predicted_ml),
                "lesions": len(case.lesions.lesions),
                "lesions_found": case.found,
                "lesion_false_positives": case.lesions.false_positives,
                "density": csv_cell(case.density),
                **{f"voxel_{name}": counts[name] for name in counts if name.endswith(("positives", "negatives"))},
            }
        )
    return csv_text(rows)


def lesions_csv(cases: Sequence[CaseEvaluation]) -> str:
    """Give one line a lesion of the reference.

    Parameters
    ----------
    cases : sequence of CaseEvaluation

    Returns
    -------
    str
        CSV with a header.
    """
    columns = ["case", "lesion", "diameter_mm", "volume_ml", "found", "dice", "predicted_ml", "density"]
    rows = [
        {
            "case": case.name,
            "lesion": number,
            "diameter_mm": csv_cell(lesion.diameter),
            "volume_ml": csv_cell(lesion.volume_ml),
            "found": int(lesion.is_detected),
            "dice": csv_cell(lesion.dice),
            "predicted_ml": csv_cell(lesion.predicted_ml),
            "density": csv_cell(case.density),
        }
        for case in cases
        for number, lesion in enumerate(case.lesions.lesions, 1)
    ]
    return csv_text(rows, columns)
