"""The network applied to a whole volume, window by window."""

from .slices import SliceInferer

__all__ = ["SliceInferer"]
