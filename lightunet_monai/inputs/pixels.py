"""From stored pixels to Hounsfield units, plane by plane, into one preallocated array.

Uncompressed planes are read straight from the file into their place; compressed ones are decoded by
child processes (`decoding`). Display is not our business: MONOCHROME1, windows and lookup tables do not
change a stored value's meaning in Hounsfield units.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import threading
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_frames

from ..errors import GeometryError, UnreadableFileError, UnsupportedImageError
from ..sources import DicomSlice, StoredPixels
from .codestream import COMPRESSED, LOSSY
from .decoding import CompressedPlane, decode_planes
from .element_scan import DEFLATED, inflate
from .files import READ_ERRORS
from .limits import MAX_INFLATED_EXTRA_BYTES, MAX_MEMBER_BYTES, MAX_VOLUME_VOXELS

AIR_HU = -1024
"""What padding becomes: the value scanners themselves write outside the field of view."""

_MAX_THREADS = 4
_PLANES_PER_THREAD = 8

_INT16_MIN, _INT16_MAX = -(2**15), 2**15 - 1


class ValuesExceedInt16Error(Exception):
    """Hounsfield units that are not whole numbers, or beyond the range of int16."""


def read_planes_hu(slices: Sequence[DicomSlice], out: NDArray[Any], *, assume_hu: bool = False) -> None:
    """Read planes into an array as Hounsfield units.

    Parameters
    ----------
    slices : sequence of DicomSlice
        With ``pixels`` set, all of one size.
    out : ndarray of int16 or float32, shape (slices, rows, columns)
        Filled in place.
    assume_hu : bool
        Take stored values as Hounsfield units where the header has no rescale.

    Raises
    ------
    UnreadableFileError
        If a file is damaged, truncated, or changed since its header was read; names the file.
    ValuesExceedInt16Error
        If ``out`` is int16 and cannot hold the values.
    """
    compressed = [index for index, item in enumerate(slices) if _stored(item).length < 0]
    native = [index for index, item in enumerate(slices) if _stored(item).length >= 0]
    count = max(1, min(_MAX_THREADS, os.cpu_count() or 1, len(native) // _PLANES_PER_THREAD))
    # One run of slices a thread, so that each file is opened by one of them.
    runs = [native[len(native) * k // count : len(native) * (k + 1) // count] for k in range(count)]
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(_read_native, slices, run, out, assume_hu) for run in runs]:
            done.result()
    if compressed:
        _decode(slices, compressed, out, assume_hu)


def _read_native(slices: Sequence[DicomSlice], indices: list[int], out: NDArray[Any], assume_hu: bool) -> None:
    """Read uncompressed planes into their places."""
    scratch = np.empty(0, np.uint8)
    with _Streams() as streams:
        for index in indices:
            item, pixels = slices[index], _stored(slices[index])
            dtype, size = _stored_dtype(pixels), _plane_bytes(pixels)
            if out.dtype == np.int16 and dtype in (np.dtype(np.int16), np.dtype(np.uint16)):
                plane = out[index].view(dtype)
            else:
                scratch = scratch if scratch.nbytes >= size else np.empty(size, np.uint8)
                plane = scratch[:size].view(dtype).reshape(pixels.rows, pixels.columns)
            streams.read_into(item, pixels, plane)
            _to_hu(plane, pixels, out[index], assume_hu)


def check_storage(slices: Sequence[DicomSlice], *, assume_hu: bool = False) -> None:
    """Check, before any pixel is read, that the planes can be decoded and are as large as announced.

    Raises
    ------
    UnreadableFileError
        If a file is shorter than its planes, or its transfer syntax is unknown.
    UnsupportedImageError
        If the pixels are of a kind that is not read, or have no rescale to Hounsfield units.
    """
    for item in slices:
        pixels = _stored(item)
        _check_kind(item, pixels)
        if pixels.length >= 0:
            _check_length(item, pixels)
        if pixels.slope is None and pixels.intercept is None and not assume_hu:
            raise UnsupportedImageError(
                f"{item}: no Rescale Slope and Intercept, expected them for CT.",
                hint="Use --assume-hu if the stored values are Hounsfield units.",
                reason="no-rescale",
            )
    voxels = sum(_stored(item).rows * _stored(item).columns for item in slices)
    if voxels > MAX_VOLUME_VOXELS:
        raise UnsupportedImageError(
            f"{slices[0]}: the volume has {voxels} voxels, expected at most {MAX_VOLUME_VOXELS}.", reason="too-large"
        )


def may_need_float(slices: Sequence[DicomSlice]) -> bool:
    """The rescale alone says that Hounsfield units are no whole numbers."""
    return any(
        not float(value).is_integer()
        for item in slices
        for value in (_stored(item).slope or 1.0, _stored(item).intercept or 0.0)
    )


def pixel_warnings(slices: Sequence[DicomSlice], what: str, *, assume_hu: bool = False) -> tuple[str, ...]:
    """What is tolerated about the pixels, for the report."""
    stored = [_stored(item) for item in slices]
    lossy = sum(pixels.is_lossy or pixels.transfer_syntax in LOSSY for pixels in stored)
    unspecified = sum(pixels.rescale_type not in ("", "HU") for pixels in stored)
    assumed = sum(pixels.slope is None for pixels in stored) if assume_hu else 0
    found = (
        (lossy, "slices were compressed with loss"),
        (unspecified, f"slices have rescale type {stored[0].rescale_type or 'unknown'}, expected HU"),
        (assumed, "slices have no rescale; stored values were taken as Hounsfield units as asked"),
    )
    return tuple(f"{what}: {count} of {len(stored)} {text}." for count, text in found if count)


def hash_stored_pixels(item: DicomSlice) -> str:
    """A hash of the stored pixels of one plane, to tell copies from different images."""
    pixels = _stored(item)
    digest = hashlib.sha256(f"{pixels.slope} {pixels.intercept}".encode())
    try:
        with _Streams() as streams:
            stream = streams.open(item, pixels)
            size = _plane_bytes(pixels) if pixels.length >= 0 else MAX_MEMBER_BYTES
            stream.seek(pixels.offset + (item.frame or 0) * max(0, _plane_bytes(pixels)) * (pixels.length >= 0))
            while size > 0 and (part := stream.read(min(size, 2**20))):
                digest.update(part)
                size -= len(part)
    except UnreadableFileError:
        return f"unreadable {item}"
    return digest.hexdigest()


def _stored(item: DicomSlice) -> StoredPixels:
    if item.pixels is None:
        raise AssertionError("headers are read before pixels")
    return item.pixels


def _stored_dtype(pixels: StoredPixels) -> np.dtype[Any]:
    order = "<" if pixels.is_little_endian else ">"
    return np.dtype(f"{order}{'i' if pixels.is_signed else 'u'}{pixels.bits_allocated // 8}")


def _plane_bytes(pixels: StoredPixels) -> int:
    return pixels.rows * pixels.columns * pixels.bits_allocated // 8


def _check_kind(item: DicomSlice, pixels: StoredPixels) -> None:
    if pixels.bits_allocated not in (8, 16, 32) or not 0 < pixels.bits_stored <= pixels.bits_allocated:
        raise UnsupportedImageError(
            f"{item}: {pixels.bits_stored} of {pixels.bits_allocated} bits stored, expected 1 to 8, 16 or 32.",
            reason="bits",
        )
    if not pixels.bits_stored - 1 <= pixels.high_bit < pixels.bits_allocated:
        raise UnreadableFileError(f"{item}: high bit {pixels.high_bit}, expected {pixels.bits_stored - 1}.")
    if pixels.length < 0 and pixels.transfer_syntax not in COMPRESSED:
        raise UnreadableFileError(
            f"{item}: transfer syntax {pixels.transfer_syntax} is not known.",
            hint="Ask for an export without compression.",
            reason="transfer-syntax",
        )


def _check_length(item: DicomSlice, pixels: StoredPixels) -> None:
    expected = _plane_bytes(pixels) * pixels.frames
    available = pixels.length
    if pixels.file_bytes and pixels.transfer_syntax != DEFLATED:
        available = min(available, pixels.file_bytes - pixels.offset)
    if available < expected:
        raise UnreadableFileError(
            f"{item}: truncated, {available} bytes of pixels, expected {expected} for "
            f"{pixels.columns} x {pixels.rows} x {pixels.frames}.",
            hint="Copy or export the file again.",
            reason="truncated",
        )


def _decode(slices: Sequence[DicomSlice], indices: list[int], out: NDArray[Any], assume_hu: bool) -> None:
    """Decode compressed planes into their places."""
    failures: list[Exception] = []

    def deliver(number: int, plane: NDArray[Any]) -> None:
        index = indices[number]
        try:
            _to_hu(plane.copy(), _stored(slices[index]), out[index], assume_hu)
        except ValuesExceedInt16Error as error:
            failures.append(error)

    with _Streams() as streams:
        decode_planes([_compressed(slices[index], streams) for index in indices], deliver)
    if failures:
        raise failures[0]


def _compressed(item: DicomSlice, streams: _Streams) -> CompressedPlane:
    pixels = _stored(item)
    options = {
        "syntax": pixels.transfer_syntax,
        "rows": pixels.rows,
        "columns": pixels.columns,
        "bits_allocated": pixels.bits_allocated,
        "bits_stored": pixels.bits_stored,
        "is_signed": pixels.is_signed,
    }
    return CompressedPlane(str(item), lambda: streams.read_frame(item, pixels), options)


def _to_hu(plane: NDArray[Any], pixels: StoredPixels, out: NDArray[Any], assume_hu: bool) -> None:
    """Stored values to Hounsfield units; ``plane`` may be changed and may share memory with ``out``."""
    slope, intercept = pixels.slope, pixels.intercept
    slope = 1.0 if slope is None else slope
    intercept = 0.0 if intercept is None else intercept
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


def _clean_bits(plane: NDArray[Any], pixels: StoredPixels) -> NDArray[Any]:
    """Drop what lies in bits above or below the stored ones, and extend the sign."""
    bits, allocated = pixels.bits_stored, plane.dtype.itemsize * 8
    below, above = pixels.high_bit + 1 - bits, allocated - 1 - pixels.high_bit
    if bits >= allocated:
        return plane
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


class _Streams:
    """Opens the files of slices, each once in a row, and reads planes from them."""

    def __init__(self) -> None:
        self._archives: dict[Any, zipfile.ZipFile] = {}
        self._key: Any = None
        self._stream: BinaryIO | None = None
        self._frames: dict[Any, list[bytes]] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> _Streams:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
        for archive in self._archives.values():
            archive.close()

    def open(self, item: DicomSlice, pixels: StoredPixels) -> BinaryIO:
        """The (inflated) stream of an instance; stays open for the next frame of it."""
        key = (item.path, item.member)
        if key != self._key or self._stream is None:
            if self._stream is not None:
                self._stream.close()
            self._stream, self._key = self._open(item, pixels), key
        return self._stream

    def read_into(self, item: DicomSlice, pixels: StoredPixels, plane: NDArray[Any]) -> None:
        """Fill an array with an uncompressed plane."""
        stream = self.open(item, pixels)
        stream.seek(pixels.offset + (item.frame or 0) * plane.nbytes)
        view, filled = memoryview(plane.reshape(-1).view(np.uint8).data), 0
        while filled < plane.nbytes:
            got = stream.readinto(view[filled:])  # type: ignore[attr-defined]
            if not got:
                raise UnreadableFileError(
                    f"{item}: truncated, {filled} bytes of a plane, expected {plane.nbytes}.",
                    hint="Copy or export the file again.",
                    reason="truncated",
                )
            filled += got

    def read_frame(self, item: DicomSlice, pixels: StoredPixels) -> bytes:
        """The compressed bytes of one plane; may be called by several threads."""
        if pixels.frames == 1:
            return self._read_frames(item, pixels)[0]
        with self._lock:
            key = (item.path, item.member)
            if key not in self._frames:
                self._frames[key] = self._read_frames(item, pixels)
            return self._frames[key][item.frame or 0]

    def _read_frames(self, item: DicomSlice, pixels: StoredPixels) -> list[bytes]:
        with self._open(item, pixels) as stream:
            stream.seek(pixels.offset)
            try:
                frames = list(generate_frames(io.BytesIO(stream.read()), number_of_frames=pixels.frames))
            except (ValueError, EOFError, KeyError, IndexError, TypeError, OSError, struct.error) as error:
                raise UnreadableFileError(f"the compressed pixels are damaged: {type(error).__name__}.") from None
        if len(frames) < pixels.frames:
            raise UnreadableFileError(f"compressed pixels of {len(frames)} frames, expected {pixels.frames}.")
        return frames

    def _open(self, item: DicomSlice, pixels: StoredPixels) -> BinaryIO:
        try:
            stream = self._open_stored(item, pixels)
            if pixels.transfer_syntax != DEFLATED:
                return stream
            with stream:
                limit = pixels.offset + max(pixels.length, 0) + MAX_INFLATED_EXTRA_BYTES
                return io.BytesIO(inflate(stream, limit))
        except UnreadableFileError as error:
            raise UnreadableFileError(f"{item}: {error.message}", hint=error.hint, reason=error.reason) from None
        except READ_ERRORS as error:
            raise UnreadableFileError(f"{item}: cannot be read: {type(error).__name__}.") from None

    def _open_stored(self, item: DicomSlice, pixels: StoredPixels) -> BinaryIO:
        if item.member is None:
            stream = open(item.path, "rb", buffering=0)  # noqa: SIM115 - closed by the caller
            status = os.fstat(stream.fileno())
            if pixels.file_bytes and (status.st_size, status.st_mtime_ns) != (pixels.file_bytes, pixels.modified_ns):
                stream.close()
                raise UnreadableFileError("changed since its header was read.", hint="Run again.", reason="changed")
            return stream
        with self._lock:
            if item.path not in self._archives:
                self._archives[item.path] = zipfile.ZipFile(item.path)
        return io.BytesIO(self._archives[item.path].read(item.member))


def check_one_size(slices: Sequence[DicomSlice], what: str) -> tuple[int, int]:
    """Rows and columns of all planes.

    Raises
    ------
    GeometryError
        If they differ.
    """
    sizes = {(_stored(item).rows, _stored(item).columns) for item in slices}
    if len(sizes) != 1:
        found = ", ".join(f"{columns} x {rows}" for rows, columns in sorted(sizes))
        raise GeometryError(f"{what}: planes of {found} pixels, expected one size.", reason="mixed-size")
    return sizes.pop()
