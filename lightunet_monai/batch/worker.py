"""A worker process of one machine: cases come in and outcomes go out through a pipe."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from ..errors import LightUNetError
from .deidentify import deidentify_case
from .runner import CaseRunner
from .task import IN_FLIGHT, CaseTask, WorkerPlan

OOM_SCORE = "600"
"""When the machine runs out of memory the system ends a worker, never the process that keeps the ledger."""


def main(descriptor: int) -> None:
    """Work until the other end of the pipe is closed.

    Parameters
    ----------
    descriptor : int
        File descriptor of the pipe.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    pipe: Connection = Connection(descriptor)
    plan: WorkerPlan = pipe.recv()
    runner = CaseRunner(plan, finish_of(plan))
    lock = threading.Lock()

    def send(*message: object) -> None:
        with lock, contextlib.suppress(OSError):
            pipe.send(message)

    def open_model() -> None:
        try:
            send("ready", runner.model())
        except LightUNetError as error:
            send("broken", error)

    def work(task: CaseTask) -> None:
        send("outcome", runner.run(task, lambda key, stage: send("stage", key, stage)))

    threading.Thread(target=open_model, daemon=True).start()
    pool = ThreadPoolExecutor(IN_FLIGHT)
    try:
        while True:
            pool.submit(work, pipe.recv())
    except EOFError:  # the parent is gone or has closed the pipe: nobody waits for what is in flight
        os._exit(0)


def finish_of(plan: WorkerPlan) -> Callable[[Path, CaseTask], None] | None:
    """What is done to the files of a result before it is published."""
    if not plan.deidentify:
        return None
    return lambda staging, task: deidentify_case(staging, secret=plan.deidentify)
