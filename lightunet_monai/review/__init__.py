"""A case as a page: pictures for a first look; an evaluation as a page."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .comparison import draw_comparison
    from .overview import write_overview
    from .page import CasePicture, evaluation_page
    from .picture_overview import write_picture_overview

# The page takes matplotlib, which takes most of a second to load; most callers draw only pictures, or nothing.
_HOMES = {
    "CasePicture": "page",
    "draw_comparison": "comparison",
    "evaluation_page": "page",
    "write_overview": "overview",
    "write_picture_overview": "picture_overview",
}

__all__ = ["CasePicture", "draw_comparison", "evaluation_page", "write_overview", "write_picture_overview"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
