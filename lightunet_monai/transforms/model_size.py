"""From the pixels of a 2-D image to the size of the model, and what is needed to come back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from .model_grid import SOURCE_AFFINE, SOURCE_SHAPE
from .resampling import axis_maps, resample


class ToModelSized(MapTransform):
    """Resample 2-D images so that the longer side has the pixels of the model; remember the source's grid.

    Millimetres play no part: pictures mostly have none. Takes a `MetaTensor` (1, X, Y, 1), gives float32
    (1, X', Y', 1) of the same field of view, axes in place. ``meta["source_affine"]`` and ``meta["source_shape"]``
    keep the grid to come back to, as `RestoreLabelMapd` reads them.

    Parameters
    ----------
    keys : keys of the images
    size : int
        Pixels of the longer side.
    smallest : int
        Fewest pixels of the shorter side.
    label_keys : keys, among ``keys``, of masks
        A mask of 0 and 1 is resampled as a fraction and set to 1 from one half on.
    allow_missing_keys : bool
        Do not fail on a key that is not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int,
        smallest: int,
        label_keys: KeysCollection = (),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = int(size)
        self.smallest = int(smallest)
        self.label_keys = {label_keys} if isinstance(label_keys, str) else set(label_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample each key; other entries pass through."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self._resample(out[key], is_label=key in self.label_keys)
        return out

    def _resample(self, image: MetaTensor, *, is_label: bool) -> MetaTensor:
        affine = np.asarray(image.affine, dtype=np.float64)
        source = tuple(int(n) for n in image.shape[1:])
        step = max(source[:2]) / self.size
        shape = (*(max(self.smallest, round(n / step)) for n in source[:2]), source[2])
        to_source = np.eye(4)  # index on the model's grid to index of the source; the outer edges coincide
        for axis in range(2):
            ratio = source[axis] / shape[axis]
            to_source[axis, axis], to_source[axis, 3] = ratio, (ratio - 1) / 2
        grid = affine @ to_source
        resampled = resample(image.as_tensor()[0], axis_maps(affine, grid), shape)
        if is_label:
            resampled = (resampled >= 0.5).float()
        meta = {key: value for key, value in image.meta.items() if key != "affine"}
        meta[SOURCE_AFFINE] = torch.as_tensor(affine)
        meta[SOURCE_SHAPE] = torch.as_tensor(source)
        meta["spatial_shape"] = np.asarray(shape)
        return MetaTensor(resampled[None], affine=torch.as_tensor(grid), meta=meta)
