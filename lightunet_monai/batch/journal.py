"""What a run tells while it works: a JSON line for each event, and figures for Prometheus.

Events name cases by their keys; no path, UID or name of a patient is in them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import import_module
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .driver import Progress
from .memory import resident_bytes
from .publish import LOGS
from .tables import STATES

SCHEMA = 1
LOOPBACK = "127.0.0.1"

MAX_BYTES, BACKUPS = 10 << 20, 5
"""Of a run's log: a run that watches for months keeps the last 60 MB."""

_LEVELS = {
    "failed": logging.ERROR,
    "retry": logging.WARNING,
    "recovered": logging.WARNING,
    "kept": logging.WARNING,
    "lost": logging.WARNING,
}


class Journal:
    """The log of one run, ``logs/RUN.jsonl``, a JSON object a line.

    Parameters
    ----------
    out : Path
        Output folder of the batch.
    run : str
        Name of the run.
    """

    def __init__(self, out: Path, run: str) -> None:
        folder = out / LOGS
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{run}.jsonl"
        self._handler = RotatingFileHandler(
            self.path, maxBytes=MAX_BYTES, backupCount=BACKUPS, encoding="utf-8", delay=True
        )

    def write(self, event: str, facts: Mapping[str, Any]) -> None:
        """Add a line."""
        level = _LEVELS.get(event, logging.INFO)
        values = {
            "schema": SCHEMA,
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "level": logging.getLevelName(level).lower(),
            "event": event,
            **facts,
        }
        line = json.dumps(values, ensure_ascii=False)
        self._handler.emit(logging.LogRecord("batch", level, "", 0, line, (), None))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()


class Metrics:
    """Figures of a run in Prometheus' format, served on loopback under ``/metrics``.

    Parameters
    ----------
    port : int
        0 takes a free one.

    Raises
    ------
    UsageError
        If the extra ``metrics`` is not installed, or the port is taken.
    """

    def __init__(self, port: int, pid: int) -> None:
        try:
            prometheus = import_module("prometheus_client")
        except ImportError as error:
            raise UsageError(
                "option --metrics-port needs the package prometheus-client.",
                hint="pip install 'lightunet_monai[metrics]'",
            ) from error
        self._pid = pid
        registry = prometheus.CollectorRegistry()
        self._cases = prometheus.Gauge("lightunet_cases", "Cases by state.", ["state"], registry=registry)
        self._finished = prometheus.Counter("lightunet_finished", "Cases finished by this run.", registry=registry)
        self._failed = prometheus.Counter("lightunet_failed", "Attempts that failed.", ["reason"], registry=registry)
        self._seconds = prometheus.Histogram(
            "lightunet_stage_seconds",
            "Seconds a case spends in a stage.",
            ["stage"],
            buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000),
            registry=registry,
        )
        self._last = prometheus.Gauge("lightunet_last_done_timestamp_seconds", "Last result.", registry=registry)
        self._memory = prometheus.Gauge("lightunet_resident_bytes", "Memory of all processes.", registry=registry)
        try:
            self._server, self._thread = prometheus.start_http_server(port, addr=LOOPBACK, registry=registry)
        except OSError as error:
            raise UsageError(
                f"option --metrics-port: port {port} cannot be opened: {error.strerror}.", hint="Choose another port."
            ) from error
        self.port: int = self._server.server_port

    def note(self, event: str, facts: Mapping[str, Any]) -> None:
        """Count an event."""
        if event == "progress":
            state: Progress = facts["state"]
            for name in STATES:
                self._cases.labels(name).set(state.counts[name])
            self._memory.set(resident_bytes(self._pid))
        elif event == "done":
            self._finished.inc()
            self._last.set_to_current_time()
            for stage, seconds in facts.get("stages", {}).items():
                self._seconds.labels(stage).observe(seconds)
        elif event in ("failed", "retry"):
            self._failed.labels(facts["reason"]).inc()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
