"""Which process owns a case, and whether it still lives."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

LEASE_SECONDS = 300.0
"""A run on another machine that has not said for so long that it lives is taken for dead; it says so every 5 s. So is
one whose last sign is that far in the future: the clock was wrong when it died, and may stay behind it for years."""


@dataclass(frozen=True)
class Owner:
    """A process, so that nothing else is ever mistaken for it.

    Parameters
    ----------
    run : str
        Random name of this run.
    host : str
        Hash of machine, boot and process namespace: process numbers mean something only within these.
    pid : int
    started : str
        When the process started, in the system's own units; a reused process number differs in it.
    """

    run: str
    host: str
    pid: int
    started: str

    @classmethod
    def of_this_process(cls) -> Owner:
        """Describe the calling process."""
        return cls(uuid.uuid4().hex[:12], _host(), os.getpid(), _started(os.getpid()))

    def is_alive(self, heartbeat_age: float) -> bool:
        """Say whether the process lives, exactly on its own machine, by its last sign of life from elsewhere.

        Parameters
        ----------
        heartbeat_age : float
            Seconds since its last sign of life.
        """
        if self.host != _host():
            return abs(heartbeat_age) < LEASE_SECONDS
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        # A process of another account may hide its facts: it exists, and more cannot be known.
        return _started(self.pid) in (self.started, "") and not _is_zombie(self.pid)


def _host() -> str:
    facts = [socket.gethostname(), platform.node()]
    for name in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id"):
        try:
            facts.append(Path(name).read_text(encoding="ascii").strip())
        except OSError:
            continue
    with contextlib.suppress(OSError):
        facts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _stat_fields(pid: int) -> list[str]:
    try:
        # The command's name stands in parentheses and may hold spaces.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _started(pid: int) -> str:
    fields = _stat_fields(pid)
    return fields[19] if len(fields) > 19 else ""


def _is_zombie(pid: int) -> bool:
    return _stat_fields(pid)[:1] in (["Z"], ["X"])
