"""What a compressed plane says about itself, read before any decoder sees it.

Decoders trust the codestream or the header and some crash where the two differ, so they are compared first.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..errors import UnreadableFileError, UnsupportedImageError

RLE = "1.2.840.10008.1.2.5"
_JPEG_FAMILY = "1.2.840.10008.1.2.4."
_JPEG_2000 = frozenset(f"{_JPEG_FAMILY}{number}" for number in ("90", "91", "201", "202", "203"))
_JPEG_LS = frozenset(f"{_JPEG_FAMILY}{number}" for number in ("80", "81"))
_JPEG = frozenset(f"{_JPEG_FAMILY}{number}" for number in ("50", "51", "53", "55", "57", "70"))

JPEG_FAMILY = _JPEG_2000 | _JPEG_LS | _JPEG
"""Those of them with a frame header of their own."""

COMPRESSED = _JPEG_2000 | _JPEG_LS | _JPEG | {RLE}
"""Transfer syntaxes with compressed pixels that can be decoded."""

LOSSY = frozenset(f"{_JPEG_FAMILY}{number}" for number in ("50", "51", "53", "55"))
"""Transfer syntaxes that always lose something."""

_START_OF_FRAME = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7))
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))


@dataclass(frozen=True)
class PlaneSize:
    """Size of a compressed plane as the codestream gives it."""

    rows: int
    columns: int
    components: int
    bits: int


def check_codestream(frame: bytes, syntax: str, rows: int, columns: int, bits_allocated: int) -> None:
    """Check that a compressed plane has the size that the DICOM header announces.

    Parameters
    ----------
    frame : bytes
        One encapsulated frame.
    syntax : str
        Transfer Syntax UID, one of `COMPRESSED`.
    rows, columns, bits_allocated : int
        From the header.

    Raises
    ------
    UnreadableFileError
        If the codestream is damaged or has another size. The message does not name the file.
    UnsupportedImageError
        If it holds colour.
    """
    try:
        if syntax == RLE:
            _check_rle(frame, rows * columns, bits_allocated)
            return
        size = plane_size(frame, syntax)
    except (struct.error, IndexError, ValueError):
        raise UnreadableFileError("the compressed pixels are damaged: no readable frame header.") from None
    if (size.rows, size.columns) != (rows, columns):
        raise UnreadableFileError(
            f"the compressed pixels are a plane of {size.columns} x {size.rows}, the header says {columns} x {rows}."
        )
    if size.components != 1:
        raise UnsupportedImageError(
            f"the compressed pixels have {size.components} components, expected 1.",
            hint="Export it again as a grey image.",
        )
    if size.bits > bits_allocated:
        raise UnreadableFileError(f"the compressed pixels have {size.bits} bits, the header allots {bits_allocated}.")


def plane_size(frame: bytes, syntax: str) -> PlaneSize:
    """Read the frame header of a plane of the `JPEG_FAMILY`; struct.error, IndexError or ValueError if damaged."""
    return _jpeg_2000_size(frame) if syntax in _JPEG_2000 else _jpeg_size(frame)


def has_more_pixels(frame: bytes, pixels: int) -> bool:
    """Whether an RLE frame holds more than this many pixels: decoders cut it to the size in the header, rows and all.

    Parameters
    ----------
    frame : bytes
        One encapsulated frame of the transfer syntax `RLE`; its first byte plane is decoded.
    pixels : int
        Rows times columns, from the header.

    Raises
    ------
    ValueError, struct.error
        If it is damaged.
    """
    from rle.rle import decode_segment

    _, first, second = struct.unpack_from("<3I", frame)
    return len(decode_segment(frame[first : second or len(frame)])) > pixels + 1  # one more may be padding


def _jpeg_size(frame: bytes) -> PlaneSize:
    """Size from the frame header of JPEG or JPEG-LS."""
    if frame[:2] != b"\xff\xd8":
        raise ValueError
    at = 2
    while True:
        if frame[at] != 0xFF:
            raise ValueError
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _STANDALONE:
            at += 2
        else:
            length = struct.unpack_from(">H", frame, at + 2)[0]
            if marker in _START_OF_FRAME:
                bits, rows, columns, components = struct.unpack_from(">BHHB", frame, at + 4)
                return PlaneSize(rows, columns, components, bits)
            if length < 2:
                raise ValueError
            at += 2 + length


def _jpeg_2000_size(frame: bytes) -> PlaneSize:
    """Size from the SIZ segment of a JPEG 2000 codestream, bare or in a JP2 file."""
    start = frame.index(b"\xff\x4f\xff\x51")
    right, bottom, left, top = struct.unpack_from(">IIII", frame, start + 8)
    components, precision = struct.unpack_from(">HB", frame, start + 40)
    return PlaneSize(bottom - top, right - left, components, (precision & 0x7F) + 1)


def _check_rle(frame: bytes, pixels: int, bits_allocated: int) -> None:
    """The RLE header lists as many byte planes as a sample has bytes, in order, within the frame."""
    count, *offsets = struct.unpack_from("<16I", frame)
    offsets = offsets[:count]
    is_in_order = all(a < b for a, b in zip(offsets, [*offsets[1:], len(frame)], strict=True))
    if count != bits_allocated // 8 or not offsets or offsets[0] != 64 or not is_in_order:
        raise ValueError
    # A run of 128 equal bytes takes two bytes, so a segment cannot be shorter than 1/64 of its plane.
    shortest = min(b - a for a, b in zip(offsets, [*offsets[1:], len(frame)], strict=True))
    if shortest * 64 < pixels:
        raise UnreadableFileError(f"the compressed pixels are too short for a plane of {pixels} pixels.")
