"""Training samples: slices with their neighbours, those with lesions more often."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform
from torch import Tensor
from torch.nn import functional as F

from ..labels import LESION


class RandSampleSlicesd(Randomizable, Transform):
    """Cut training slices out of a volume and its label map.

    A slice comes with its neighbours as channels, as `SliceInferer` gives them to the network. Slices with
    tissue are drawn at random; a share of the draws goes to slices that hold a lesion. In the slice a window is cut
    where there is tissue, on lesions as often as slices with lesions were drawn on purpose.

    Takes (1, X, Y, Z) under ``image_key`` and ``label_key``, gives a list of dictionaries with
    ``image_key`` (2 * neighbours + 1, H, W) and ``label_key`` (1, H, W), plain tensors.

    Parameters
    ----------
    roi_size : sequence of int
        Window (H, W); smaller slices are filled with 0, which is air.
    num_samples : int
        Slices a call.
    neighbours, slice_axes, tissue_threshold
        As in `SliceInferer`; each sample draws one of the directions.
    lesion_share : float
        Share of draws that go to slices with a lesion, where the volume has one.
    """

    def __init__(
        self,
        roi_size: tuple[int, int],
        num_samples: int,
        neighbours: int = 1,
        slice_axes: Sequence[int] = (2,),
        tissue_threshold: float = 0.0,
        lesion_share: float = 0.5,
        image_key: str = "image",
        label_key: str = "label",
    ) -> None:
        self.roi_size = tuple(roi_size)
        self.num_samples = num_samples
        self.neighbours = neighbours
        self.slice_axes = tuple(slice_axes)
        self.tissue_threshold = tissue_threshold
        self.lesion_share = lesion_share
        self.image_key = image_key
        self.label_key = label_key

    def randomize(self, data: Any = None) -> None:
        """Nothing to draw ahead: each sample draws for itself."""

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Draw ``num_samples`` slices."""
        return [
            self._sample(_plain(data[self.image_key])[0], _plain(data[self.label_key])[0])
            for _ in range(self.num_samples)
        ]

    def _sample(self, volume: Tensor, labels: Tensor) -> dict[Hashable, Any]:
        axis = int(self.R.choice(self.slice_axes))
        image, label = volume.movedim(axis, 0), labels.movedim(axis, 0)  # (S, H, W)
        lesion_slices = (label == LESION).flatten(1).any(dim=1).nonzero().flatten().numpy()
        tissue_slices = (image > self.tissue_threshold).flatten(1).any(dim=1).nonzero().flatten().numpy()
        if tissue_slices.size == 0:
            tissue_slices = np.arange(image.shape[0])
        on_lesion = lesion_slices.size > 0 and self.R.uniform() < self.lesion_share
        index = int(self.R.choice(lesion_slices if on_lesion else tissue_slices))
        channels = (torch.arange(-self.neighbours, self.neighbours + 1) + index).clamp(0, image.shape[0] - 1)
        target = label[index] == LESION if on_lesion else image[index] > self.tissue_threshold
        rows, columns = self._window(target)
        return {
            self.image_key: self._cut(image[channels], rows, columns),
            self.label_key: self._cut(label[index][None], rows, columns),
        }

    def _window(self, target: Tensor) -> tuple[int, int]:
        # A window that holds a random voxel of the target at a random place of its own.
        points = target.nonzero()
        starts = []
        for axis, (size, window) in enumerate(zip(target.shape, self.roi_size, strict=True)):
            point = int(points[self.R.randint(len(points)), axis]) if len(points) else size // 2
            low, high = max(0, point - window + 1), min(point, max(0, size - window))
            starts.append(int(self.R.randint(min(low, high), high + 1)))
        return starts[0], starts[1]

    def _cut(self, planes: Tensor, row: int, column: int) -> Tensor:
        height, width = self.roi_size
        window = planes[:, row : row + height, column : column + width]
        return F.pad(window, (0, width - window.shape[2], 0, height - window.shape[1])).clone()


def _plain(item: Any) -> Tensor:
    tensor: Tensor = item.as_tensor() if hasattr(item, "as_tensor") else torch.as_tensor(item)
    return tensor
