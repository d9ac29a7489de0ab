"""One process at a time at a folder, where the system has such locks (Windows and some network folders have none).

The lock is on the folder itself and ends with the process: no file is left behind, whatever happens.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from ..errors import OutputError


@contextlib.contextmanager
def locked_folder(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of a folder that is there.

    Parameters
    ----------
    folder : Path
    wait : bool
        Until another process has done; else it is an error if one has the lock.

    Raises
    ------
    OutputError
        If another process works in it.
    """
    if os.name == "nt":
        yield
        return
    fcntl = import_module("fcntl")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise OutputError(
                f"{folder}: another process writes into it.",
                hint="Wait until it has ended, or choose another output folder.",
                reason="in-use",
            ) from error
        except OSError:  # NFS wants a file that is open for writing, some network folders have no locks at all
            pass
        yield
    finally:
        os.close(descriptor)
