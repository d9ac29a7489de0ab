"""A volume becomes a segmentation, through the bundle's own parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]


def __getattr__(name: str) -> Any:
    # torch and MONAI take seconds to import; --help must not wait for them.
    if name in __all__:
        from . import predictor

        return getattr(predictor, name)
    raise AttributeError(name)
