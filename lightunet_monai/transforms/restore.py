"""From logits on the model's grid back to the source's grid: label map or probability."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from ..labels import LESION
from .channels import lesion_margin, margin_at, rest_of
from .model_grid import SOURCE_AFFINE, SOURCE_SHAPE
from .resampling import axis_maps, axis_weights
from .slab_download import SlabDownload

SLAB = 16
"""Source slices restored at once; bounds the memory and changes no voxel."""


class RestoreLabelMapd(MapTransform):
    """Turn logits on the model's grid into a label map on the source's grid.

    With two channels the logit of the structure against background, linearly interpolated between voxel
    centres, is compared with the one of the threshold: sub-voxel contours, no staircase. With more channels the
    same is done with the logit of the lesion (channel 1) against the rest; elsewhere the label is the other channel
    with the largest interpolated logit. So a voxel below the threshold is never lesion, and no other threshold exists.

    Takes logits (K, X', Y', Z') under each key and a `MetaTensor` under ``reference`` that went through
    `ToModelGridd`; gives a `MetaTensor` of uint8 (1, X, Y, Z) with the affine of the source.

    Parameters
    ----------
    keys : keys of the logits
    reference : str
        Key of the volume on the model's grid.
    threshold : float
        Calibrated probability from which on a voxel belongs to the lesion.
    temperature : float
        Logits are divided by it before the sigmoid (Guo et al. 2017, arXiv:1706.04599).
    otherwise_key : str, optional
        With more than two channels, where to put the label map of the most probable tissue (neither lesion nor
        background), for what is taken from the lesion afterwards.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reference: str = "image",
        threshold: float = 0.5,
        temperature: float = 1.0,
        otherwise_key: str | None = None,
    ) -> None:
        super().__init__(keys)
        self.reference = reference
        self.cut = margin_at(threshold, temperature)
        self.otherwise_key = otherwise_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore each key; other entries pass through."""
        out = dict(data)
        for key in self.key_iterator(out):
            logits = _plain(out[key])
            grid = _SourceGrid(out[self.reference])
            if logits.shape[0] == 2:
                label_map = _threshold(lesion_margin(logits), grid, self.cut)
            else:
                label_map, tissue = _with_tissues(logits, grid, self.cut)
                if self.otherwise_key is not None:
                    out[self.otherwise_key] = grid.wrap(tissue)
            out[key] = grid.wrap(label_map)
        return out


class RestoreProbabilityd(MapTransform):
    """Turn logits on the model's grid into the probability of a lesion on the source's grid.

    Takes and gives what `RestoreLabelMapd` does, with float32 probabilities in place of labels; the
    probability is the sigmoid of the interpolated logit of the lesion (channel 1) against the rest.

    Parameters
    ----------
    keys, reference, temperature
        As in `RestoreLabelMapd`.
    """

    def __init__(self, keys: KeysCollection, reference: str = "image", temperature: float = 1.0) -> None:
        super().__init__(keys)
        margin_at(0.5, temperature)  # refuses what is no temperature
        self.reference = reference
        self.temperature = temperature

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore each key; other entries pass through."""
        out = dict(data)
        for key in self.key_iterator(out):
            logits = _plain(out[key])
            grid = _SourceGrid(out[self.reference])
            margin = lesion_margin(logits) / self.temperature
            probability = torch.empty(grid.planes_shape, dtype=torch.float32)
            with SlabDownload() as download:
                for start, stop, slab in grid.slabs(margin):
                    download.put(probability[start:stop], torch.sigmoid(slab))
            out[key] = grid.wrap(probability)
        return out


class _SourceGrid:
    """The grid a volume came from, and interpolation to it."""

    def __init__(self, reference: MetaTensor) -> None:
        self.meta = reference.meta
        self.affine = np.asarray(self.meta[SOURCE_AFFINE], dtype=np.float64).reshape(4, 4)
        self.shape = tuple(int(n) for n in np.asarray(self.meta[SOURCE_SHAPE]).reshape(-1))
        model_affine = np.asarray(reference.affine, dtype=np.float64).reshape(4, 4)
        self.maps = axis_maps(model_affine, self.affine)
        model_shape = tuple(reference.shape[-3:])
        self.weights = [
            axis_weights(m, model_shape[m.source_axis], n, antialias=False)
            for m, n in zip(self.maps, self.shape, strict=True)
        ]

    @property
    def planes_shape(self) -> tuple[int, int, int]:
        return self.shape[2], self.shape[1], self.shape[0]

    def slabs(self, field: Tensor, box: tuple[slice, slice, slice] | None = None) -> Iterator[tuple[int, int, Tensor]]:
        """Give (start, stop, values (z, Y, X)) of a field (..., X', Y', Z'), inside a box of source voxels."""
        x, y, z = box or (slice(0, self.shape[0]), slice(0, self.shape[1]), slice(0, self.shape[2]))
        wx, wy, wz = (w[s].to(field.device) for w, s in zip(self.weights, (x, y, z), strict=True))
        lead = field.dim() - 3
        axes = [lead + m.source_axis for m in self.maps]
        field = field.permute(*range(lead), axes[2], axes[1], axes[0]).float()  # (..., Z', Y', X') in source order
        for start in range(0, wz.shape[0], SLAB):
            rows = wz[start : start + SLAB]
            used = rows.any(dim=0).nonzero().flatten()
            low, high = int(used[0]), int(used[-1]) + 1
            part = torch.einsum("zc,...cyx->...zyx", rows[:, low:high], field[..., low:high, :, :])
            part = torch.matmul(torch.matmul(wy, part), wx.T)  # (..., z, Y, X)
            yield z.start + start, z.start + start + rows.shape[0], part

    def box(self, mask: Tensor) -> tuple[slice, slice, slice] | None:
        """Smallest box of source voxels that any true voxel of a mask on the model's grid can reach; None for none."""
        if not bool(mask.any()):
            return None
        sides = []
        for weights, axis in zip(self.weights, self.maps, strict=True):
            others = [a for a in range(3) if a != axis.source_axis]
            line = mask.amax(dim=others).cpu()
            reached = ((weights > 0) & line[None, :]).any(dim=1).nonzero().flatten()
            if reached.numel() == 0:  # between two source slices that lie more than two voxels of the model apart
                return None
            sides.append(slice(int(reached[0]), int(reached[-1]) + 1))
        return sides[0], sides[1], sides[2]

    def wrap(self, planes: Tensor) -> MetaTensor:
        """(Z, Y, X) to a `MetaTensor` (1, X, Y, Z) with the source's affine."""
        meta = {key: value for key, value in self.meta.items() if key not in (SOURCE_AFFINE, SOURCE_SHAPE, "affine")}
        meta["spatial_shape"] = np.asarray(self.shape)
        return MetaTensor(planes.permute(2, 1, 0)[None], affine=torch.as_tensor(self.affine), meta=meta)


def _threshold(margin: Tensor, grid: _SourceGrid, cut: float) -> Tensor:
    label_map = torch.zeros(grid.planes_shape, dtype=torch.uint8)
    # An interpolated value never exceeds its neighbours, so only the box around voxels above the cut can hold labels.
    box = grid.box(margin >= cut)
    if box is not None:
        with SlabDownload() as download:
            for start, stop, slab in grid.slabs(margin, box):
                download.put(label_map[start:stop, box[1], box[0]], slab >= cut)
    return label_map


def _with_tissues(logits: Tensor, grid: _SourceGrid, cut: float) -> tuple[Tensor, Tensor]:
    """Give the label map, and that of the most probable tissue."""
    label_map = torch.zeros(grid.planes_shape, dtype=torch.uint8)
    tissue = torch.zeros(grid.planes_shape, dtype=torch.uint8)
    fields = torch.cat([lesion_margin(logits)[None], rest_of(logits)])  # margin, background, tissues
    with SlabDownload() as download:
        for start, stop, slab in grid.slabs(fields):  # (K, z, Y, X)
            best, channel = slab[2:].max(dim=0)
            likely = channel + LESION + 1
            labels = torch.where(best > slab[1], likely, 0)
            download.put(label_map[start:stop], torch.where(slab[0] >= cut, LESION, labels))
            download.put(tissue[start:stop], likely)
    return label_map, tissue


def _plain(logits: Any) -> Tensor:
    tensor: Tensor = logits.as_tensor() if isinstance(logits, MetaTensor) else logits
    return tensor.float()
