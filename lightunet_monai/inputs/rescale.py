"""Stored values of one plane become Hounsfield units.

Display is not our business: MONOCHROME1, windows and lookup tables do not change what a stored value means.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sources import StoredPixels

AIR_HU = -1024
"""What padding becomes: the value scanners themselves write outside the field of view."""

_INT16_MIN, _INT16_MAX = -(2**15), 2**15 - 1


class ValuesExceedInt16Error(Exception):
    """Hounsfield units that are not whole numbers, or beyond the range of int16."""


class BitsContradictHeaderError(Exception):
    """Something is stored below the bits that the header calls the lowest: a shift would divide what was measured."""


def rescale_plane(plane: NDArray[Any], pixels: StoredPixels, out: NDArray[Any]) -> None:
    """Turn stored values into Hounsfield units.

    Parameters
    ----------
    plane : ndarray of integers, shape (rows, columns)
        Stored values; may be changed, and may share memory with ``out``.
    pixels : StoredPixels
        How they are stored; a missing rescale leaves them as they are.
    out : ndarray of int16 or float32, shape (rows, columns)
        Filled in place.

    Raises
    ------
    ValuesExceedInt16Error
        If ``out`` is int16 and cannot hold the values.
    BitsContradictHeaderError
        If the high bit leaves bits below the stored ones, and they are not all zero. No plane is then taken without
        the shift: all planes of a series are read alike, or none.
    """
    slope, intercept = pixels.slope, pixels.intercept
    slope = 1.0 if slope is None else slope
    intercept = 0.0 if intercept is None else intercept
    padding_words = _padding_words(plane, pixels)
    plane = _clean_bits(plane, pixels)
    padding = _padding_mask(plane, pixels.padding)
    if out.dtype == np.int16:
        _rescale_int16(plane, int(slope), int(intercept), out)
    elif float(slope).is_integer() and float(intercept).is_integer() and pixels.bits_stored <= 16:
        scaled = plane if slope == 1.0 else np.multiply(plane, np.float32(slope), dtype=np.float32)
        np.add(scaled, np.float32(intercept), out=out, dtype=np.float32, casting="unsafe")
    else:
        out[...] = plane * np.float64(slope) + np.float64(intercept)
    if padding is not None:
        out[padding] = AIR_HU
    if padding_words is not None:
        out[padding_words] = AIR_HU


def _padding_words(plane: NDArray[Any], pixels: StoredPixels) -> NDArray[np.bool_] | None:
    """Where a whole word is padding of a value that the stored bits cannot hold, as -32768 among 12 bits.

    Without the bits above the stored ones it would look like a measured value.
    """
    bits = pixels.bits_stored
    if pixels.padding is None or pixels.high_bit != bits - 1:
        return None
    (low, high), span = pixels.padding, 1 << bits
    lowest = -span // 2 if pixels.is_signed else 0
    highest = lowest + span - 1
    if lowest <= low and high <= highest:
        return None
    return np.asarray((plane >= low) & (plane <= high) & ((plane < lowest) | (plane > highest)))


def _clean_bits(plane: NDArray[Any], pixels: StoredPixels) -> NDArray[Any]:
    """Drop what lies in bits above the stored ones, and extend the sign; those below must be zero."""
    bits, allocated = pixels.bits_stored, plane.dtype.itemsize * 8
    below, above = pixels.high_bit + 1 - bits, allocated - 1 - pixels.high_bit
    if bits >= allocated:
        return plane
    if below and np.bitwise_and(plane, (1 << below) - 1).any():
        raise BitsContradictHeaderError
    # Shifting the sign bit to the top and back extends it, for signed types, and clears, for unsigned ones.
    if above:
        np.left_shift(plane, above, out=plane)
    np.right_shift(plane, above + below, out=plane)
    return plane


def _padding_mask(plane: NDArray[Any], padding: tuple[int, int] | None) -> NDArray[np.bool_] | None:
    if padding is None:
        return None
    low, high = padding
    if low > plane.max() or high < plane.min():
        return None
    return np.asarray((plane >= low) & (plane <= high))


def _rescale_int16(plane: NDArray[Any], slope: int, intercept: int, out: NDArray[Any]) -> None:
    low, high = int(plane.min()), int(plane.max())
    ends = (low * slope + intercept, high * slope + intercept)
    if min(ends) < _INT16_MIN or max(ends) > _INT16_MAX:
        raise ValuesExceedInt16Error
    # Arithmetic modulo 2**16 is exact here: the results were just shown to fit.
    if plane.dtype.itemsize != 2:
        plane = plane.astype(np.int64).astype(np.int16)
    stored = plane.astype(plane.dtype.newbyteorder("="), copy=False).view(np.int16)
    if slope != 1:
        np.multiply(stored, np.int64(slope).astype(np.int16), out=out)
        stored = out
    if intercept or stored is not out:
        np.add(stored, np.int64(intercept).astype(np.int16), out=out)
