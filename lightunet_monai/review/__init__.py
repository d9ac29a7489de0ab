"""A case as a page: pictures for a first look; an evaluation as a page."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .comparison import draw_comparison
    from .overview import write_overview
    from .page import CasePicture, evaluation_page
    from .picture_overview import write_picture_overview

_HOMES = {
    "CasePicture": "page",
    "draw_comparison": "comparison",
    "evaluation_page": "page",
    "write_overview": "overview",
    "write_picture_overview": "picture_overview",
}

__all__ = ["CasePicture", "draw_comparison", "evaluation_page", "write_overview", "write_picture_overview"]


def __getattr__(name: str) -> object:
    # The page takes matplotlib, which takes most of a second to load; most callers draw only pictures, or nothing.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
