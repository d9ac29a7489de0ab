"""What a container or a scheduler leaves this process of its machine: limits of its control groups on Linux.

``docker --cpus 2`` narrows no set of CPU cores, but gives a quota of time; with more workers than it pays for, all of
them are stopped for a part of each period.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def usable_cores(root: Path = ROOT, own: Path = OWN) -> int:
    """Give the number of CPU cores that this process may use: of its set of cores, and of its quota, rounded up.

    Parameters
    ----------
    root : Path
        Where control groups are mounted, of version 1 or 2.
    own : Path
        Names those of this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([float(cores), *_quotas(root, own)])))


def memory_limit(root: Path = ROOT, own: Path = OWN) -> int:
    """Give the bytes that this process and those beside it in its control groups may hold; 0 without a limit.

    Parameters
    ----------
    root, own : Path
        As in `usable_cores`.
    """
    names = ("memory.max", "memory.limit_in_bytes")
    texts = [_words(folder / name) for folder in _groups("memory", root, own) for name in names]
    return min((int(words[0]) for words in texts if words and words[0].isdecimal()), default=0)


def _quotas(root: Path, own: Path) -> Iterator[float]:
    """CPU cores by quota, of each group that has one."""
    for folder in _groups("cpu", root, own):
        words = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):  # "max" and -1 are none
            yield int(words[0]) / int(words[1])


def _groups(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """Folders of the groups that limit this process, its own first; in a container not all of them are there."""
    try:
        lines = own.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for number, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if number == "0" and not controllers:
            base = root
        elif controller in controllers.split(","):
            base = root / controllers if (root / controllers).is_dir() else root / controller
        else:
            continue
        inner = Path(path.lstrip("/"))
        yield from (base / part for part in dict.fromkeys((inner, *inner.parents)))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []
