"""Which Python runs the package, and in which environment."""

from __future__ import annotations

import os
import shutil
import sys

import slicer

_SLICER_VARIABLES = ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Set by Slicer's launcher for its own Python; another Python would load the wrong libraries with them."""


def defaultInterpreter():
    """Give the path of Slicer's own Python: PythonSlicer where it is on the path, else the running program."""
    return shutil.which("PythonSlicer") or sys.executable


def chooseInterpreter(setting=""):
    """Give the program that runs the package.

    Parameters
    ----------
    setting : str
        Program the user chose: a Python of another environment, or a script that forwards its arguments to a Python
        on another computer which shares the folder for temporary files. Empty for Slicer's own.
    """
    return str(setting).strip() or defaultInterpreter()


def isOwnInterpreter(setting=""):
    """Tell whether the package runs in Slicer's own Python, which is the only one that Setup installs into."""
    return chooseInterpreter(setting) == defaultInterpreter()


def childEnvironment(setting=""):
    """Give the environment of the child process, a new dict."""
    if isOwnInterpreter(setting):
        environment = dict(os.environ)
    else:
        try:
            environment = dict(slicer.util.startupEnvironment())
        except (AttributeError, RuntimeError):  # outside of a complete Slicer
            environment = dict(os.environ)
        for name in _SLICER_VARIABLES:
            environment.pop(name, None)
    environment["PYTHONSAFEPATH"] = "1"  # never a module from the folder in which Slicer was started
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8"
    return environment
