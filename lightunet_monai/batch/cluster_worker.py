"""One case on a worker of a dask cluster; what dask calls and what travels back.

A marker on the shared file system, ``.work/RUN/KEY-ATTEMPT.started``, says that an attempt has begun. dask runs a task
again when its worker dies, whether the task ran there or only waited: the marker tells one from the other, so a case
that ends its worker runs once, and a case that waited behind it is not blamed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import LightUNetError, UsageError
from .causes import unexpected
from .publish import WORK
from .runner import CaseRunner
from .task import CaseTask, Outcome, WorkerPlan
from .worker import finish_of

WATCH_SECONDS = 0.25
"""How often the clock of a case is looked at."""

LEAVE_SECONDS = 2.0
"""A worker that is sent away in an orderly manner takes its marker back within this time."""

_one_case = threading.Lock()
"""One case at a time in a process, however many threads dask gives it: a worker that dies then has one suspect."""

_opened: list[CaseRunner] = []
"""The runner of the latest plan; a worker may outlive many runs, and each holds a model."""


@dataclass(frozen=True)
class Answer:
    """What a worker says about an attempt.

    Parameters
    ----------
    outcome : Outcome or None
    model : dict
        Name, version and weights, as `CaseRunner.model`.
    broken : LightUNetError or None
        The worker cannot work at all.
    lost : str
        ``"died"`` or ``"timeout"``: the attempt began before, and its worker is gone.
    """

    outcome: Outcome | None = None
    model: dict[str, str] = field(default_factory=dict)
    broken: LightUNetError | None = None
    lost: str = ""


def work(plan: WorkerPlan, task: CaseTask, attempt: str) -> Answer:
    """Do one attempt at a case in this process.

    Nothing is raised: dask would write arguments and the text of the exception to its log.
    """
    try:
        with _one_case, _silence():
            return _work(plan, task, marker_of(plan, task.key, attempt))
    except LightUNetError as error:
        return Answer(broken=error)
    except BaseException as error:
        return Answer(Outcome(task.key, cause=unexpected(error)))


def marker_of(plan: WorkerPlan, key: str, attempt: str) -> Path:
    """Name the file that says that an attempt has begun."""
    return plan.out / WORK / plan.run / f"{key}-{attempt}.started"


def read_marker(marker: Path) -> str:
    """Say what became of an attempt whose worker is gone: ``"died"``, ``"timeout"``, or nothing if it never began."""
    try:
        return "timeout" if marker.read_text(encoding="ascii") == "timeout" else "died"
    except OSError:
        return ""


def _work(plan: WorkerPlan, task: CaseTask, marker: Path) -> Answer:
    if not marker.parent.is_dir():
        raise UsageError(
            "a worker does not see the output folder.",
            hint="Workers of a cluster need the input and the output folder at the same path as this machine.",
            reason="not-shared",
        )
    runner = _runner(plan)
    model = runner.model()
    if before := _began_before(marker):
        return Answer(model=model, lost=before)
    done = threading.Event()
    threading.Thread(target=_watch, args=(marker, plan.timeout, done, _is_leaving()), daemon=True).start()
    try:
        return Answer(runner.run(task), model)
    finally:
        done.set()
        marker.unlink(missing_ok=True)


def _runner(plan: WorkerPlan) -> CaseRunner:
    """Give the runner of this plan; a model that could not be opened is tried again."""
    if not _opened or _opened[0].plan != plan:
        _opened[:] = [CaseRunner(plan, finish_of(plan))]
    try:
        _opened[0].model()
    except LightUNetError:
        return _opened.pop()
    return _opened[0]


def _began_before(marker: Path) -> str:
    """Make the marker; if it is there already, say what became of the attempt that made it."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while True:
        try:
            with marker.open("x", encoding="ascii") as stream:
                stream.write(str(os.getpid()))
            return ""
        except FileExistsError:
            if time.monotonic() > deadline:
                return read_marker(marker) or "died"
            time.sleep(WATCH_SECONDS)


def _watch(marker: Path, timeout: float, done: threading.Event, is_leaving: Callable[[], bool]) -> None:
    """End this process when a case takes too long: a thread cannot be stopped."""
    end = time.monotonic() + timeout
    while not done.wait(min(WATCH_SECONDS, timeout or WATCH_SECONDS)):
        if timeout and time.monotonic() > end:
            with contextlib.suppress(OSError):
                marker.write_text("timeout", encoding="ascii")
            os._exit(1)
        if is_leaving():  # dask gives the case to another worker, which shall find no marker
            marker.unlink(missing_ok=True)
            return


def _is_leaving() -> Callable[[], bool]:
    from distributed import get_worker

    worker = get_worker()
    return lambda: worker.status.name in ("closing", "closing_gracefully", "closed", "stopping")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Send what libraries print nowhere: it may hold a path, and a cluster keeps it in a log.

    Standard output stays closed, as libraries in C print what they have buffered much later; dask's log is the error
    stream, which is buffered by Python alone.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
