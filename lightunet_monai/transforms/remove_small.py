"""Pieces too small to be a lesion leave the label map."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import cc3d
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from ..labels import LESION
from .pieces import CONNECTIVITY, pieces_inside


class RemoveSmallPiecesd(MapTransform):
    """Set connected pieces of a label map to background whose volume is below that of a small sphere.

    Takes and gives a `MetaTensor` of uint8 (1, X, Y, Z); the affine tells the volume of a voxel.

    Parameters
    ----------
    keys : keys of the label maps
    minimum_diameter : float
        Diameter of the sphere, mm; 0 removes nothing.
    minimum_share : float
        Also remove pieces below this share of all voxels, for pictures that have no millimetres.
    otherwise_key : str, optional
        Where `RestoreLabelMapd` put the most probable tissue; taken out of the data. Then only pieces of the lesion
        (label 1) are removed, and inside the breast they become that tissue and not background.
    """

    def __init__(
        self,
        keys: KeysCollection,
        minimum_diameter: float = 0.0,
        minimum_share: float = 0.0,
        otherwise_key: str | None = None,
    ) -> None:
        super().__init__(keys)
        self.otherwise_key = otherwise_key
        self.minimum_diameter = minimum_diameter
        self.minimum_share = minimum_share

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Clean each key; other entries pass through."""
        out = dict(data)
        otherwise = None if self.otherwise_key is None else out.pop(self.otherwise_key).as_tensor()[0]
        for key in self.key_iterator(out):
            out[key] = self._clean(out[key], otherwise)
        return out

    def _clean(self, label_map: MetaTensor, otherwise: torch.Tensor | None) -> MetaTensor:
        labels = label_map.as_tensor()[0]
        box = _box(labels) if otherwise is None else _box(labels == LESION, margin=1)
        voxel_volume = abs(np.linalg.det(np.asarray(label_map.affine, dtype=np.float64)[:3, :3]))
        fewest = math.ceil(math.pi / 6 * self.minimum_diameter**3 / voxel_volume)
        fewest = max(fewest, math.ceil(self.minimum_share * labels.numel()))
        if box is None or fewest <= 1:
            return label_map
        part = np.asfortranarray(labels[box].cpu().numpy())
        if otherwise is None:
            kept = cc3d.dust(part, threshold=fewest, connectivity=CONNECTIVITY, in_place=False)
        else:
            kept = _without_small_lesions(part, otherwise[box].cpu().numpy(), fewest)
        if np.array_equal(kept, part):
            return label_map
        cleaned: MetaTensor = label_map.clone()
        cleaned.as_tensor()[0][box] = torch.from_numpy(np.ascontiguousarray(kept)).to(labels.device)
        return cleaned


def _without_small_lesions(labels: NDArray[np.uint8], otherwise: NDArray[np.uint8], fewest: int) -> NDArray[np.uint8]:
    lesion = labels == LESION
    small = lesion & ~cc3d.dust(lesion, threshold=fewest, connectivity=CONNECTIVITY, in_place=False).astype(bool)
    pieces = cc3d.connected_components(small, connectivity=CONNECTIVITY)
    inside = pieces_inside(pieces, (labels > 0) & ~lesion)
    kept: NDArray[np.uint8] = np.where(small, np.where(inside, otherwise, 0), labels).astype(np.uint8)
    return kept


def _box(labels: torch.Tensor, margin: int = 0) -> tuple[slice, ...] | None:
    sides = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        used = labels.amax(dim=others).nonzero().flatten()
        if used.numel() == 0:
            return None
        sides.append(slice(max(0, int(used[0]) - margin), int(used[-1]) + 1 + margin))
    return tuple(sides)
