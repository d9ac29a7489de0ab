"""How often few cases are shown, and when what was kept of a case is stale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from monai.data.utils import pickle_hashing

from .checkpoints import fingerprint

Case = TypeVar("Case")


def repeated(cases: Sequence[Case], fewest: int) -> list[Case]:
    """Repeat a list of cases as a whole until an epoch has at least `fewest`.

    Of a handful of cases an epoch would be a single step: twenty epochs would leave the weights as they were.
    """
    return list(cases) * max(1, math.ceil(fewest / max(1, len(cases))))


def momentum_for(iterations: int, momentum: float) -> float:
    """The weight of the newest weights in their moving average: at least so much that a short training is in it.

    Parameters
    ----------
    iterations : int
        Of the whole training.
    momentum : float
        Of a long one.

    Returns
    -------
    float
        `momentum`, or what averages over the last tenth of a shorter training; at most one half.
    """
    return max(momentum, min(0.5, 10.0 / max(1, iterations)))


class CaseHash:
    """Name a case in the cache of a dataset by its paths, the state of its files and the settings it was prepared with.

    Parameters
    ----------
    settings : sequence
        What changes the prepared volume.
    also : sequence
        What else does in the model at hand.
    """

    def __init__(self, settings: Sequence[Any] = (), also: Sequence[Any] = ()) -> None:
        self.settings = repr([*settings, *also])
        self._known: dict[str, bytes] = {}

    def __call__(self, case: Mapping[str, Any]) -> bytes:
        """Give the hash of a case, ``{key: path}``; of a folder all files in it count. Files are looked at once."""
        name = repr(sorted(case.items()))
        if name not in self._known:
            states = [_states(case[key]) for key in sorted(case)]
            self._known[name] = pickle_hashing({"case": name, "files": states, "of": self.settings})
        return self._known[name]


def fingerprint_cases(sections: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """Give a short hash of lists of cases, ``{key: path}``: of their paths and of the state of their files."""
    cases = [[[key, str(case[key]), _states(case[key])] for key in sorted(case)] for part in sections for case in part]
    return fingerprint([len(part) for part in sections] + cases)


def _states(value: Any) -> list[tuple[str, int, int]]:
    path = Path(value) if isinstance(value, (str, Path)) else None
    if path is None or not path.exists():
        return []
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
