"""Settings of the application: programs and folders, which never come from a scene."""

from __future__ import annotations

import os

import qt

GROUP = "LightUNetSegmentation"


def readSetting(name, otherwise=""):
    """Give a setting, a str."""
    value = qt.QSettings().value(f"{GROUP}/{name}", otherwise)
    return otherwise if value is None else str(value)


def writeSetting(name, value):
    """Keep a setting."""
    qt.QSettings().setValue(f"{GROUP}/{name}", str(value))


def casesFolder():
    """Give the folder of training cases and models; by default in the documents of the user."""
    return readSetting("casesFolder") or os.path.join(os.path.expanduser("~"), "LightUNetSegmentation")
