"""Workers of a dask cluster: the same cases and events as `LocalPool`, on many machines.

pool = open_cluster("slurm", plan, workers=8)
pool = open_cluster("tcp://host:8786", plan)

Every worker must see the input, the output folder and the bundle at the same path as this process, and have this
package in the same version. One worker process does one case at a time: start one for each GPU. dask's connections
are neither encrypted nor authenticated unless its own settings say so; the paths of the sources and the secret of
the UID mapping travel over them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InferenceError, UsageError
from .cluster_start import CASE, KINDS, ClusterSettings, import_dask, quieten, start_cluster
from .cluster_worker import Answer, marker_of, read_marker, work
from .pool import MAX_STARTS_WITHOUT_MODEL
from .task import CaseTask, Event, Lost, WorkerPlan

RESOURCES = (CASE, "GPU")
"""dask resources that limit the cases on a worker, the first that any worker offers; ours have one of the first."""

TASKS_PER_WORKER = 2
"""In flight for each worker: one that is worked on and one that waits."""

CONNECT_SECONDS = 10.0
FETCH_SECONDS = 5.0
SURVEY_SECONDS = 2.0
"""How long to try to reach a scheduler once, to fetch one answer, and how often to count the workers."""


def open_cluster(kind_or_address: str, plan: WorkerPlan, settings: ClusterSettings | None = None) -> ClusterPool:
    """Start a cluster, or connect to a running scheduler.

    Parameters
    ----------
    kind_or_address : str
        One of `KINDS`, or the address of a scheduler, such as ``tcp://host:8786``.
    plan : WorkerPlan
    settings : ClusterSettings, optional

    Returns
    -------
    ClusterPool

    Raises
    ------
    UsageError
        If the kind is unknown, its extra is missing, or no scheduler or no worker is there.
    """
    settings = settings or ClusterSettings()
    quieten()
    if "://" in kind_or_address:
        import_dask("distributed", "cluster")
        return ClusterPool(kind_or_address, plan, reconnect_seconds=settings.reconnect_seconds)
    if kind_or_address not in KINDS:
        raise UsageError(
            f"cluster: found {kind_or_address!r}, expected one of {', '.join(KINDS)}.",
            hint="A running scheduler is named by its address, such as tcp://host:8786.",
        )
    cluster = start_cluster(kind_or_address, settings)
    try:
        return ClusterPool(
            cluster.scheduler_address,
            plan,
            cluster=cluster,
            reconnect_seconds=settings.reconnect_seconds,
            may_queue=kind_or_address != "local",
        )
    except BaseException:
        cluster.close()
        raise


class ClusterPool:
    """Worker processes of a dask cluster, behind the protocol `Pool`.

    A worker that dies is replaced by dask, if it was started with a nanny, as it is unless asked otherwise.

    Parameters
    ----------
    address : str
        Of the scheduler.
    plan : WorkerPlan
        Its ``timeout`` is kept by the worker, which ends itself.
    cluster : object, optional
        Closed with the pool.
    reconnect_seconds : float
        How long the scheduler may be away, or be without workers.
    may_queue : bool
        Workers may be waiting for their turn in a queue: being without them is no error.

    Attributes
    ----------
    model : dict of str
        What the workers run; empty until the first answer.
    dashboard_link : str
        Address of dask's dashboard.

    Raises
    ------
    UsageError
        If no scheduler answers at the address.
    """

    def __init__(
        self,
        address: str,
        plan: WorkerPlan,
        *,
        cluster: Any = None,
        reconnect_seconds: float = 120.0,
        may_queue: bool = False,
    ) -> None:
        self.model: dict[str, str] = {}
        self._address, self._plan, self._cluster = address, plan, cluster
        self._reconnect_seconds, self._may_queue = reconnect_seconds, may_queue
        self._token, self._attempts = secrets.token_hex(4), 0
        self._flying: dict[str, _Flying] = {}
        self._slots, self._resource = 0, ""
        self._surveyed, self._away_since = 0.0, time.monotonic()
        self._dead_workers: set[str] = set()
        try:
            self._client = _connect(address)
        except (*_CONNECTION_ERRORS, *_NO_SCHEDULER) as error:
            raise UsageError(
                f"no dask scheduler answers at {address}.",
                hint="Start one with 'dask scheduler', or check the address, such as tcp://host:8786. "
                "With tls:// dask's own settings name the certificates.",
            ) from error
        self.dashboard_link = str(self._client.dashboard_link or "")
        marker_of(plan, "", "").parent.mkdir(parents=True, exist_ok=True)

    def submit(self, task: CaseTask) -> bool:
        """Take a case; False if there is no room for it now."""
        if not self._is_connected():
            return False
        self._survey()
        if len(self._flying) >= TASKS_PER_WORKER * self._slots:
            return False
        self._attempts += 1
        # A scheduler may serve several runs, and two tasks of one name would be one task to it.
        attempt = f"{self._attempts}-{self._token}"
        future = self._client.submit(
            work,
            self._plan,
            task,
            attempt,
            key=f"lightunet-{task.key}-{attempt}",
            resources={self._resource: 1} if self._resource else None,
            retries=0,
            pure=False,
        )
        self._flying[task.key] = _Flying(future, marker_of(self._plan, task.key, attempt))
        return True

    def poll(self, seconds: float) -> list[Event]:
        """Wait for news, at most so long.

        Raises
        ------
        InferenceError
            If the scheduler stays away, or has no workers for too long.
        LightUNetError
            If a worker cannot open the model, or does not see the output folder.
        """
        if not self._is_connected():
            return self._lose_all() or self._reconnect(seconds)
        self._survey()
        self._wait(seconds)
        events: list[Event] = []
        for key, flying in list(self._flying.items()):
            if flying.future.status != "pending" and (event := self._event(key, flying)):
                events.append(event)
                del self._flying[key]
                flying.future.release()
                flying.marker.unlink(missing_ok=True)
        return events

    def in_flight(self) -> list[str]:
        """Keys of the cases that are being worked on."""
        return list(self._flying)

    def close(self) -> None:
        """Cancel what is in flight; end the client, and the cluster if it is ours."""
        with contextlib.suppress(*_CONNECTION_ERRORS):
            if self._flying and self._is_connected():
                self._client.cancel([flying.future for flying in self._flying.values()], force=True)
        self._flying = {}
        _disconnect(self._client)
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def _is_connected(self) -> bool:
        return bool(self._client.status == "running")

    def _wait(self, seconds: float) -> None:
        if not self._flying:
            time.sleep(seconds)
            return
        futures = [flying.future for flying in self._flying.values()]
        # What became of each is looked at one by one.
        with contextlib.suppress(*_CONNECTION_ERRORS), self._client.as_current():
            import_dask("distributed", "cluster").wait(futures, timeout=seconds, return_when="FIRST_COMPLETED")

    def _event(self, key: str, flying: _Flying) -> Event | None:
        """Say what became of a case; None if that is not known yet."""
        if flying.future.status in ("cancelled", "lost"):
            return Lost(key, "cluster", False, False)
        try:
            answer: Answer = flying.future.result(timeout=FETCH_SECONDS)
        except import_dask("distributed", "cluster").scheduler.KilledWorker as error:
            self._note_dead_worker(str(error.last_worker.address))
            how = read_marker(flying.marker)
            return Lost(key, how or "died", bool(how), bool(how))
        except TimeoutError:  # the answer went with its worker, and dask makes it again
            return None
        except _CONNECTION_ERRORS:
            return Lost(key, "cluster", False, False)
        except Exception as error:  # our function raises nothing, so it was not reached
            raise InferenceError(
                f"the workers cannot run a case: {type(error).__name__}.",
                hint="Install the same version of lightunet_monai on all workers.",
                reason="worker",
            ) from None
        if answer.broken is not None:
            raise answer.broken
        self.model = answer.model or self.model
        self._dead_workers.clear()
        return Lost(key, answer.lost, True, True) if answer.lost else answer.outcome

    def _note_dead_worker(self, address: str) -> None:
        self._dead_workers.add(address)
        if not self.model and len(self._dead_workers) >= MAX_STARTS_WITHOUT_MODEL:
            raise InferenceError(
                f"{len(self._dead_workers)} workers ended before the model was open.",
                hint="Try 'lightunet segment' on one study on such a machine; free memory may be short.",
                reason="worker",
            )

    def _lose_all(self) -> list[Event]:
        """Give up what is in flight: a scheduler that comes back knows nothing of it."""
        lost: list[Event] = [Lost(key, "cluster", False, False) for key in self._flying]
        self._flying = {}
        return lost

    def _reconnect(self, seconds: float) -> list[Event]:
        """Try once to reach the scheduler again."""
        _disconnect(self._client)
        try:
            self._client = _connect(self._address)
        except (*_CONNECTION_ERRORS, *_NO_SCHEDULER) as error:
            if time.monotonic() - self._away_since > self._reconnect_seconds:
                raise InferenceError(
                    f"the dask scheduler has been away for {self._reconnect_seconds:.0f} s.",
                    hint="Start it again and repeat the command; what is finished stays finished.",
                    reason="cluster",
                ) from error
            time.sleep(min(seconds, 1.0))
            return []
        self._surveyed, self._away_since = 0.0, time.monotonic()
        return []

    def _survey(self) -> None:
        """Count the workers, now and then, and learn which resource limits the cases on them."""
        now = time.monotonic()
        if now - self._surveyed < SURVEY_SECONDS:
            return
        self._surveyed = now
        with contextlib.suppress(*_CONNECTION_ERRORS):
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
            offers = [worker.get("resources") or {} for worker in workers]
            self._resource = next((name for name in RESOURCES if any(name in offer for offer in offers)), "")
            self._slots = sum(self._resource in offer for offer in offers) if self._resource else len(offers)
        if self._slots:
            self._away_since = now
        elif not self._may_queue and now - self._away_since > self._reconnect_seconds:
            raise InferenceError(
                f"the dask scheduler has had no worker for {self._reconnect_seconds:.0f} s.",
                hint=f"Start workers with 'dask worker {self._address} --nthreads 1 --resources case=1'.",
                reason="cluster",
            )


@dataclass(frozen=True)
class _Flying:
    """A case on its way: dask's future and the marker of the attempt."""

    future: Any
    marker: Path


_CONNECTION_ERRORS: tuple[type[BaseException], ...] = (
    OSError, TimeoutError, asyncio.TimeoutError, CancelledError, RuntimeError,
)  # fmt: skip
"""distributed's own errors of communication are of these classes; RuntimeError: the client's loop has ended. The time
limits of asyncio have a class of their own before Python 3.11."""

_NO_SCHEDULER: tuple[type[BaseException], ...] = (ValueError, TypeError, AssertionError, MemoryError)
"""What distributed raises on an address that is none, without settings for TLS, and on what another server says."""


def _connect(address: str) -> Any:
    """Connect, or give up in time: distributed waits without end for a server that takes the connection and is mute.

    A client is made only where a scheduler has answered. One that fails closes itself when Python collects it, which
    may be in the middle of another client's start, and then waits for a lock that its own thread holds.
    """
    distributed = import_dask("distributed", "cluster")
    answer: Future[Any] = Future()

    async def greet() -> None:
        security = distributed.Security().get_connection_args("client")
        async with distributed.rpc(address, timeout=CONNECT_SECONDS, connection_args=security) as server:
            await server.identity(n_workers=0)  # a worker counts no workers and refuses the argument

    def connect() -> None:
        client, failed = None, None
        try:
            asyncio.run(asyncio.wait_for(greet(), CONNECT_SECONDS))
            client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except BaseException as error:
            failed = error
        if not answer.set_running_or_notify_cancel():  # nobody waits any more
            if client is not None:
                _disconnect(client)
        elif failed is not None:
            answer.set_exception(failed)
        else:
            answer.set_result(client)

    with _calm():
        thread = threading.Thread(target=connect, name="connect", daemon=True)
        thread.start()
        thread.join(2 * CONNECT_SECONDS + FETCH_SECONDS)
        if answer.cancel():
            raise TimeoutError(f"{address}: no answer.")
        return answer.result()


def _disconnect(client: Any) -> None:
    with _calm(), contextlib.suppress(*_CONNECTION_ERRORS):
        client.close(timeout=CONNECT_SECONDS)


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Keep dask from telling on the terminal that a connection failed: the pool tells it."""
    loggers = [logging.getLogger(name) for name in ("distributed.client", "distributed.protocol.core")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)  # the greeting of another server is critical to dask
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
