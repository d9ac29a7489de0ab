"""The building blocks both U-Nets are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED_CONVOLUTION = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class Swish(nn.Module):
    """Swish activation, ``f(x) = x * sigmoid(beta * x)`` (Ramachandran et al. 2017, arXiv:1710.05941).

    Parameters
    ----------
    learnable : bool
        Learn ``beta``, one scalar that starts at 1. If False, ``beta`` is 1 and the function is SiLU.

    Notes
    -----
    Takes and gives a tensor of any shape.
    """

    def __init__(self, learnable: bool = True) -> None:
        super().__init__()
        self.beta: nn.Parameter | None = nn.Parameter(torch.ones(())) if learnable else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation element by element."""
        beta = self.beta
        if beta is None:
            return F.silu(x)
        return x * torch.sigmoid(beta * x)


class DoubleConv(nn.Sequential):
    """Twice: convolution 3 (padding 1, bias), batch norm, activation.

    Parameters
    ----------
    spatial_dims : int
        2 or 3.
    in_channels, mid_channels, out_channels : int
        Channels before, between and after the two convolutions.
    swish : {"learnable", "fixed"} or None
        Kind of Swish, or None for ReLU.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, mid_channels: int, out_channels: int, swish: str | None
    ) -> None:
        conv, norm = CONVOLUTION[spatial_dims], NORM[spatial_dims]
        super().__init__(
            conv(in_channels, mid_channels, kernel_size=3, padding=1),
            norm(mid_channels),
            _activation(swish),
            conv(mid_channels, out_channels, kernel_size=3, padding=1),
            norm(out_channels),
            _activation(swish),
        )


class Down(nn.Sequential):
    """Max-pool by 2, then `DoubleConv`; parameters as there."""

    def __init__(
        self, spatial_dims: int, in_channels: int, mid_channels: int, out_channels: int, swish: str | None
    ) -> None:
        super().__init__(
            POOL[spatial_dims](kernel_size=2),
            DoubleConv(spatial_dims, in_channels, mid_channels, out_channels, swish),
        )


class Up(nn.Module):
    """Double the size by a transposed convolution, join the skip connection, then `DoubleConv`.

    Parameters
    ----------
    spatial_dims : int
        2 or 3.
    in_channels : int
        Channels from below; the transposed convolution halves them.
    mid_channels, out_channels : int
        As in `DoubleConv`. The skip connection brings ``in_channels // 2`` channels.
    swish : {"learnable", "fixed"} or None
        Kind of Swish, or None for ReLU.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, mid_channels: int, out_channels: int, swish: str | None
    ) -> None:
        super().__init__()
        half = in_channels // 2
        self.up = TRANSPOSED_CONVOLUTION[spatial_dims](in_channels, half, kernel_size=2, stride=2)
        self.conv = DoubleConv(spatial_dims, in_channels, mid_channels, out_channels, swish)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Join (B, C, h, w) from below with the skip connection (B, C / 2, H, W); H is 2h or 2h + 1."""
        x = self.up(below)
        x = _pad_to(x, skip)
        joined: Tensor = self.conv(torch.cat([skip, x], dim=1))  # skip first: (B, C, H, W)
        return joined


def _pad_to(x: Tensor, like: Tensor) -> Tensor:
    # Max-pooling drops the last row of an odd size; replicating the edge brings it back without a seam of zeros.
    if x.shape[2:] == like.shape[2:]:
        return x
    padding: list[int] = []
    for axis in range(x.dim() - 1, 1, -1):
        padding += [0, like.size(axis) - x.size(axis)]
    return F.pad(x, padding, mode="replicate")


def _activation(swish: str | None) -> nn.Module:
    return nn.ReLU(inplace=True) if swish is None else Swish(learnable=swish == "learnable")
