"""Temporary folders of runs, exports and installations."""

from __future__ import annotations

import os
import tempfile

import slicer

from .errors import cannotWrite

FOLDER_PREFIX = "lightunet-"


def makeTemporaryFolder():
    """Make a folder that a `Job` owns, in Slicer's folder for temporary files where there is one; give its path.

    Raises
    ------
    ModuleError
        If it cannot be made: the disk is full, or the folder above is missing or not ours.
    """
    parent = _temporaryPath()
    try:
        return tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent)
    except OSError as error:
        raise cannotWrite(parent or "The folder for temporary files", error) from error


def _temporaryPath():
    """Slicer's folder for temporary files where there is one, else None: the system's."""
    application = getattr(slicer, "app", None)
    path = getattr(application, "temporaryPath", None)
    return path if isinstance(path, str) and os.path.isdir(path) else None
