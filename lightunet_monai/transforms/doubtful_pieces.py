"""Pieces of which no voxel is sure stay below the threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import cc3d
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from ..labels import LESION
from .channels import lesion_margin
from .pieces import CONNECTIVITY, pieces_inside

BELOW = 0.01
"""How far below the threshold, in logits before the temperature: too little to see, enough to decide."""


class CapDoubtfulPiecesd(MapTransform):
    """Keep a connected piece only if the network, or a judge, is sure of it: a threshold with hysteresis.

    One threshold has two tasks that pull apart: where a tumour ends (the best contour is at a low probability), and
    whether there is one at all (a false alarm is one that nowhere gets a high probability). So pieces are drawn at
    ``threshold``, and those whose highest probability is below ``sure_threshold`` are capped just below
    ``threshold``, in the logits: label map, probability map and any later threshold agree on it.

    Takes and gives logits (K, X', Y', Z') on the model's grid: background, lesion and, with more than two channels,
    tissues. Then probabilities are those of the lesion against the rest, and where a capped piece lies inside the
    breast its background logits fall below those of the most probable tissue: what is no lesion there is tissue.

    Parameters
    ----------
    keys : keys of the logits
    threshold, sure_threshold : float
        Calibrated probabilities.
    temperature : float
        As in `RestoreLabelMapd`.
    judge : callable, optional
        Takes the margin (X', Y', Z') of the lesion and the channels of ``image``, ndarrays, and gives the margin in
        which the highest of each piece is its own logit (`PieceJudge`). With two channels of logits only.
    image : key of the volume (C, X', Y', Z') that the judge looks at
    """

    def __init__(
        self,
        keys: KeysCollection,
        threshold: float,
        sure_threshold: float,
        temperature: float = 1.0,
        judge: Callable[[Any, Any], Any] | None = None,
        image: Hashable = "image",
    ) -> None:
        super().__init__(keys)
        self.judge = judge
        self.image = image
        self.threshold = threshold
        self.sure_threshold = sure_threshold
        self.temperature = temperature

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Cap each key; other entries pass through."""
        out = dict(data)
        if self.judge is not None:
            for key in self.key_iterator(out):
                out[key] = self._judged(out[key], out[self.image])
        if self.sure_threshold > self.threshold:
            for key in self.key_iterator(out):
                out[key] = self._cap(out[key])
        return out

    def _judged(self, logits: Tensor, image: Tensor) -> Tensor:
        assert self.judge is not None
        plain = logits.as_tensor() if hasattr(logits, "as_tensor") else logits
        margin = lesion_margin(plain).float().cpu().numpy()
        change = self.judge(margin, torch.as_tensor(image).float().cpu().numpy()) - margin
        judged = logits.clone()
        judged[LESION] += torch.from_numpy(change).to(plain.device, plain.dtype)
        return judged

    def _cap(self, logits: Tensor) -> Tensor:
        plain = logits.as_tensor() if hasattr(logits, "as_tensor") else logits
        margin = lesion_margin(plain).float().cpu().numpy()
        low, sure = (self.temperature * math.log(p / (1 - p)) for p in (self.threshold, self.sure_threshold))
        pieces = cc3d.connected_components(margin >= low, connectivity=CONNECTIVITY)
        highest = np.full(int(pieces.max()) + 1, -np.inf, dtype=np.float32)
        inside = pieces > 0
        np.maximum.at(highest, pieces[inside], margin[inside])
        doubtful = inside & (highest < sure)[pieces]
        capped = logits.clone()
        if plain.shape[0] == 2:
            excess = np.where(doubtful, margin - (low - BELOW), 0.0).astype(np.float32)
            capped[0] += torch.from_numpy(excess).to(plain.device, plain.dtype)
            return capped
        best = plain[LESION + 1 :].amax(dim=0)
        tissue = (best > plain[0]).cpu().numpy()
        inner = torch.from_numpy(pieces_inside(np.where(doubtful, pieces, 0), tissue & ~inside)).to(plain.device)
        capped[0] = torch.where(inner, torch.minimum(plain[0], best - BELOW), plain[0])
        after = lesion_margin(capped.as_tensor() if hasattr(capped, "as_tensor") else capped)
        over = torch.from_numpy(doubtful).to(plain.device)
        capped[LESION] -= torch.where(over, after - (low - BELOW), 0.0)
        return capped
