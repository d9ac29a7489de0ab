"""Packages that make it faster and may be missing, and those that are kept out."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from .engine import EngineUnavailableError
from .startup import hidden_modules


def is_installed(module: str) -> bool:
    """Say whether a module can be found, without importing it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def version_of(package: str) -> str:
    """Give the version of a package without importing it; empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


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


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which sends an event over the network on every import.

    Raises
    ------
    EngineUnavailableError
        If OpenVINO is not installed.
    """
    with hidden_modules("openvino_telemetry"):  # OpenVINO then takes its own stub
        return import_optional("openvino", "engine openvino", "openvino")
