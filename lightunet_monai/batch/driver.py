"""From a root to results: which case is next, what its outcome means, when it is over.

This process holds no volume and no model. It keeps the ledger, feeds the workers, and may be killed at any moment.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty
from typing import Any

from ..errors import LightUNetError, OutputError
from ..outputs.atomic import as_output_error, check_folder
from .causes import Cause
from .feed import Feed, FoundCase, Surveyed, Watch
from .ledger import Ledger
from .pool import Pool
from .publish import CASES, facts_of, model_of, read_result, remove_leftovers
from .task import CaseTask, Event, Lost
from .units import Unit

POLL_SECONDS = 0.2
HEARTBEAT_SECONDS = 5.0
PENDING = 64
"""Cases that wait in memory; while there are more, no further unit is taken over."""

MINIMUM_FREE_BYTES = 200 << 20
"""With less free space in the output folder no case is begun: all of them would fail."""

_LOST = {
    "died": (
        "WorkerDied",
        "worker-died",
        "the worker process ended while it worked on this case.",
        "Memory may have run out: try 'lightunet segment' on it alone.",
    ),
    "timeout": (
        "Timeout",
        "timeout",
        "took longer than the time limit of a case.",
        "Raise --timeout, and run again with --retry-failed.",
    ),
    "memory": (
        "MemoryLimit",
        "memory-limit",
        "the workers passed the memory limit while this case was worked on.",
        "Raise --max-memory or lower --jobs, and run again with --retry-failed.",
    ),
}


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Parameters
    ----------
    counts : dict
        Cases by state; those of earlier runs are in it.
    done_now : int
        Cases that this run has finished.
    seconds : float
        Since this run began.
    is_surveyed : bool
        Every unit has been looked at: no more cases will be found. Never so while watching.
    """

    counts: dict[str, int]
    done_now: int
    seconds: float
    is_surveyed: bool

    @property
    def per_hour(self) -> float:
        """Cases an hour, of this run."""
        return 3600.0 * self.done_now / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate for what has been found; None before the first case is done."""
        left = self.counts["found"] + self.counts["running"]
        return left * self.seconds / self.done_now if self.done_now else None


Tell = Callable[[str, dict[str, Any]], None]
"""Told (event, facts): ``"done"``, ``"failed"``, ``"retry"``, ``"skipped"``, ``"recovered"``, ``"kept"``, ``"lost"``,
``"progress"``."""


@dataclass
class Batch:
    """One run over a root.

    Parameters
    ----------
    look : callable
        Lists the units.
    ledger : Ledger
        Opened by this run.
    pool : Pool
    retries : int
        Attempts after the first for cases whose failure may pass.
    retry_failed : bool
        Try again what an earlier run gave up.
    watch : Watch, optional
    tell : callable
    holds : callable
        Whether a unit of this place is part of this run's work.
    """

    look: Callable[[], Iterator[Unit]]
    ledger: Ledger
    pool: Pool
    retries: int = 2
    retry_failed: bool = False
    watch: Watch | None = None
    tell: Tell = lambda event, facts: None
    holds: Callable[[str], bool] = lambda place: True

    _pending: deque[CaseTask] = field(default_factory=deque)
    _claimed: dict[str, CaseTask] = field(default_factory=dict)
    _waiting: CaseTask | None = None
    _seen: set[str] = field(default_factory=set)
    _done: int = 0

    def run(self, stop: threading.Event) -> Progress:
        """Work until everything is at its end, or for ever if watching; what is in flight is finished after `stop`.

        Raises
        ------
        LightUNetError
            If the root cannot be listed, the model cannot be opened, or the output folder cannot be used.
        """
        self._begin()
        feed = Feed(self.look, self.ledger.path.parent, self.watch)
        feed.start()
        try:
            return self._loop(feed, stop)
        finally:
            feed.stop()

    def _begin(self) -> None:
        out = self.ledger.path.parent
        remove_leftovers(out, self.ledger.living_runs())
        for row in list(self.ledger.cases()):
            if row.state != "done":
                continue
            if read_result(out, row.key, thorough=False) is not None:
                if not row.final:  # it was taken away, and has come back
                    self.ledger.close_done(row.key)
            else:
                is_gone = not os.path.lexists(out / CASES / row.key)
                self.ledger.reopen(row.key, is_gone=is_gone)
                if row.final or not is_gone:
                    self.tell("recovered", {"case": row.key, "why": "its result is gone or was changed"})
        if self.retry_failed:
            self.ledger.reopen_failed()

    def _loop(self, feed: Feed, stop: threading.Event) -> Progress:
        started = heartbeat = time.monotonic()
        is_surveyed = False
        while True:
            if not stop.is_set():
                is_surveyed = self._take_over(feed, is_surveyed)
                self._submit()
            elif self._waiting is not None:  # claimed, but no worker has it yet
                self.ledger.release(self._claimed.pop(self._waiting.key).key)
                self._waiting = None
            for event in self.pool.poll(POLL_SECONDS):
                self._note(event)
            if time.monotonic() - heartbeat > HEARTBEAT_SECONDS:
                heartbeat = time.monotonic()
                self.ledger.heartbeat()
                self.ledger.recover()
            state = Progress(self.ledger.counts(), self._done, time.monotonic() - started, is_surveyed)
            self.tell("progress", {"state": state})
            if not self._claimed and (stop.is_set() or (is_surveyed and not self._pending)):
                if stop.is_set() or not self._goes_on(feed):
                    return state
                is_surveyed = False

    def _goes_on(self, feed: Feed) -> bool:
        """Say whether there may be more: another pass finds what a dead run left behind, and copies of bad files."""
        worked, self._seen = bool(self._seen), set()
        if worked and self.ledger.has_waiting(retries=self.retries):
            feed.again()
            return True
        return False

    def _take_over(self, feed: Feed, is_surveyed: bool) -> bool:
        """Take over what the feed has found; say whether there will be no more."""
        while len(self._pending) < PENDING and not is_surveyed:
            try:
                item = feed.queue.get_nowait()
            except Empty:
                return False
            if isinstance(item, LightUNetError):
                self.ledger.check_in_place()  # a folder that has gone away is what to tell, not what the survey missed
                raise item
            if isinstance(item, Surveyed):
                self._enter(item)
                continue
            for key in self.ledger.leave_out_lost(item.places, self.holds):
                self.tell("lost", {"case": key})
            if self.watch is None:
                return True
            # What is in flight, however long, keeps no new study waiting.
            self._seen = {*self._claimed, *(task.key for task in self._pending)}
            feed.again(self._seen)
        return is_surveyed

    def _enter(self, found: Surveyed) -> None:
        for case in found.cases:
            record = self._failure(case.key, case.series, case.cause) if case.cause else None
            self.ledger.add(
                case.key,
                found.unit.place,
                case.series,
                case.cause,
                whole=case.whole,
                former=case.former,
                skipped=case.is_skipped,
                record=record,
            )
            if case.source is not None:
                self._queue(case, found.unit.place)
            elif case.cause is not None and case.key not in self._seen:
                self.tell("skipped" if case.is_skipped else "failed", {"case": case.key, **_said(case.cause)})
        self.ledger.set_surveyed(found.unit.place, found.signature, {case.key for case in found.cases})

    def _queue(self, case: FoundCase, place: str) -> None:
        row = self.ledger.case(case.key)
        is_over = (row is not None and row.final) or self.ledger.has_failed_at(case.key, place)
        if case.source is None or is_over or case.key in self._claimed or case.key in self._seen:
            return
        self._seen.add(case.key)
        self._pending.append(CaseTask(case.key, place, case.series, case.source))

    def _submit(self) -> None:
        while self._waiting is not None or self._pending:
            if self._waiting is None:
                task = self._pending.popleft()
                self._check_space()
                if not self.ledger.claim(task.key, retries=self.retries, place=task.place):
                    continue  # another run has it, or had it
                self._claimed[task.key] = task
                if not self._is_there(task):
                    self._waiting = task
            if self._waiting is not None:
                if not self.pool.submit(self._waiting):
                    return
                self._waiting = None

    def _is_there(self, task: CaseTask) -> bool:
        """Enter a result that was moved to its place just before its run died."""
        report = read_result(self.ledger.path.parent, task.key)
        if report is None:
            return False
        self._note_done(self._claimed.pop(task.key), facts_of(report), model_of(report))
        return True

    def _check_space(self) -> None:
        self.ledger.check_in_place()
        out = self.ledger.path.parent
        with as_output_error(out):
            free = shutil.disk_usage(out).free
        if free < MINIMUM_FREE_BYTES:
            raise OutputError(
                f"{out}: {free >> 20} MB are free, expected {MINIMUM_FREE_BYTES >> 20} MB or more.",
                hint="Make room and run again: finished cases stay finished.",
                reason="disk-full",
            )

    def _note(self, event: Event) -> None:
        self.ledger.check_in_place()  # else the result is not beside the ledger
        task = self._claimed.pop(event.key)
        if isinstance(event, Lost):
            self._note_lost(task, event)
        elif event.cause is None:
            if event.kept:
                self.tell("kept", {"case": task.key, "folder": event.kept})
            self._note_done(task, event.facts or {}, self.pool.model)
        else:
            self._note_failed(task, event.cause)

    def _note_done(self, task: CaseTask, facts: dict[str, Any], model: dict[str, str]) -> None:
        record = {"event": "segmented", "case": task.key, "series": task.series, **model}
        if self.ledger.finish(task.key, facts, record):
            self._done += 1
            self.tell("done", {"case": task.key, **facts})

    def _note_failed(self, task: CaseTask, cause: Cause, *, alone: bool = False) -> None:
        record = self._failure(task.key, task.series, cause)
        again = self.ledger.fail(task.key, cause, retries=self.retries, record=record)
        self.tell("retry" if again else "failed", {"case": task.key, **_said(cause)})
        if again:
            self._pending.append(replace(task, alone=alone or task.alone))

    def _failure(self, key: str, series: str, cause: Cause) -> dict[str, str]:
        """The line of the audit log for a case that has failed; before a model is open none is named."""
        return {"event": "failed", "case": key, "series": series, "reason": cause.reason, **self.pool.model}

    def _note_lost(self, task: CaseTask, event: Lost) -> None:
        if event.is_sure and event.how in _LOST:
            self._note_failed(task, Cause(*_LOST[event.how], may_pass=True), alone=True)
            return
        # Several cases were in the process: each is tried again, and a suspect alone, so that the next loss has a name.
        self.ledger.release(task.key)
        self.tell("retry", {"case": task.key, "kind": "Interrupted", "reason": event.how, "message": ""})
        self._pending.appendleft(replace(task, alone=task.alone or event.is_suspect))


def _said(cause: Cause) -> dict[str, str]:
    return {"kind": cause.kind, "reason": cause.reason, "message": cause.message, "hint": cause.hint}


def plan_folder(out: Path) -> Path:
    """Make an output folder that can be written to; give its absolute path.

    Raises
    ------
    OutputError
        If it cannot be made or written to.
    """
    out = out.absolute()
    check_folder(out)
    with as_output_error(out):
        out.mkdir(parents=True, exist_ok=True)
    return out
