"""The lightweight U-Net (one level less, half the middle width, Swish) and the plain one beside it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .layers import CONVOLUTION, DoubleConv, Down, Up

PAPER_WIDTHS = (64, 128, 256, 512)
"""Channels per level, from the paper "A Lightweight Model Approach For Breast CT Segmentation"."""


class _UShape(nn.Module):
    """The way down and up that both networks share; subclasses say which widths and activation."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int],
        middle_divisor: int,
        swish: str | None,
    ) -> None:
        super().__init__()
        _check_widths(widths, middle_divisor)
        last = len(widths) - 1
        middle = [width // middle_divisor for width in widths]
        self.inc = DoubleConv(spatial_dims, in_channels, middle[0], widths[0], swish)
        self.down = nn.ModuleList(
            Down(spatial_dims, widths[level], middle[level + 1], widths[level + 1], swish) for level in range(last)
        )
        self.up = nn.ModuleList(
            Up(spatial_dims, widths[level], middle[level - 1], widths[level - 1], swish) for level in range(last, 0, -1)
        )
        self.outc = CONVOLUTION[spatial_dims](widths[0], out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (B, out_channels, *spatial) for an input (B, in_channels, *spatial)."""
        x = self.inc(x)
        skips = [x]
        for down in self.down:
            x = down(x)
            skips.append(x)
        for level, up in enumerate(self.up):
            x = up(x, skips[len(skips) - 2 - level])
        logits: Tensor = self.outc(x)
        return logits


def _check_widths(widths: Sequence[int], least: int) -> None:
    doubled = [widths[0] << level for level in range(len(widths))] if widths else []
    if not widths or widths[0] < least or list(widths) != doubled:
        raise ValueError(
            f"widths: found {tuple(widths)}, expected {least} or more, and each twice the one before: "
            "on the way up channels are halved and meet those of the level above"
        )


class LightUNet(_UShape):
    """The lightweight U-Net with Swish activations.

    Against the plain `UNet` it has one level less ("layer pruning"), middle channels of half the
    width in each double convolution ("channel size reduction") and Swish in place of ReLU.

    Parameters
    ----------
    spatial_dims : int
        2 or 3.
    in_channels, out_channels : int
        Channels of the input and of the logits.
    widths : sequence of int
        Channels per level, 2 or more, each twice the one before; the paper has four levels.
    learnable_beta : bool
        Learn the slope of each Swish (one scalar each), or fix it at 1.

    Raises
    ------
    ValueError
        If the widths are others.

    Notes
    -----
    Takes (B, in_channels, *spatial), gives logits (B, out_channels, *spatial), same floating dtype. Each
    spatial size may be any number, odd ones too, from ``2 ** (len(widths) - 1)`` on (8 for the paper's).
    With four levels the receptive field reaches 51 voxels to each side; in evaluation mode the
    network is covariant under shifts by multiples of 8.

    The paper's network (2-D, 3 to 2 channels) has 4,197,986 parameters, and 14 more with learnable slopes.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 2,
        widths: Sequence[int] = PAPER_WIDTHS,
        learnable_beta: bool = True,
    ) -> None:
        swish = "learnable" if learnable_beta else "fixed"
        super().__init__(spatial_dims, in_channels, out_channels, widths, middle_divisor=2, swish=swish)


class UNet(_UShape):
    """The plain U-Net that the paper compares with: five levels, ReLU, transposed convolutions.

    Parameters
    ----------
    spatial_dims, in_channels, out_channels : int
        As in `LightUNet`.
    widths : sequence of int
        Channels per level, each twice the one before.

    Raises
    ------
    ValueError
        If the widths are others.

    Notes
    -----
    Shapes as in `LightUNet`; each spatial size from ``2 ** (len(widths) - 1)`` on (16 by default).
    The default (2-D, 3 to 2 channels) has 31,043,586 parameters.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 2,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
    ) -> None:
        super().__init__(spatial_dims, in_channels, out_channels, widths, middle_divisor=1, swish=None)
