"""Label maps of several structures: how far two agree on each, and which voxels are taken for which.

cases = [StructureCase(name, count_structures(prediction, reference, labels), voxel_volume_ml) for ...]
StructureEvaluation(labels, tuple(cases)).to_json()
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..labels import LabelTable
from .bootstrap import Interval, bootstrap_mean
from .summary import without_nan
from .tables import csv_cell, csv_text
from .voxels import VoxelScore

FIGURES = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "volume_error": "volume error",
}
"""Attributes of `VoxelScore` that are given for each structure. Distances between surfaces are given for lesions alone:
tissues interlock, and all of their surface is near."""

_PLANES = 16
"""Counted at once."""


@dataclass(frozen=True)
class StructureCase:
    """One case.

    Parameters
    ----------
    name : str
    counts : ndarray of int64, shape (K, K)
        Voxels by structure of the reference (rows) and of the prediction (columns), background first.
    voxel_volume_ml : float
        Volume of a voxel.
    """

    name: str
    counts: NDArray[np.int64]
    voxel_volume_ml: float

    def score(self, index: int) -> VoxelScore:
        """Compare one structure, by its row in `counts`; distances between surfaces are not measured."""
        shared = int(self.counts[index, index])
        only_predicted = int(self.counts[:, index].sum()) - shared
        missed = int(self.counts[index].sum()) - shared
        rest = int(self.counts.sum()) - shared - only_predicted - missed
        return VoxelScore(shared, only_predicted, missed, rest, self.voxel_volume_ml, math.nan, math.nan)


def count_structures(
    prediction: NDArray[np.uint8], reference: NDArray[np.uint8], labels: LabelTable
) -> NDArray[np.int64]:
    """Count voxels by what they are in two label maps.

    Parameters
    ----------
    prediction, reference : ndarray of uint8, shape (X, Y, Z)
        On the same grid; no value but 0 and those of `labels`.
    labels : LabelTable

    Returns
    -------
    ndarray of int64, shape (K, K)
        Rows are those of the reference, columns those of the prediction; background first, then in the order of
        `labels`.
    """
    size = len(labels) + 1
    row = np.zeros(256, dtype=np.intp)
    row[list(labels.values)] = np.arange(1, size)
    counts = np.zeros(size * size, dtype=np.int64)
    for first in range(0, len(reference), _PLANES):
        planes = slice(first, first + _PLANES)
        pairs = row[reference[planes]] * size + row[prediction[planes]]
        counts += np.bincount(pairs.ravel(), minlength=size * size)
    return counts.reshape(size, size)


@dataclass(frozen=True)
class StructureEvaluation:
    """All cases.

    Parameters
    ----------
    labels : LabelTable
    cases : tuple of StructureCase
    """

    labels: LabelTable
    cases: tuple[StructureCase, ...]

    def figures(self) -> list[dict[str, Interval]]:
        """Give the mean of each of `FIGURES` over the cases that have it, for each structure."""
        rows = []
        for index in range(1, len(self.labels) + 1):
            scores = [case.score(index) for case in self.cases]
            rows.append({name: bootstrap_mean([getattr(score, name) for score in scores]) for name in FIGURES})
        return rows

    def densities(self) -> list[tuple[float, float]]:
        """Give the breast density of prediction and reference of the cases in which both have one."""
        found = []
        for case in self.cases:
            pair = [self.labels.breast_density(dict(zip(self._values, sums, strict=True))) for sums in _sums(case)]
            if pair[0] is not None and pair[1] is not None:
                found.append((pair[0], pair[1]))
        return found

    def density_error(self) -> Interval:
        """Give the mean of |predicted - reference| of the breast density, 0 to 1."""
        return bootstrap_mean([abs(predicted - expected) for predicted, expected in self.densities()])

    def confusion_matrix(self) -> NDArray[np.int64]:
        """Count voxels over all cases, as in `count_structures`."""
        size = len(self.labels) + 1
        total = np.zeros((size, size), dtype=np.int64)
        for case in self.cases:
            total += case.counts
        return total

    def to_json(self) -> dict[str, Any]:
        """Give JSON values; a figure that no case carries is None."""
        content: dict[str, Any] = without_nan(
            {
                "cases": len(self.cases),
                "structures": [
                    {
                        "value": label.value,
                        "name": label.name,
                        "title": label.title,
                        "figures": {name: asdict(interval) for name, interval in figures.items()},
                    }
                    for label, figures in zip(self.labels, self.figures(), strict=True)
                ],
                "breast_density_error": asdict(self.density_error()),
                "confusion_matrix": {
                    "names": ["background", *(label.name for label in self.labels)],
                    "voxels": self.confusion_matrix().tolist(),
                },
            }
        )
        return content

    def to_text(self) -> str:
        """Give a Markdown table, a line a structure, and the error of the breast density."""
        titles = list(FIGURES.values())
        lines = [f"| structure | {titles[0]} | 95 % interval | {' | '.join(titles[1:])} | cases |"]
        lines.append("|" + "---|" * (len(titles) + 3))
        for label, figures in zip(self.labels, self.figures(), strict=True):
            dice, *others = figures.values()
            cells = [_number(dice.value), f"{_number(dice.low)} to {_number(dice.high)}" if dice.cases else "-"]
            cells += [*(_number(other.value) for other in others), str(dice.cases)]
            lines.append(f"| {label.name} | {' | '.join(cells)} |")
        error = self.density_error()
        if error.cases:
            lines += ["", f"Breast density: off by {error.value:.3f} on average ({error.low:.3f} to {error.high:.3f})."]
        return "\n".join(lines)

    @property
    def _values(self) -> tuple[int, ...]:
        return (0, *self.labels.values)


def structures_csv(evaluation: StructureEvaluation) -> str:
    """Give one line a case and structure.

    Parameters
    ----------
    evaluation : StructureEvaluation

    Returns
    -------
    str
        CSV with a header; a figure that the case does not have is an empty cell.
    """
    rows = []
    for case in evaluation.cases:
        for index, label in enumerate(evaluation.labels, 1):
            score = case.score(index)
            numbers = [*FIGURES, "reference_ml", "predicted_ml"]
            figures = {name: csv_cell(float(getattr(score, name))) for name in numbers}
            rows.append({"case": case.name, "structure": label.name, **figures})
    return csv_text(rows)


def _sums(case: StructureCase) -> Sequence[list[int]]:
    """Voxels of each structure in the prediction, and in the reference."""
    return [[int(voxels) for voxels in case.counts.sum(axis=axis)] for axis in (0, 1)]


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
