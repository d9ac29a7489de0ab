"""What a PNG file says about itself, and whether its pixels are all there: Pillow makes up those that are not."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import UnreadableFileError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HEADER = struct.Struct(">8sI4sIIBBBBB")
"""Signature, then the chunk IHDR: its length and name, columns, rows, bits, colour type, three methods."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Values a pixel has, by the colour type."""

_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced image: first column and row, and the steps to the next."""

_PIECE_BYTES = 2**20
"""Inflated at once; only their number counts."""


@dataclass(frozen=True)
class PngHeader:
    """The chunk IHDR.

    Parameters
    ----------
    columns, rows : int
    bits : int
        Of each value, 1 to 16.
    channels : int
        Values a pixel has; an index into a palette is one.
    is_interlaced : bool
    """

    columns: int
    rows: int
    bits: int
    channels: int
    is_interlaced: bool


def read_png_header(path: Path) -> PngHeader | None:
    """Read the header of a PNG file by its content; None for another kind of file, or a header that is damaged.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEADER.size)
    if len(head) < _HEADER.size or not head.startswith(PNG_SIGNATURE):
        return None
    _, _, name, columns, rows, bits, colour, _, _, interlace = _HEADER.unpack(head)
    if name != b"IHDR" or colour not in _CHANNELS:
        return None
    return PngHeader(columns, rows, bits, _CHANNELS[colour], bool(interlace))


def check_png_pixels(path: Path, header: PngHeader) -> None:
    """Check that the compressed pixels are whole: their number of bytes, and the sum at their end.

    Raises
    ------
    UnreadableFileError
        If some are missing or damaged.
    """
    expected = _pixel_bytes(header)
    try:
        found = _inflated_bytes(path, expected)
    except zlib.error:
        raise UnreadableFileError(
            f"{path}: its compressed pixels are damaged.", hint="Copy or save the file again."
        ) from None
    if found < expected:
        raise UnreadableFileError(
            f"{path}: {found} bytes of pixels, expected {expected}: a part of the image is missing.",
            hint="Copy or save the file again.",
        )


def _pixel_bytes(header: PngHeader) -> int:
    """The length of the inflated pixels: each line is whole bytes, after one that names its filter."""
    passes = _PASSES if header.is_interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -((left - header.columns) // across), -((top - header.rows) // down)  # rounded up
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * header.channels * header.bits + 7) // 8)
    return total


def _inflated_bytes(path: Path, enough: int) -> int:
    """How many bytes the pixels inflate to; counting ends a little above what is enough."""
    inflater, total = zlib.decompressobj(), 0
    for packed in _pixel_chunks(path):
        while packed:
            total += len(inflater.decompress(packed, _PIECE_BYTES))
            if total > enough:  # a few bytes may inflate to any number
                return total
            packed = inflater.unconsumed_tail
    return total + len(inflater.flush())


def _pixel_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        stream.seek(len(PNG_SIGNATURE))
        while len(head := stream.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"IDAT":
                yield stream.read(length)
            elif name == b"IEND":
                return
            else:
                stream.seek(length, 1)
            stream.seek(4, 1)  # its checksum
