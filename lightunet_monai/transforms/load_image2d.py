"""MONAI's way into `inputs` for 2-D images, and out of it as PNG masks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImaged, MapTransform

from ..inputs import load_image2d, load_mask2d
from ..sources import DicomSeries, ImageFile


class LoadImage2Dd(LoadImaged):
    """Load 2-D images through `lightunet_monai.inputs`, with all its checks.

    Under each key it takes a path, an `ImageFile` or an image in memory; an image in memory passes through
    unchanged. Gives `MetaTensor` float32 (1, X, Y, 1), brightness.

    Parameters
    ----------
    keys : keys of the images
    label_keys : keys of masks
        Loaded as 0 and 1, of the size of the first of ``keys``.
    apply_voi : bool
        DICOM: apply the window or VOI LUT of the header.
    allow_missing_keys : bool
        Do not fail on a key that is not there.

    Raises
    ------
    InputError
        Whatever `load_image2d` or `load_mask2d` refuse.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: KeysCollection = (),
        apply_voi: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        # Not LoadImaged's own: it would register MONAI's readers, which this loader must never fall back to.
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.label_keys = (label_keys,) if isinstance(label_keys, str) else tuple(label_keys)
        self.apply_voi = apply_voi

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        """Load each key; other entries pass through. ``reader`` is MONAI's and not used."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self._load(out[key])
        for key in self.label_keys:
            if key in out and not isinstance(out[key], (torch.Tensor, np.ndarray)):
                out[key] = load_mask2d(_path(out[key]), out[self.first_key(out)])
        return out

    def _load(self, item: Any) -> MetaTensor:
        if isinstance(item, (torch.Tensor, np.ndarray)):
            return item if isinstance(item, MetaTensor) else MetaTensor(torch.as_tensor(item))
        return load_image2d(_path(item), apply_voi=self.apply_voi)


def _path(item: Any) -> Path:
    if isinstance(item, DicomSeries):
        return item.paths[0] if len(item.paths) == 1 else item.paths[0].parent
    return item.path if isinstance(item, ImageFile) else Path(item)
