"""The hard CT studies beside the checkout and what a right reader makes of them; tests skip where they are absent."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
STUDIES = DATA / "dicom"
CHEST = DATA / "chest_ct" / "LIDC-IDRI-0314"

needs_studies = pytest.mark.skipif(not (STUDIES / "expected.csv").is_file(), reason="../shared/data/dicom is not here")
needs_chest = pytest.mark.skipif(not CHEST.is_dir(), reason="../shared/data/chest_ct is not here")


@dataclass(frozen=True)
class Expected:
    """One row of expected.csv."""

    case: str
    expect: str
    note: str
    shape: tuple[int, ...]
    affine: NDArray[np.float64] | None
    hu: tuple[float, float, float]
    sha256_16: str

    @property
    def path(self) -> Path:
        return STUDIES / self.case


def expected_rows() -> list[Expected]:
    """Every row; empty where the data are absent."""
    table = STUDIES / "expected.csv"
    if not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as stream:
        return [_row(row) for row in csv.DictReader(stream)]


def rows_by_case(*expects: str) -> dict[str, list[Expected]]:
    """Rows of the given kinds, by case; one empty case where the data are absent, so that the test shows as skipped."""
    cases: dict[str, list[Expected]] = {}
    for row in expected_rows():
        if row.expect in expects:
            cases.setdefault(row.case, []).append(row)
    return cases or {"absent": []}


def hash_voxels(voxels: NDArray[Any]) -> str:
    """The hash of expected.csv: float32 HU in (slice, row, column) order."""
    return hashlib.sha256(np.ascontiguousarray(voxels.T.astype(np.float32)).tobytes()).hexdigest()[:16]


def _row(row: dict[str, str]) -> Expected:
    return Expected(
        case=row["case"],
        expect=row["expect"],
        note=row["note"],
        shape=tuple(int(size) for size in row["shape"].split("x")) if row["shape"] else (),
        affine=np.array(json.loads(row["affine_ras"])) if row["affine_ras"] else None,
        hu=tuple(float(row[key]) for key in ("hu_min", "hu_max", "hu_mean")) if row["hu_min"] else (0.0, 0.0, 0.0),
        sha256_16=row["sha256_16"],
    )
