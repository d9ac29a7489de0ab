"""Opens the files and archive members that hold the slices of a series, and reads their stored pixels."""

from __future__ import annotations

import io
import os
import struct
import threading
import zipfile
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadableFileError
from ..sources import DicomSlice, StoredPixels
from .element_scan import DEFLATED, inflate
from .files import READ_ERRORS, RIGHTS_HINT
from .limits import MAX_INFLATED_EXTRA_BYTES


class SliceStreams:
    """Opens the files of slices, each once in a row, and reads planes from them."""

    def __init__(self) -> None:
        self._archives: dict[Any, zipfile.ZipFile] = {}
        self._key: Any = None
        self._stream: BinaryIO | None = None
        self._frames: dict[Any, list[bytes]] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> SliceStreams:
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
        from pydicom.encaps import generate_frames  # a fifth of a second that uncompressed studies do without

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
            hint = RIGHTS_HINT if isinstance(error, PermissionError) else ""
            raise UnreadableFileError(f"{item}: cannot be read: {type(error).__name__}.", hint=hint) from None

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
