"""Training samples: slices with their neighbours, those with lesions more often."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..labels import LESION


class RandSampleSlicesd(Randomizable, Transform):
    """Cut training slices out of a volume and its label map.

    A slice comes with its neighbours as channels, as `SliceInferer` gives them to the network. In it a window is cut
    around a voxel at a random place of the window. That voxel is one of a lesion, one of the brightest tissue (which
    is what gets mistaken for a lesion), or any of tissue.

    Takes (1, X, Y, Z) under ``image_key`` and ``label_key``, gives a list of dictionaries with
    ``image_key`` (2 * neighbours + 1, H, W) and ``label_key`` (1, H, W), plain tensors.

    Parameters
    ----------
    roi_size : sequence of int
        Window (H, W); what lies outside of the slice is 0, which is air.
    num_samples : int
        Slices a call.
    neighbours, slice_axes, tissue_threshold
        As in `SliceInferer`; each sample draws one of the directions.
    lesion_share : float
        Share of draws that go to a lesion, where the volume has one.
    bright_share : float
        Share of the other draws that go to bright tissue: the brightest of ``bright_draws`` random voxels.
    bright_draws : int
    margin : int
        Voxels that the window is larger than ``roi_size`` on each side, for transforms that turn or scale it and cut
        the middle out afterwards (`AugmentBatch`). The drawn voxel lies in the middle part.
    """

    def __init__(
        self,
        roi_size: tuple[int, int],
        num_samples: int,
        neighbours: int = 1,
        slice_axes: Sequence[int] = (2,),
        tissue_threshold: float = 0.0,
        lesion_share: float = 0.5,
        bright_share: float = 0.0,
        bright_draws: int = 64,
        margin: int = 0,
        image_key: str = "image",
        label_key: str = "label",
    ) -> None:
        self.roi_size = tuple(roi_size)
        self.num_samples = num_samples
        self.neighbours = neighbours
        self.slice_axes = tuple(slice_axes)
        self.tissue_threshold = tissue_threshold
        self.lesion_share = lesion_share
        self.bright_share = bright_share
        self.bright_draws = bright_draws
        self.margin = margin
        self.image_key = image_key
        self.label_key = label_key

    def randomize(self, data: Any = None) -> None:
        """Nothing to draw ahead: each sample draws for itself."""

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Draw ``num_samples`` slices."""
        volume, labels = (_plain(data[key])[0] for key in (self.image_key, self.label_key))
        # Once for all samples: a pass over the volume costs as much as a sample, and least in NumPy.
        lesion = np.stack(np.unravel_index(np.flatnonzero(labels.numpy() == LESION), labels.shape), axis=1)
        return [self._sample(volume, labels, lesion) for _ in range(self.num_samples)]

    def _sample(self, volume: Tensor, labels: Tensor, lesion: NDArray[np.intp]) -> dict[Hashable, Any]:
        axis = int(self.R.choice(self.slice_axes))
        image, label = volume.movedim(axis, 0), labels.movedim(axis, 0)  # (S, H, W)
        index, point = self._target(image, lesion[:, [axis, *(a for a in range(3) if a != axis)]])
        start = [self._start(*args) for args in zip(point, image.shape[1:], self.roi_size, strict=True)]
        channels = (torch.arange(-self.neighbours, self.neighbours + 1) + index).clamp(0, image.shape[0] - 1)
        return {
            self.image_key: self._cut(image[channels], *start),
            self.label_key: self._cut(label[index][None], *start),
        }

    def _target(self, image: Tensor, lesion: NDArray[np.intp]) -> tuple[int, tuple[int, int]]:
        # A slice and the place (row, column) in it; the voxels of lesions are (N, 3), slice first.
        if len(lesion) > 0 and self.R.uniform() < self.lesion_share:
            index = int(self.R.choice(np.unique(lesion[:, 0])))
            return index, self._one_of(lesion[lesion[:, 0] == index, 1:])
        if self.bright_share > 0 and self.R.uniform() < self.bright_share:
            drawn = torch.from_numpy(self.R.randint(image.shape, size=(self.bright_draws, 3))).unbind(1)
            brightest = int(image[drawn].argmax())
            index, row, column = (int(k[brightest]) for k in drawn)
            return index, (row, column)
        tissue_slices = (image > self.tissue_threshold).any(2).any(1).nonzero().flatten().numpy()
        index = int(self.R.choice(tissue_slices if tissue_slices.size else image.shape[0]))
        return index, self._any_of(image[index] > self.tissue_threshold)

    def _any_of(self, target: Tensor) -> tuple[int, int]:
        points = target.nonzero().numpy()
        return self._one_of(points) if len(points) else (target.shape[0] // 2, target.shape[1] // 2)

    def _one_of(self, points: NDArray[np.intp]) -> tuple[int, int]:
        row, column = points[self.R.randint(len(points))].tolist()
        return row, column

    def _start(self, point: int, size: int, window: int) -> int:
        # Of a window that holds the point at a random place and stays within the slice where that is possible.
        low, high = max(0, point - window + 1), min(point, max(0, size - window))
        return int(self.R.randint(min(low, high), high + 1))

    def _cut(self, planes: Tensor, row: int, column: int) -> Tensor:
        pads: list[int] = []
        for dim, start, window in ((1, row, self.roi_size[0]), (2, column, self.roi_size[1])):
            first, end, size = start - self.margin, start + window + self.margin, planes.shape[dim]
            planes = planes.narrow(dim, max(0, first), min(end, size) - max(0, first))
            pads = [max(0, -first), max(0, end - size), *pads]
        return F.pad(planes, pads).clone()


def _plain(item: Any) -> Tensor:
    tensor: Tensor = item.as_tensor() if hasattr(item, "as_tensor") else torch.as_tensor(item)
    return tensor
