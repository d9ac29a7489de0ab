"""Packed voxels of image files, unpacked to the end of their stream: its checksum stands there.

Libraries do not look at it: nibabel stops behind the last voxel, and ITK goes on with what it could not unpack.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from ..errors import UnreadableFileError
from .limits import MAX_INFLATED_EXTRA_BYTES

_CHUNK_BYTES = 2**20
_ZLIB_OR_GZIP = zlib.MAX_WBITS | 32


def read_to_end(stream: gzip.GzipFile, limit_bytes: int) -> int:
    """Read what is left of a gzip stream, so that its checksum is compared.

    Returns
    -------
    int
        How many bytes there were.

    Raises
    ------
    OSError, EOFError, zlib.error
        If the stream is damaged or truncated.
    ValueError
        If there is more than the limit.
    """
    count = 0
    while part := stream.read(_CHUNK_BYTES):
        count += len(part)
        if count > limit_bytes:
            raise ValueError(f"more than {limit_bytes} bytes")
    return count


def check_gzip(path: Path, offset: int, expected_bytes: int, *, lines: int = 0) -> None:
    """Check that a gzip stream is whole and holds the voxels.

    Parameters
    ----------
    path : Path
    offset : int
        Where the stream begins, bytes.
    expected_bytes : int
        Of the unpacked voxels.
    lines : int
        Between the offset and the stream.

    Raises
    ------
    UnreadableFileError
        If it is not.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            for _ in range(lines):
                stream.readline()
            with gzip.GzipFile(fileobj=stream) as unpacked:
                found = read_to_end(unpacked, expected_bytes + MAX_INFLATED_EXTRA_BYTES)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _damaged(path, type(error).__name__) from None
    if found < expected_bytes:
        raise _damaged(path, f"{found} bytes, expected {expected_bytes}")


def check_zlib(path: Path, offset: int, expected_bytes: int, *, packed_bytes: int) -> None:
    """Check that a zlib stream of a known length is whole and holds the voxels.

    Parameters
    ----------
    path : Path
    offset : int
        Where the stream begins, bytes.
    expected_bytes : int
        Of the unpacked voxels.
    packed_bytes : int
        Of the stream, as the header gives them.

    Raises
    ------
    UnreadableFileError
        If it is not.
    """
    inflater, found, left = zlib.decompressobj(_ZLIB_OR_GZIP), 0, packed_bytes
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            while not inflater.eof and found <= expected_bytes + MAX_INFLATED_EXTRA_BYTES:
                packed = inflater.unconsumed_tail or stream.read(min(_CHUNK_BYTES, left))
                left -= 0 if inflater.unconsumed_tail else len(packed)
                if not packed:
                    raise EOFError
                found += len(inflater.decompress(packed, _CHUNK_BYTES))
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, type(error).__name__) from None
    if not inflater.eof or found != expected_bytes:
        raise _damaged(path, f"{found} bytes, expected {expected_bytes}")


def _damaged(path: Path, what: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path}: the packed voxels are damaged or truncated: {what}.", hint="Copy or export the file again."
    )
