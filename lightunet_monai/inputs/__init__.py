"""A study on disk becomes one checked volume.

    sources = discover_sources("study/")
    source = choose_series(sources)
    volume = load_volume(source)

Names are imported when they are first used: finding out what is in a folder needs neither torch nor MONAI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .choose import choose_series
    from .discover import Survey, discover_sources, survey
    from .hounsfield import Volume, read_hu
    from .image2d import load_image2d, load_mask2d
    from .kinds import SetAside
    from .regularize import Regularization, plan_regularization
    from .volume import load_volume

_HOMES = {
    "choose_series": "choose",
    "discover_sources": "discover",
    "survey": "discover",
    "Survey": "discover",
    "SetAside": "kinds",
    "read_hu": "hounsfield",
    "Volume": "hounsfield",
    "load_image2d": "image2d",
    "load_mask2d": "image2d",
    "plan_regularization": "regularize",
    "Regularization": "regularize",
    "load_volume": "volume",
}

__all__ = [
    "Regularization",
    "SetAside",
    "Survey",
    "Volume",
    "choose_series",
    "discover_sources",
    "load_image2d",
    "load_mask2d",
    "load_volume",
    "plan_regularization",
    "read_hu",
    "survey",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
