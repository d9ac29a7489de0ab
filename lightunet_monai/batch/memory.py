"""Resident memory of processes and their children, from ``/proc``; 0 where the system has none."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def resident_bytes(pid: int) -> int:
    """Resident memory of a process with all its descendants."""
    total, waiting = 0, [pid]
    while waiting:
        current = waiting.pop()
        try:
            total += int(Path(f"/proc/{current}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
            for task in os.listdir(f"/proc/{current}/task"):
                children = Path(f"/proc/{current}/task/{task}/children").read_text(encoding="ascii")
                waiting += map(int, children.split())
        except (OSError, ValueError, IndexError):
            continue
    return total
