"""Tensor in, logits out; torch only."""

from .light_unet import PAPER_WIDTHS, LightUNet, UNet

__all__ = ["PAPER_WIDTHS", "LightUNet", "UNet"]
