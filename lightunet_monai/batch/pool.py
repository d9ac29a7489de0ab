"""Worker processes of one machine: who has which case, since when, and what it means when one ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Protocol

from ..errors import InferenceError, LightUNetError
from ..inputs.child_process import child_command, child_environment
from .control_groups import memory_limit
from .memory import resident_bytes
from .task import IN_FLIGHT, CaseTask, Event, Lost, Outcome, WorkerPlan

MEMORY_CHECK_SECONDS = 1.0

MEMORY_OF_WORKER = 3 << 30
"""Bytes that a worker may need for a large study."""

ANY_GPU = (None, "cuda")
"""Devices of `RunOptions` that leave open which GPU it is."""

MAX_STARTS_WITHOUT_MODEL = 3
"""A worker that dies this often before its model is open will die again."""


class Pool(Protocol):
    """Where cases are worked on: `LocalPool`, or a dask cluster."""

    model: dict[str, str]

    def submit(self, task: CaseTask) -> bool:
        """Take a case; False if there is no room for it now."""

    def poll(self, seconds: float) -> list[Event]:
        """Wait for news, at most so long."""

    def in_flight(self) -> list[str]:
        """Keys of the cases that are being worked on."""

    def close(self) -> None:
        """End all workers at once."""


@dataclass
class _InFlight:
    task: CaseTask
    stage: str = "wait"
    since: float = field(default_factory=time.monotonic)
    spent: float = 0.0

    def enter(self, stage: str) -> None:
        """Waiting for another case does not count as work."""
        self.spent, self.stage, self.since = self.seconds(), stage, time.monotonic()

    def seconds(self) -> float:
        return self.spent + (time.monotonic() - self.since if self.stage != "wait" else 0.0)


class _Worker:
    """One process and its cases."""

    def __init__(self, plan: WorkerPlan, number: int, threads: int) -> None:
        self.cases: dict[str, _InFlight] = {}
        self.reserved = self.is_ready = self.has_worked = False
        self.pipe, child = Pipe()
        # Libraries print, and what they print may hold a path: it goes nowhere, errors come through the pipe.
        with _blocked_signals():
            self.process = subprocess.Popen(
                child_command(f"{__package__}._worker_process", str(child.fileno())),
                pass_fds=[child.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=worker_environment(plan.options.device, number, threads),
            )
        child.close()
        self.pipe.send(plan)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.pipe.close()


class LocalPool:
    """Worker processes on this machine.

    Parameters
    ----------
    plan : WorkerPlan
    jobs : int
        Processes.
    threads : int
        CPU threads of each.
    timeout : float
        Seconds of work on one case, waiting not counted; 0 for no limit.
    max_memory : int
        Bytes that all workers together may hold; 0 for no limit.
    """

    def __init__(self, plan: WorkerPlan, *, jobs: int, threads: int, timeout: float = 0.0, max_memory: int = 0) -> None:
        self.plan, self.threads, self.timeout, self.max_memory = plan, threads, timeout, max_memory
        self.model: dict[str, str] = {}
        self._failed_starts = 0
        self._checked_memory = 0.0
        self._workers: dict[int, _Worker] = {}
        for number in range(jobs):
            self._start(number)

    def pids(self) -> list[int]:
        """Process numbers of the workers."""
        return [worker.process.pid for worker in self._workers.values()]

    def in_flight(self) -> list[str]:
        """Keys of the cases that are being worked on."""
        return [key for worker in self._workers.values() for key in worker.cases]

    def submit(self, task: CaseTask) -> bool:
        """Take a case; False if there is no room for it now."""
        if not self._has_memory_for(task):
            return False
        worker = self._idle_worker() if task.alone else self._free_worker()
        if worker is None:
            return False
        worker.cases[task.key] = _InFlight(task)
        with contextlib.suppress(OSError):  # it just died: poll finds out, and finds the case among its own
            worker.pipe.send(task)
        return True

    def poll(self, seconds: float) -> list[Event]:
        """Wait for news, at most so long."""
        events: list[Event] = []
        for pipe in wait([worker.pipe for worker in self._workers.values()], timeout=seconds):
            number, worker = next((n, w) for n, w in self._workers.items() if w.pipe is pipe)
            received, is_alive = self._receive(worker)
            events += received
            if not is_alive:
                events += self._bury(number, "died")
        return [*events, *self._end_late(), *self._end_large()]

    def close(self) -> None:
        """End all workers at once."""
        for worker in self._workers.values():
            worker.end()
        self._workers = {}

    def _receive(self, worker: _Worker) -> tuple[list[Event], bool]:
        """Take what a worker has said, and say whether it lives: what it said before it died counts."""
        events: list[Event] = []
        while True:
            try:
                if not worker.pipe.poll():
                    return events, True
                kind, *values = worker.pipe.recv()
            except (EOFError, OSError):
                return events, False
            if kind == "outcome":
                outcome: Outcome = values[0]
                del worker.cases[outcome.key]
                worker.reserved = worker.reserved and bool(worker.cases)
                worker.has_worked = worker.is_ready
                events.append(outcome)
            elif kind == "stage":
                worker.cases[values[0]].enter(values[1])
            elif kind == "ready":
                worker.is_ready, self.model, self._failed_starts = True, values[0], 0
            else:
                error: LightUNetError = values[0]
                raise error

    def _start(self, number: int) -> None:
        try:
            self._workers[number] = _Worker(self.plan, number, self.threads)
        except OSError as error:
            raise InferenceError(
                f"a worker cannot be started: {error.strerror or error}.",
                hint="Free memory, processes or open files may be short; what is finished stays finished.",
                reason="worker",
            ) from error

    def _bury(self, number: int, how: str, guilty: str = "") -> list[Event]:
        """Replace a worker; say for each of its cases whether it may be to blame."""
        worker = self._workers[number]
        worker.end()
        self._failed_starts += not worker.is_ready
        if self._failed_starts >= MAX_STARTS_WITHOUT_MODEL:
            raise self._never_ready(how, worker.process.returncode)
        self._start(number)
        active = [key for key, case in worker.cases.items() if case.stage != "wait"]
        suspects = [guilty] if guilty else active or list(worker.cases)
        is_sure = bool(guilty) or len(worker.cases) == 1
        return [
            Lost(key, how if key in suspects else "died", is_sure and key in suspects, key in suspects)
            for key in worker.cases
        ]

    def _never_ready(self, how: str, exit_code: int) -> InferenceError:
        why, hint = f"exit code {exit_code}", "Try 'lightunet segment' on one study; free memory may be short."
        if how == "memory":
            why = f"the workers passed the memory limit of {self.max_memory / 1e6:.0f} MB"
            hint = "Raise --max-memory, or lower --jobs."
        return InferenceError(
            f"a worker ended {self._failed_starts} times before the model was open: {why}.", hint=hint, reason="worker"
        )

    def _end_late(self) -> list[Event]:
        events: list[Event] = []
        for number, worker in list(self._workers.items()) if self.timeout else ():
            late = [key for key, case in worker.cases.items() if case.seconds() > self.timeout]
            if late:
                events += self._bury(number, "timeout", late[0])
        return events

    def _end_large(self) -> list[Event]:
        now = time.monotonic()
        if not self.max_memory or now - self._checked_memory < MEMORY_CHECK_SECONDS:
            return []
        self._checked_memory = now
        sizes = {number: resident_bytes(worker.process.pid) for number, worker in self._workers.items()}
        if sum(sizes.values()) <= self.max_memory:
            return []
        largest = max(sizes, key=lambda number: sizes[number])
        worker = self._workers[largest]
        # Without a case it may still hold what its last one needed; another one would be as large as one that had none.
        return self._bury(largest, "memory") if worker.cases or worker.has_worked else []

    def _has_memory_for(self, task: CaseTask) -> bool:
        if not self.max_memory:
            return True
        taken = [case.task.memory_bytes for worker in self._workers.values() for case in worker.cases.values()]
        return not taken or sum(taken) + task.memory_bytes <= self.max_memory

    def _free_worker(self) -> _Worker | None:
        free = [w for w in self._workers.values() if not w.reserved and len(w.cases) < IN_FLIGHT]
        return min(free, key=lambda worker: len(worker.cases), default=None)

    def _idle_worker(self) -> _Worker | None:
        """A worker without cases; if there is none, one is reserved until it has finished what it has."""
        chosen = next((w for w in self._workers.values() if w.reserved), None) or min(
            self._workers.values(), key=lambda worker: len(worker.cases)
        )
        chosen.reserved = True
        return None if chosen.cases else chosen


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Let processes that are started now never be told to stop: the parent decides what a signal to the group means."""
    # Inherited, unlike a handler, from the first moment on: a worker imports for seconds.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def worker_environment(device: str | None, number: int, threads: int) -> dict[str, str]:
    """Environment of a worker: of several GPUs it sees one, unless the device names one for all workers."""
    environment = child_environment(OMP_NUM_THREADS=str(threads))
    if device in ANY_GPU and len(gpus := _gpus()) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return environment


def default_jobs(cores: int, device: str | None, max_memory: int = 0) -> int:
    """How many workers suit this machine: one for each GPU, else one for each CPU core that has memory for it.

    Parameters
    ----------
    cores : int
    device : str or None
    max_memory : int
        Bytes that all workers together may hold; 0 for all that there is.
    """
    wants_gpu = device is None or device.startswith("cuda")
    if wants_gpu and (gpus := _gpus()):
        return len(gpus) if device in ANY_GPU else 1
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = 0
    memory = min(filter(None, (memory, max_memory, memory_limit())), default=0)
    return max(1, min(cores, memory // MEMORY_OF_WORKER) if memory else cores // 2)


def _gpus() -> list[str]:
    """Names of the NVIDIA devices that this process may use."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    try:
        return [str(number) for number, _ in enumerate(os.listdir("/proc/driver/nvidia/gpus"))]
    except OSError:
        return []
