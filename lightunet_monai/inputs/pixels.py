"""From stored pixels to Hounsfield units, plane by plane, into one preallocated array.

Uncompressed planes are read straight from the file into their place; compressed ones are decoded by
child processes (`decoding`).
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GeometryError, UnreadableFileError, UnsupportedImageError
from ..sources import DicomSlice, StoredPixels
from .codestream import COMPRESSED, LOSSY
from .decoding import CompressedPlane, decode_planes
from .element_scan import DEFLATED, NATIVE
from .limits import MAX_MEMBER_BYTES, MAX_VOLUME_VOXELS
from .rescale import BitsContradictHeaderError, ValuesExceedInt16Error, rescale_plane
from .streams import SliceStreams

_MAX_THREADS = 4
_PLANES_PER_THREAD = 8
_SLOPE, _INTERCEPT = "Slope", "Intercept"
_NEW_EXPORT = "Ask for a new export of this series."


def read_planes_hu(slices: Sequence[DicomSlice], out: NDArray[Any]) -> None:
    """Read planes into an array as Hounsfield units.

    Parameters
    ----------
    slices : sequence of DicomSlice
        With ``pixels`` set, all of one size.
    out : ndarray of int16 or float32, shape (slices, rows, columns)
        Filled in place.

    Raises
    ------
    UnreadableFileError
        If a file is damaged, truncated, or changed since its header was read, or has values outside its stored bits;
        names the file.
    ValuesExceedInt16Error
        If ``out`` is int16 and cannot hold the values.
    """
    compressed = [index for index, item in enumerate(slices) if _stored(item).length < 0]
    native = [index for index, item in enumerate(slices) if _stored(item).length >= 0]
    count = max(1, min(_MAX_THREADS, os.cpu_count() or 1, len(native) // _PLANES_PER_THREAD))
    if any(_is_unpacked_for_many_frames(slices[index]) for index in native):
        # Each thread would hold the whole instance, and so would each return to it.
        count, native = 1, sorted(native, key=lambda index: (str(slices[index].path), slices[index].member or ""))
    # One run of slices a thread, so that each file is opened by one of them.
    runs = [native[len(native) * k // count : len(native) * (k + 1) // count] for k in range(count)]
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(_read_native, slices, run, out) for run in runs]:
            done.result()
    if compressed:
        _decode(slices, compressed, out)


def _is_unpacked_for_many_frames(item: DicomSlice) -> bool:
    """To read one frame is to take the whole instance into memory: out of an archive, or inflated."""
    pixels = _stored(item)
    return pixels.frames > 1 and (item.member is not None or pixels.transfer_syntax == DEFLATED)


def _read_native(slices: Sequence[DicomSlice], indices: list[int], out: NDArray[Any]) -> None:
    """Read uncompressed planes into their places."""
    scratch = np.empty(0, np.uint8)
    with SliceStreams() as streams:
        for index in indices:
            item, pixels = slices[index], _stored(slices[index])
            dtype, size = _stored_dtype(pixels), _plane_bytes(pixels)
            if out.dtype == np.int16 and dtype in (np.dtype(np.int16), np.dtype(np.uint16)):
                plane = out[index].view(dtype)
            else:
                scratch = scratch if scratch.nbytes >= size else np.empty(size, np.uint8)
                plane = scratch[:size].view(dtype).reshape(pixels.rows, pixels.columns)
            streams.read_into(item, pixels, plane)
            _rescale(plane, item, out[index])


def _rescale(plane: NDArray[Any], item: DicomSlice, out: NDArray[Any]) -> None:
    pixels = _stored(item)
    try:
        rescale_plane(plane, pixels, out)
    except BitsContradictHeaderError:
        raise UnreadableFileError(
            f"{item}: values in the bits below the {pixels.bits_stored} stored ones, expected none with high bit "
            f"{pixels.high_bit}: the header contradicts the pixels.",
            hint=f"If these are right-aligned values, the High Bit of all slices should be {pixels.bits_stored - 1}.",
            reason="high-bit",
        ) from None


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
        if not assume_hu:
            _check_rescale(item, pixels)
        if pixels.slope == 0.0:
            raise UnsupportedImageError(
                f"{item}: the Rescale Slope is 0, expected another number.", hint=_NEW_EXPORT, reason="no-rescale"
            )
    voxels = sum(_stored(item).rows * _stored(item).columns for item in slices)
    if voxels > MAX_VOLUME_VOXELS:
        raise UnsupportedImageError(
            f"{slices[0]}: the volume has {voxels} voxels, expected at most {MAX_VOLUME_VOXELS}.",
            hint="Ask for a reconstruction with fewer pixels or slices.",
            reason="too-large",
        )


def _check_rescale(item: DicomSlice, pixels: StoredPixels) -> None:
    missing = _missing_rescale(pixels)
    if not missing:
        return
    if len(missing) == 2:
        found, hint = "no Rescale Slope or Intercept", "Use --assume-hu if the stored values are Hounsfield units."
    elif missing == (_SLOPE,):
        found = f"a Rescale Intercept of {pixels.intercept:g} and no Slope"
        hint = "Use --assume-hu to add the Intercept to the stored values."
    else:
        found = f"a Rescale Slope of {pixels.slope:g} and no Intercept"
        hint = "Use --assume-hu to multiply the stored values by the Slope alone."
    raise UnsupportedImageError(f"{item}: {found}, expected both for CT.", hint=hint, reason="no-rescale")


def _missing_rescale(pixels: StoredPixels) -> tuple[str, ...]:
    return tuple(name for name, value in ((_SLOPE, pixels.slope), (_INTERCEPT, pixels.intercept)) if value is None)


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
    unspecified = [pixels.rescale_type for pixels in stored if pixels.rescale_type not in ("", "HU")]
    missing = Counter(_missing_rescale(pixels) for pixels in stored) if assume_hu else Counter()
    found = (
        (lossy, "slices were compressed with loss"),
        (len(unspecified), f"slices have rescale type {' or '.join(sorted(set(unspecified)))}, expected HU"),
        (missing[_SLOPE, _INTERCEPT], "slices have no rescale; stored values were taken as Hounsfield units as asked"),
        (missing[_SLOPE,], "slices have a Rescale Intercept and no Slope; it was taken as 1 as asked"),
        (missing[_INTERCEPT,], "slices have a Rescale Slope and no Intercept; it was taken as 0 as asked"),
    )
    return tuple(f"{what}: {count} of {len(stored)} {text}." for count, text in found if count)


def hash_stored_pixels(item: DicomSlice) -> str:
    """A hash of the stored pixels of one plane, to tell copies from different images."""
    pixels = _stored(item)
    digest = hashlib.sha256(f"{pixels.slope} {pixels.intercept}".encode())
    try:
        with SliceStreams() as streams:
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
            hint=_NEW_EXPORT,
            reason="bits",
        )
    if not pixels.bits_stored - 1 <= pixels.high_bit < pixels.bits_allocated:
        raise UnreadableFileError(f"{item}: high bit {pixels.high_bit}, expected {pixels.bits_stored - 1}.")
    # Pixels of a known length are not compressed, whatever an old file meta information says.
    if pixels.transfer_syntax not in (COMPRESSED if pixels.length < 0 else COMPRESSED | NATIVE):
        raise UnreadableFileError(
            f"{item}: transfer syntax {pixels.transfer_syntax} is not known.",
            hint="Ask for an export without compression, in explicit VR little endian.",
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
    if pixels.length >= expected + _plane_bytes(pixels):
        # A byte or two are filled up. A whole plane more means other bits, sizes or frames than the header gives.
        raise UnreadableFileError(
            f"{item}: {pixels.length} bytes of pixels, expected {expected} for {pixels.columns} x {pixels.rows} x "
            f"{pixels.frames} of {pixels.bits_allocated} bits: the header contradicts the pixels.",
            hint=_NEW_EXPORT,
            reason="pixel-length",
        )


def _decode(slices: Sequence[DicomSlice], indices: list[int], out: NDArray[Any]) -> None:
    """Decode compressed planes into their places."""
    failures: list[Exception] = []  # kept: one that is raised here would be taken for one of the decoder

    def deliver(number: int, plane: NDArray[Any]) -> None:
        index = indices[number]
        try:
            _rescale(plane.copy(), slices[index], out[index])
        except (ValuesExceedInt16Error, UnreadableFileError) as error:
            failures.append(error)

    with SliceStreams() as streams:
        decode_planes([_compressed(slices[index], streams) for index in indices], deliver)
    if failures:
        raise failures[0]


def _compressed(item: DicomSlice, streams: SliceStreams) -> CompressedPlane:
    pixels = _stored(item)
    options = {
        "syntax": pixels.transfer_syntax,
        "rows": pixels.rows,
        "columns": pixels.columns,
        "bits_allocated": pixels.bits_allocated,
        # With the bits below the stored ones: a decoder drops what lies above the number it is told.
        "bits_stored": pixels.high_bit + 1,
        "is_signed": pixels.is_signed,
    }
    return CompressedPlane(str(item), lambda: streams.read_frame(item, pixels), options)


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
        raise GeometryError(
            f"{what}: planes of {found} pixels, expected one size.",
            hint="Ask for a complete export of one reconstruction.",
            reason="mixed-size",
        )
    return sizes.pop()
