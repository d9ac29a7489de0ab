"""Random changes of training batches, made on the device that trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.engines import PrepareBatch, default_prepare_batch
from torch import Tensor
from torch.nn import functional as F


class AugmentBatch(PrepareBatch):
    """Take a batch to the device and change each of its samples at random, all samples at once.

    In this order: flips and quarter turns, the order of the channels (neighbouring slices) turned round; rotation and
    scaling about the middle, a shift and bending, of which ``roi_size`` is cut out; brightness; smoothing; noise. What
    comes in from outside of a sample is 0. The label map follows
    where voxels move, by its nearest voxel. Random numbers come from PyTorch's own generator. Without further
    arguments only the middle is cut out; the numbers of a training stand in its configuration.

    Parameters
    ----------
    roi_size : sequence of int
        (H, W) of what the network is trained on; samples may be larger.
    flip_probability : sequence of float
        Of turning rows, and columns, round.
    quarter_turn_probability : float
        Of exchanging rows and columns; with the flips every quarter turn comes up. Square windows only.
    channel_flip_probability : float
    affine_probability : float
    rotate_range : float
        Radians, either way.
    scale_range : float
        Along each axis by a factor between 1 / (1 + scale_range) and 1 + scale_range, even in its logarithm.
    shift_range : float
        Along each axis, share of the window, either way; of the samples that `affine_probability` draws.
    bend_probability : float
    bend_range : float
        Standard deviation of how far the points of a coarse grid (`bend_points`) move along each axis, share of the
        window; cubic between them.
    bend_points : int
        Points of the grid along each axis.
    gamma_range : float
        Values, limited to 0 to 1, to a power between exp(-gamma_range) and exp(gamma_range), even in its logarithm.
        For images alone, whose values have a range: 0 leaves values as they are.
    intensity_probability : float
        Of each of the two changes: a factor between 1 - factor_range and 1 + factor_range, and a summand.
    factor_range, offset_range : float
    smooth_probability : float
    smooth_sigma : sequence of float
        Smallest and largest standard deviation of the Gaussian, in voxels.
    noise_probability : float
    noise_std : float
        Standard deviation of the noise: between 0 and this.
    background : float, optional
        Value (air) that brightness leaves alone; None: there is no such value.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        flip_probability: Sequence[float] = (0.0, 0.0),
        quarter_turn_probability: float = 0.0,
        channel_flip_probability: float = 0.0,
        affine_probability: float = 0.0,
        rotate_range: float = 0.0,
        scale_range: float = 0.0,
        shift_range: float = 0.0,
        bend_probability: float = 0.0,
        bend_range: float = 0.0,
        bend_points: int = 6,
        gamma_range: float = 0.0,
        intensity_probability: float = 0.0,
        factor_range: float = 0.0,
        offset_range: float = 0.0,
        smooth_probability: float = 0.0,
        smooth_sigma: Sequence[float] = (0.0, 0.0),
        noise_probability: float = 0.0,
        noise_std: float = 0.0,
        background: float | None = None,
    ) -> None:
        self.roi_size = tuple(roi_size)
        self.flip_probability = tuple(flip_probability)
        self.quarter_turn_probability = quarter_turn_probability
        self.channel_flip_probability = channel_flip_probability
        self.affine_probability = affine_probability
        self.rotate_range = rotate_range
        self.scale_range = scale_range
        self.shift_range = shift_range
        self.bend_probability = bend_probability
        self.bend_range = bend_range
        self.bend_points = bend_points
        self.gamma_range = gamma_range
        self.intensity_probability = intensity_probability
        self.factor_range = factor_range
        self.offset_range = offset_range
        self.smooth_probability = smooth_probability
        self.smooth_sigma = tuple(smooth_sigma)
        self.noise_probability = noise_probability
        self.noise_std = noise_std
        self.background = background

    def __call__(
        self,
        batchdata: Any,
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Give image (B, C, H, W) float32 and label (B, L, H, W), H and W those of ``roi_size``."""
        image, label = default_prepare_batch(batchdata, device, non_blocking, **kwargs)
        return self.augment(image, label)

    def augment(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Change image (B, C, H, W) and label (B, L, H, W); L is 1, or C where each channel has its own."""
        image, label = (torch.as_tensor(x).as_subclass(Tensor) for x in (image, label))
        image, label = self._turned(image.float(), label)
        image, label = self._moved(image, label)
        image = self._smoothed(self._brightened(image))
        strength = self.noise_std * self._drawn(image, self.noise_probability)
        return (image + strength * torch.randn_like(image)).contiguous(), label.contiguous()

    def _drawn(self, image: Tensor, probability: float, low: float = 0.0, high: float = 1.0) -> Tensor:
        # (B, 1, 1, 1): a number between low and high with this probability, else 0.
        chance, number = torch.rand(2, len(image), 1, 1, 1).to(image.device)
        drawn: Tensor = (low + (high - low) * number) * (chance < probability)
        return drawn

    def _chosen(self, x: Tensor, probability: float) -> Tensor:
        return (torch.rand(len(x), 1, 1, 1) < probability).to(x.device)

    def _turned(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        for dim, probability in zip((2, 3), self.flip_probability, strict=True):
            chosen = self._chosen(image, probability)
            image, label = (torch.where(chosen, x.flip(dim), x) for x in (image, label))
        if self.quarter_turn_probability > 0:
            chosen = self._chosen(image, self.quarter_turn_probability)
            image, label = (torch.where(chosen, x.transpose(2, 3), x) for x in (image, label))
        chosen = self._chosen(image, self.channel_flip_probability)
        return torch.where(chosen, image.flip(1), image), torch.where(chosen, label.flip(1), label)

    def _moved(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        count, (height, width) = len(image), self.roi_size
        chosen = torch.rand(count) < self.affine_probability
        angle = torch.empty(count).uniform_(-self.rotate_range, self.rotate_range) * chosen
        limit = math.log1p(self.scale_range)
        scale = (torch.empty(count, 2).uniform_(-limit, limit) * chosen[:, None]).exp()
        top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
        still = [x[:, :, top : top + height, left : left + width] for x in (image, label)]
        bent = torch.rand(count) < self.bend_probability if self.bend_probability > 0 else torch.zeros_like(chosen)
        if not bool((chosen | bent).any()):
            return still[0], still[1]
        # From places of the window, in its voxels, to places of the sample, in halves of its edges (PyTorch's rule).
        cos, sin = angle.cos(), angle.sin()
        edges = torch.tensor([image.shape[3], image.shape[2]], dtype=torch.float32)
        window = torch.tensor([width, height], dtype=torch.float32)
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1) * scale[:, :, None]
        middle = torch.tensor([left + width / 2, top + height / 2]) * 2 / edges - 1
        middles = middle.expand(count, 2)
        if self.shift_range > 0:
            shift = torch.empty(count, 2).uniform_(-self.shift_range, self.shift_range) * chosen[:, None]
            middles = middles + shift * 2 * window / edges
        matrix = torch.cat([turn * window / edges[:, None], middles[:, :, None]], dim=2)
        places = F.affine_grid(matrix, [count, 1, height, width], align_corners=False).to(image.device)
        if bool(bent.any()):
            moves = self._bending(count, (height, width)) * (2 * window / edges) * bent[:, None, None, None]
            places = places + moves.to(image.device)
        moved = (
            F.grid_sample(image, places, "bilinear", align_corners=False),
            F.grid_sample(label.float(), places, "nearest", align_corners=False).to(label),
        )
        is_moved = (chosen | bent).to(image.device)[:, None, None, None]
        return torch.where(is_moved, moved[0], still[0]), torch.where(is_moved, moved[1], still[1])

    def _bending(self, count: int, shape: tuple[int, ...]) -> Tensor:
        # (count, H, W, 2): how far each place moves along columns and rows, shares of the window.
        points = self.bend_range * torch.randn(count, 2, self.bend_points, self.bend_points)
        return F.interpolate(points, size=shape, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)

    def _brightened(self, image: Tensor) -> Tensor:
        if self.gamma_range > 0:
            power = torch.empty(len(image), 1, 1, 1).uniform_(-self.gamma_range, self.gamma_range).exp()
            image = image.clamp(0, 1) ** power.to(image.device)
        factor = 1 + self._drawn(image, self.intensity_probability, -self.factor_range, self.factor_range)
        offset = self._drawn(image, self.intensity_probability, -self.offset_range, self.offset_range)
        changed = image * factor + offset
        return changed if self.background is None else torch.where(image == self.background, image, changed)

    def _smoothed(self, image: Tensor) -> Tensor:
        chosen = (torch.rand(len(image)) < self.smooth_probability).nonzero().flatten().to(image.device)
        if len(chosen) == 0:
            return image
        low, high = self.smooth_sigma
        radius = math.ceil(3 * high)
        sigma = torch.empty(len(chosen), 1).uniform_(low, high)
        kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1.0) / sigma) ** 2)
        kernel = (kernel / kernel.sum(1, keepdim=True)).to(image.device)
        channels = image.shape[1]
        weight = kernel.repeat_interleave(channels, 0)[:, None]  # one for each plane
        planes = F.pad(image[chosen], (radius,) * 4, mode="replicate").flatten(0, 1)[None]
        planes = F.conv2d(planes, weight[:, :, :, None], groups=planes.shape[1])
        planes = F.conv2d(planes, weight[:, :, None, :], groups=planes.shape[1])
        return image.index_copy(0, chosen, planes.reshape(len(chosen), channels, *image.shape[2:]))
