"""Child processes of this package import this very package, and nothing from the folder that the user is in.

That folder may be a study from outside, and a ``numpy.py`` in it would be run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE_FOLDER = Path(__file__).resolve().parents[2]
"""Holds the package; a working folder for children that open no file by a relative path."""

_RUN_MODULE = (
    "import sys; sys.path[:] = [folder for folder in sys.path if folder]; "
    "import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
)
"""Like ``python -m``, which puts the working folder before all others; only Python 3.11 can be told not to."""


def child_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this package as a process of its own."""
    return [sys.executable, "-c", _RUN_MODULE.format(module=module), *arguments]


def child_environment(**values: str) -> dict[str, str]:
    """The environment of a child process: that of this one, with some values of its own."""
    # An empty entry would be the working folder, a relative one is meant from ours.
    inherited = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path = os.pathsep.join((str(PACKAGE_FOLDER), *inherited))
    return {**os.environ, **values, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
