"""Tumour label maps of breast CT volumes. Research use only, not for diagnosis.

>>> from lightunet_monai import Predictor
>>> segmentation = Predictor().segment("study/").segmentation
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy_names

if TYPE_CHECKING:
    from .errors import LightUNetError
    from .inference import Prediction, Predictor
    from .inputs import choose_series, discover_sources, load_volume
    from .labels import Label, LabelTable
    from .options import RunOptions
    from .segmentation import Segmentation
    from .sources import DicomSeries, ImageFile, ImageSource

__version__ = "0.1.0"

# The command line must not wait for torch.
_HOMES = {
    "DicomSeries": "sources",
    "ImageFile": "sources",
    "ImageSource": "sources",
    "Label": "labels",
    "LabelTable": "labels",
    "LightUNetError": "errors",
    "Prediction": "inference",
    "Predictor": "inference",
    "RunOptions": "options",
    "Segmentation": "segmentation",
    "choose_series": "inputs",
    "discover_sources": "inputs",
    "load_volume": "inputs",
}

__all__ = [
    "DicomSeries",
    "ImageFile",
    "ImageSource",
    "Label",
    "LabelTable",
    "LightUNetError",
    "Prediction",
    "Predictor",
    "RunOptions",
    "Segmentation",
    "choose_series",
    "discover_sources",
    "load_volume",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
