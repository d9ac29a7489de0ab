"""Learning curves of a training: from its TensorBoard event files, else from its progress lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

EVENT_FILES = "events.out.tfevents.*"
LOG_SUFFIXES = (".log", ".jsonl", ".txt")
LOGGED = ("loss", "val_dice")
"""Fields of a progress line of ``lightunet train --progress json``, by epoch."""

Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class LearningCurves:
    """What a training wrote down while it ran.

    Parameters
    ----------
    curves : dict
        Pairs of step and value by name; the step is an iteration or an epoch, as the training counted. Of several
        trainings below one folder the name begins with that of its own.
    note : str
        Why there are none, or where they came from.
    """

    curves: dict[str, Curve]
    note: str


def read_learning_curves(folder: Path) -> LearningCurves:
    """Read the curves of a training.

    Parameters
    ----------
    folder : Path
        What ``lightunet train -o`` wrote, or where its standard output was kept as ``.log``, ``.jsonl`` or ``.txt``.

    Returns
    -------
    LearningCurves
        Without curves, and with the reason, if the folder holds none or the package ``tensorboard`` is missing.
    """
    has_events, why = any(folder.rglob(EVENT_FILES)), ""
    if has_events:
        try:
            curves, why = _read_events(folder), "the event files hold no curve that can be read"
        except ImportError:
            curves, why = {}, "the package tensorboard is not installed (pip install 'lightunet_monai[train]')"
        if curves:
            return LearningCurves(curves, "learning curves from TensorBoard event files")
    curves = _read_logs(folder)
    if curves:
        return LearningCurves(curves, "learning curves from progress lines of the training")
    if has_events:
        return LearningCurves({}, f"no learning curves: {why}")
    return LearningCurves({}, f"no learning curves: {folder.name} holds no event files and no progress lines")


def _read_events(folder: Path) -> dict[str, Curve]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, dict[int, float]] = {}
    places = sorted({path.parent for path in folder.rglob(EVENT_FILES)})
    for place in places:
        training = "" if len(places) == 1 else f"{place.relative_to(folder).as_posix()}: "
        events = EventAccumulator(str(place), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            points = {int(event.step): float(event.value) for event in events.Scalars(tag)}
            found.setdefault(f"{training}{tag}", {}).update(points)
    return {tag: tuple(sorted(points.items())) for tag, points in sorted(found.items())}


def _read_logs(folder: Path) -> dict[str, Curve]:
    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_file() and path.suffix.lower() in LOG_SUFFIXES:
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                _take_line(line, found)
    return {name: tuple(sorted(points.items())) for name, points in found.items()}


def _take_line(line: str, found: dict[str, dict[int, float]]) -> None:
    if not line.startswith("{"):
        return
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return  # a library's line, or one that was cut off
    if event.get("event") == "progress" and isinstance(event.get("epoch"), int):
        for name in LOGGED:
            if isinstance(event.get(name), (int, float)):
                found.setdefault(name, {})[event["epoch"]] = float(event[name])
