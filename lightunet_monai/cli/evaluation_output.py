"""What ``lightunet evaluate`` writes: JSON, two tables and a page; and the pictures of its best and worst cases."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OutputError

if TYPE_CHECKING:
    from ..evaluation import Evaluation, StructureEvaluation
    from ..review import CasePicture

SCHEMA = 1
"""Of evaluation.json; raised when a field changes its meaning or goes away."""

FILES = ("evaluation.json", "cases.csv", "lesions.csv", "evaluation.html")
STRUCTURES_FILE = "structures.csv"
"""Beside them where label maps hold tissues, too."""
PICTURES = 3
"""Best and worst cases that are shown, each."""


class Gallery:
    """Pictures of the best and the worst cases so far, by Dice; draws only what it may keep.

    A case without a Dice, since neither side holds a lesion, is neither.
    """

    def __init__(self, size: int = PICTURES) -> None:
        self.size = size
        self._best: list[CasePicture] = []
        self._worst: list[CasePicture] = []

    def offer(self, name: str, dice: float, draw: Callable[[], bytes]) -> None:
        """Take in one case; `draw` gives its picture and is called only if it is needed."""
        from ..review import CasePicture

        if math.isnan(dice):
            return
        is_good = len(self._best) < self.size or dice > self._best[-1].dice
        is_bad = len(self._worst) < self.size or dice < self._worst[-1].dice
        if not (is_good or is_bad):
            return
        picture = CasePicture(name, dice, draw())
        if is_good:
            self._best = sorted([*self._best, picture], key=lambda item: -item.dice)[: self.size]
        if is_bad:
            self._worst = sorted([*self._worst, picture], key=lambda item: item.dice)[: self.size]

    @property
    def best(self) -> list[CasePicture]:
        """The best first."""
        return self._best

    @property
    def worst(self) -> list[CasePicture]:
        """The worst first; of few cases, none that is among the best already."""
        names = {picture.name for picture in self._best}
        return [picture for picture in self._worst if picture.name not in names]


def describe(
    evaluation: Evaluation,
    gallery: Gallery,
    *,
    model: dict[str, Any] | None = None,
    threshold: float | None = None,
    free_response: list[dict[str, Any]] | None = None,
    calibration: dict[str, Any] | None = None,
    training: Path | None = None,
    structures: StructureEvaluation | None = None,
) -> dict[str, Any]:
    """Give the content of ``evaluation.json``."""
    from ..evaluation.learning import read_learning_curves

    notes = []
    curves = None
    if training is not None:
        learnt = read_learning_curves(training)
        curves = {name: _finite(points) for name, points in learnt.curves.items()} or None
        notes.append(f"{learnt.note[0].upper()}{learnt.note[1:]}.")
    content = evaluation.to_json()
    if content["by_density"] is None:
        notes.append("Figures by breast density are left out: no case has a tissue map or simulator parameters.")
    if free_response is None:
        notes.append("One operating point: a free-response curve needs --data with --thresholds.")
    without_distance = content["cases"] - content["figures"]["hausdorff95_mm"]["cases"]
    if without_distance:
        notes.append(f"Cases with an empty side, so without HD95 and not in its mean: {without_distance}.")
    return {
        "schema": SCHEMA,
        "model": model,
        "threshold": threshold,
        **content,
        "structures": None if structures is None else structures.to_json(),
        "free_response": free_response,
        "calibration": calibration,
        "learning_curves": curves,
        "best": [picture.name for picture in gallery.best],
        "worst": [picture.name for picture in gallery.worst],
        "notes": notes,
    }


def _finite(points: Iterable[tuple[int, float]]) -> list[list[float | None]]:
    """Points of a curve as JSON has them: a loss that is no number is null."""
    return [[step, value if math.isfinite(value) else None] for step, value in points]


def refuse_foreign_files(target: Path) -> None:
    """Refuse, before the work, to replace files of these names that no evaluation has written.

    Parameters
    ----------
    target : Path
        As in `write_evaluation`.

    Raises
    ------
    OutputError
        Names the files.
    """
    is_json = target.name.lower().endswith(".json")
    places = [target] if is_json else [target / name for name in (*FILES, STRUCTURES_FILE)]
    present = [place for place in places if place.is_file() and place.stat().st_size]
    if not present or _is_evaluation(places[0]):
        return
    if is_json:
        raise OutputError(
            f"{target}: is no evaluation, and would be replaced.", hint="Choose another name.", reason="exists"
        )
    raise OutputError(
        f"{target}: holds {', '.join(place.name for place in present)} and no evaluation.json of ours: "
        "they would be replaced.",
        hint="Choose another folder.",
        reason="exists",
    )


def _is_evaluation(path: Path) -> bool:
    """Whether a file is the JSON of an earlier evaluation."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "schema" in content and bool({"figures", "results"} & content.keys())


def write_evaluation(
    target: Path,
    evaluation: Evaluation,
    gallery: Gallery,
    content: dict[str, Any],
    structures: StructureEvaluation | None = None,
) -> Path:
    """Write the files into a folder, or the JSON alone if the name ends with ``.json``.

    Returns
    -------
    Path
        What to open first.

    Raises
    ------
    OutputError
        If something cannot be written.
    """
    from ..evaluation.cases import cases_csv, lesions_csv
    from ..evaluation.structures import structures_csv
    from ..outputs.atomic import atomic_file, atomic_folder
    from ..review import evaluation_page

    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if target.name.lower().endswith(".json"):
        with atomic_file(target) as part:
            part.write_text(text, encoding="utf-8")
        return target
    pages = (
        text,
        cases_csv(evaluation.cases),
        lesions_csv(evaluation.cases),
        evaluation_page(content, best=gallery.best, worst=gallery.worst),
    )
    files = dict(zip(FILES, pages, strict=True))
    if structures is not None:
        files[STRUCTURES_FILE] = structures_csv(structures)
    with atomic_folder(target, (*FILES, STRUCTURES_FILE)) as folder:
        for name, page in files.items():
            (folder / name).write_text(page, encoding="utf-8", errors="backslashreplace")
    return target / "evaluation.html"
