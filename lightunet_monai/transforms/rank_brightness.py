"""Brightness without a scale: how much tissue of the volume is as bright as this voxel or brighter."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from .inner_tissue import inner_tissue

BIN_HU = 1.0
HIGHEST_HU = 4096.0
"""Brighter is metal, and counted as this."""

SMALLEST_TISSUE = 0.02
"""Rank of the darkest tissue: above air, which is 0."""


class RankBrightnessd(MapTransform):
    """Replace Hounsfield units by the rank of brightness among the tissue of the volume, on a logarithmic scale.

    The Hounsfield scale of cone-beam breast CT is off by tens of units from scanner to scanner, and fibroglandular
    tissue differs between women by as much as a tumour differs from it. What stays is the order: a tumour is among
    the brightest few millilitres. So a voxel gets the volume V of counted tissue that is as bright or brighter, as
    ``log(V_max / V) / log(V_max / V_min)``: 1 for the brightest, towards 0 for adipose tissue, 0 for air. Any monotone
    change of the scale leaves the result as it is.

    Takes a `MetaTensor` (1, X, Y, Z) in Hounsfield units with its affine, gives float32 (1, X, Y, Z) in [0, 1], or
    (2, X, Y, Z) with ``hu_range``.

    Parameters
    ----------
    keys : keys of the volumes
    tissue_hu : float
        Above is tissue, below air and lung.
    range_ml : (float, float)
        V_min and V_max, millilitres.
    left_out : callable, optional
        Takes ``{"image": volume}`` and gives, under ``"pred"``, a label map (1, X, Y, Z) on the volume's grid. Where it
        is not 0 a voxel has a rank like every other, but does not count: muscle, bone and implants are often brighter
        than gland, and a tumour cannot rank high behind 200 ml of them, nor a small one behind a large one.
    skin_mm : float
        How deep skin reaches: tissue as near to the outside has a rank like every other, but does not count, as it is
        tens of millilitres and often brighter than gland. Where less than V_min lies deeper, all does.
    hu_range : (float, float), optional
        Adds the Hounsfield units, clipped to this range, as a second channel, which the network does not see: what the
        ranks of a clip, a calcification and a tumour, all among the brightest, no longer tell.
    hu_unit : float
        By which the second channel, counted from the lower end of ``hu_range``, is divided; air is 0 in it, too.
    """

    def __init__(
        self,
        keys: KeysCollection,
        tissue_hu: float,
        range_ml: tuple[float, float],
        left_out: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
        skin_mm: float = 0.0,
        hu_range: tuple[float, float] | None = None,
        hu_unit: float = 1.0,
    ) -> None:
        super().__init__(keys)
        self.hu_range = hu_range
        self.hu_unit = float(hu_unit)
        self.left_out = left_out
        self.skin_mm = float(skin_mm)
        self.tissue_hu = float(tissue_hu)
        self.range_ml = (float(range_ml[0]), float(range_ml[1]))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Rank each key; other entries pass through."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self._rank(out[key])
        return out

    def _rank(self, volume: MetaTensor) -> MetaTensor:
        hu = volume.as_tensor().cpu().numpy()
        linear = np.asarray(volume.affine, dtype=np.float64)[:3, :3]
        voxel_ml = abs(np.linalg.det(linear)) / 1000.0
        edges = np.arange(self.tissue_hu, HIGHEST_HU + BIN_HU, BIN_HU)
        counted = hu[0] > self.tissue_hu
        inner = inner_tissue(counted, round(self.skin_mm / float(np.linalg.norm(linear, axis=0).mean())))
        if self.left_out is not None:
            counted = counted & self._is_counted(volume)
        if np.count_nonzero(inner & counted) * voxel_ml >= self.range_ml[0]:
            counted = inner & counted
        counts = np.histogram(np.clip(hu[0][counted], None, edges[-1]), bins=edges)[0]
        bright_ml = np.append(counts[::-1].cumsum()[::-1], 0) * voxel_ml  # at each edge
        rank = np.interp(hu, edges, self._to_rank(bright_ml)).astype(np.float32)
        if self.hu_range is not None:
            beside = (np.clip(hu, *self.hu_range) - self.hu_range[0]) / np.float32(self.hu_unit)
            rank = np.concatenate([rank, beside])
        rank[:, ~(hu[0] > self.tissue_hu)] = 0.0
        meta = {key: value for key, value in volume.meta.items() if key != "affine"}
        return MetaTensor(torch.from_numpy(rank), affine=volume.affine, meta=meta)

    def _is_counted(self, volume: MetaTensor) -> NDArray[np.bool_]:
        assert self.left_out is not None
        found = self.left_out({"image": volume})["pred"].as_tensor().cpu().numpy()[0]
        counted: NDArray[np.bool_] = found == 0
        return counted

    def _to_rank(self, bright_ml: NDArray[np.float64]) -> NDArray[np.float64]:
        low, high = self.range_ml
        rank: NDArray[np.float64] = np.log(high / np.maximum(bright_ml, low)) / np.log(high / low)
        return np.clip(rank, SMALLEST_TISSUE, 1.0)
