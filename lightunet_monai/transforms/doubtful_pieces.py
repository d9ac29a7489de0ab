"""Pieces of which no voxel is sure stay below the threshold."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import cc3d
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UsageError
from ..labels import LESION
from ..segmentation import DOUBTFUL, DoubtfulPiece
from .channels import lesion_margin, margin_at
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
    tissues. Then probabilities are those of the lesion against the rest, and where a piece that is capped, or refused
    by the judge, lies inside the breast, its background logits fall below those of the most probable tissue: what is no
    lesion there is tissue.

    Which pieces were capped is told under ``"doubtful_pieces"``, a list of `DoubtfulPiece`, the surest first, where the
    data hold the volume that gives them a place.

    Parameters
    ----------
    keys : keys of the logits
    threshold, sure_threshold : float
        Calibrated probabilities.
    temperature : float
        As in `RestoreLabelMapd`.
    judge : callable, optional
        Takes the margin (X', Y', Z') of the lesion and the channels of ``image``, ndarrays, and gives the margin in
        which the highest of each piece is its own logit (`PieceJudge`).
    image : key of the volume (C, X', Y', Z') that the judge looks at

    Raises
    ------
    UsageError
        If a threshold is no probability (``sure_threshold`` may be 0), or the judge cannot be called.
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
        if judge is not None and not callable(judge):
            raise UsageError(
                f"piece_judge: found {judge!r}, expected a PieceJudge or none.",
                hint="None is null in a configuration file and None on MONAI's command line.",
            )
        self.judge = judge
        self.image = image
        self.temperature = temperature
        self.drawn = margin_at(threshold, temperature)
        # 0, and all else that is not above the threshold, asks for nothing.
        self.sure = margin_at(sure_threshold, temperature, what="sure_threshold") if sure_threshold != 0 else self.drawn

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Cap each key; other entries pass through."""
        out = dict(data)
        if self.judge is not None:
            for key in self.key_iterator(out):
                out[key] = self._judged(out[key], out[self.image])
        if self.sure > self.drawn:
            for key in self.key_iterator(out):
                out[key] = self._cap(out[key], out)
        return out

    def _judged(self, logits: Tensor, image: Tensor) -> Tensor:
        assert self.judge is not None
        judged = logits.clone()
        plain = judged.as_tensor() if hasattr(judged, "as_tensor") else judged
        margin = lesion_margin(plain).float().cpu().numpy()
        wanted = self.judge(margin, torch.as_tensor(image).float().cpu().numpy())
        if len(plain) > 2:
            pieces = cc3d.connected_components(margin >= self.drawn, connectivity=CONNECTIVITY)
            refused = _highest_in(pieces, wanted) < self.drawn
            plain[0] = _background_below_tissue(plain, pieces, refused)
        plain[LESION] += (torch.from_numpy(wanted).to(plain.device) - lesion_margin(plain).float()).to(plain.dtype)
        return judged

    def _cap(self, logits: Tensor, out: dict[Hashable, Any]) -> Tensor:
        capped = logits.clone()
        plain = capped.as_tensor() if hasattr(capped, "as_tensor") else capped
        margin = lesion_margin(plain).float().cpu().numpy()
        low, sure = self.drawn, self.sure
        pieces = cc3d.connected_components(margin >= low, connectivity=CONNECTIVITY)
        unsure = _highest_in(pieces, margin) < sure
        doubtful = (pieces > 0) & unsure[pieces]
        if self.image in out:
            affine = np.asarray(getattr(out[self.image], "affine", np.eye(4)), dtype=np.float64)
            out[DOUBTFUL] = _list_pieces(np.where(doubtful, pieces, 0), margin, self.temperature, affine)
        if len(plain) == 2:
            excess = np.where(doubtful, margin - (low - BELOW), 0.0).astype(np.float32)
            plain[0] += torch.from_numpy(excess).to(plain.device, plain.dtype)
            return capped
        plain[0] = _background_below_tissue(plain, pieces, unsure)
        over = torch.from_numpy(doubtful).to(plain.device)
        plain[LESION] -= torch.where(over, lesion_margin(plain) - (low - BELOW), 0.0)
        return capped


def _highest_in(pieces: NDArray[np.integer[Any]], margin: NDArray[np.float32]) -> NDArray[np.float32]:
    """The highest margin in each piece, by its number; of number 0 none."""
    highest = np.full(int(pieces.max()) + 1, -np.inf, dtype=np.float32)
    inside = pieces > 0
    np.maximum.at(highest, pieces[inside], margin[inside])
    return highest


def _list_pieces(
    pieces: NDArray[np.integer[Any]], margin: NDArray[np.float32], temperature: float, affine: NDArray[np.float64]
) -> list[DoubtfulPiece]:
    """Describe numbered pieces, the one of the highest probability first."""
    at = np.flatnonzero(pieces)
    numbers, values = pieces.ravel()[at], margin.ravel()[at]
    order = np.lexsort((values, numbers))  # the last of each number is its highest
    last = np.flatnonzero(np.diff(numbers[order], append=0))
    volume = float(abs(np.linalg.det(affine[:3, :3]))) / 1000.0
    found = []
    for end, count in zip(last.tolist(), np.diff(last, prepend=-1).tolist(), strict=True):
        highest = order[end]
        x, y, z = (affine[:3, :3] @ np.unravel_index(at[highest], pieces.shape) + affine[:3, 3]).tolist()
        probability = float(1.0 / (1.0 + np.exp(-values[highest] / temperature)))
        found.append(DoubtfulPiece(probability, count * volume, (x, y, z)))
    return sorted(found, key=lambda piece: -piece.probability)


def _background_below_tissue(plain: Tensor, pieces: NDArray[np.integer[Any]], chosen: NDArray[np.bool_]) -> Tensor:
    """The background's logits, below those of the most probable tissue in chosen pieces that lie inside the breast."""
    best = plain[LESION + 1 :].amax(dim=0)
    tissue = (best > plain[0]).cpu().numpy() & (pieces == 0)
    inner = torch.from_numpy(pieces_inside(np.where(chosen[pieces], pieces, 0), tissue)).to(plain.device)
    return torch.where(inner, torch.minimum(plain[0], best - BELOW), plain[0])
