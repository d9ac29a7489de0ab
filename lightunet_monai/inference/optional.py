"""Packages that make it faster and may be missing."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .engine import EngineUnavailableError


def is_installed(module: str) -> bool:
    """Say whether a module can be found, without importing it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def import_optional(module: str, feature: str, extra: str) -> Any:
    """Import an optional module.

    Raises
    ------
    EngineUnavailableError
        With the feature that needs it and the extra that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise EngineUnavailableError(
            f"{feature} needs the package {module}: pip install 'lightunet_monai[{extra}]'"
        ) from error
