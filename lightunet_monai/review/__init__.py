"""A case as a page: pictures for a first look."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .overview import write_overview

__all__ = ["write_overview"]


def __getattr__(name: str) -> object:
    # matplotlib takes most of a second to load, and most callers draw nothing.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.overview"), name)
