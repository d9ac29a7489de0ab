"""Progress for people (a bar on standard error) and for programs (a JSON object a line on standard output)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

SCHEMA = 1
"""Of the JSON lines; raised when a field changes its meaning or goes away."""

STAGE_TITLES = {
    "read": "reading",
    "open": "opening the model",
    "prepare": "preparing",
    "infer": "segmenting",
    "restore": "restoring the grid",
    "measure": "measuring",
    "write": "writing",
}

BAR_WIDTH = 30
MINIMUM_INTERVAL_SECONDS = 0.1

Reporter = Callable[[str, float], None]


def choose_reporter(kind: str) -> Reporter:
    """Give a function that is told (stage, fraction done).

    Parameters
    ----------
    kind : str
        ``"bar"``, ``"json"``, ``"none"`` or ``"auto"``: a bar where standard error is a terminal.

    Returns
    -------
    callable
    """
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "none"
    kinds: dict[str, Callable[[], Reporter]] = {"bar": _Bar, "json": _JsonLines, "none": _Silence}
    return kinds[kind]()


def end_bar() -> None:
    """End the line of a bar, where one is unfinished: what is printed next gets a line of its own."""
    if _Bar.is_open:
        print(file=sys.stderr, flush=True)
        _Bar.is_open = False


def print_event(event: str, **values: Any) -> None:
    """Write one JSON line to standard output."""
    print(json.dumps({"schema": SCHEMA, "event": event, **values}, ensure_ascii=False), flush=True)


class _Silence:
    def __call__(self, stage: str, fraction: float) -> None:
        pass


class _Clock:
    """Seconds left of a stage, from what was done since it was first heard of: a resumed one does not start at 0."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.stage = ""
        self.started = 0.0
        self.first = 0.0
        self.last = 0.0

    def left(self, stage: str, fraction: float) -> float | None:
        now = self.now()
        if stage != self.stage:
            self.stage, self.started, self.first = stage, now, fraction
        if fraction >= 1:
            return 0.0
        if fraction <= self.first:
            return None
        return (now - self.started) * (1 - fraction) / (fraction - self.first)

    def is_due(self, stage: str, fraction: float) -> bool:
        now = self.now()
        if stage == self.stage and fraction < 1 and now - self.last < MINIMUM_INTERVAL_SECONDS:
            return False
        self.last = now
        return True


class _JsonLines:
    def __init__(self) -> None:
        self.clock = _Clock()

    def __call__(self, stage: str, fraction: float) -> None:
        if self.clock.is_due(stage, fraction):
            left = self.clock.left(stage, fraction)
            print_event(
                "progress",
                stage=stage,
                fraction=round(fraction, 4),
                seconds_left=None if left is None else round(left, 1),
            )


class _Bar:
    is_open = False
    """Whether the line on standard error, one for the whole process, holds a bar that has not ended."""

    def __init__(self) -> None:
        self.clock = _Clock()

    def __call__(self, stage: str, fraction: float) -> None:
        if not self.clock.is_due(stage, fraction):
            return
        is_new = stage != self.clock.stage and self.clock.stage
        left = self.clock.left(stage, fraction)
        filled = round(BAR_WIDTH * fraction)
        bar = "#" * filled + "." * (BAR_WIDTH - filled)
        rest = f" {left:4.0f} s left" if left is not None and fraction < 1 else " " * 12
        print("\n" if is_new else "\r", file=sys.stderr, end="")
        print(f"{STAGE_TITLES.get(stage, stage):<20}[{bar}]{rest}", file=sys.stderr, end="", flush=True)
        _Bar.is_open = True
        if stage == "write" and fraction >= 1:
            end_bar()
