"""Decoding compressed planes in child processes: several at once, each with limits on time and memory."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UnreadableFileError
from .child_process import PACKAGE_FOLDER, child_command, child_environment
from .codestream import check_codestream
from .decode_protocol import OK

FRAME_TIMEOUT_SECONDS = 60.0
"""A 512 x 512 plane takes 0.03 s and starting a process 1 s; a busy machine may be ten times slower."""

_MAX_PROCESSES = 8
_PLANES_PER_PROCESS = 6
"""Starting a process costs about as much as decoding this many planes."""

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class CompressedPlane:
    """One compressed plane, read when its turn comes.

    Parameters
    ----------
    name : str
        The file, for messages.
    read : callable
        Gives the encapsulated frame.
    options : dict
        What `_decode_worker.decode` needs.
    """

    name: str
    read: Callable[[], bytes]
    options: dict[str, Any]


class _DecoderEndedError(Exception):
    """The child process is gone."""


def decode_planes(planes: Sequence[CompressedPlane], deliver: Callable[[int, NDArray[Any]], None]) -> None:
    """Decode planes in child processes.

    Parameters
    ----------
    planes : sequence of CompressedPlane
    deliver : callable
        Called with the index of a plane and its stored values, shape (rows, columns); in any order and from
        several threads.

    Raises
    ------
    UnreadableFileError
        If a plane is damaged, or its decoder crashed or took too long; names the file.
    """
    count = max(1, min(_MAX_PROCESSES, os.cpu_count() or 1, len(planes) // _PLANES_PER_PROCESS))
    team = _Team(planes, deliver)
    with ThreadPoolExecutor(count) as pool:
        running = {pool.submit(team.work) for _ in range(count)}
        try:
            while running:
                done, running = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                team.end_late_decoders()
        finally:
            team.stop()


class _Team:
    """The shared state of the threads, each of which keeps one child process busy."""

    def __init__(self, planes: Sequence[CompressedPlane], deliver: Callable[[int, NDArray[Any]], None]) -> None:
        self._planes, self._deliver = planes, deliver
        self._next = iter(range(len(planes)))
        self._lock = threading.Lock()
        self._decoders: list[_Decoder] = []

    def work(self) -> None:
        decoder = _Decoder()
        with self._lock:
            self._decoders.append(decoder)
        try:
            while (index := self._take()) is not None:
                self._deliver(index, self._decode(decoder, self._planes[index]))
        finally:
            decoder.end()

    def end_late_decoders(self) -> None:
        with self._lock:
            for decoder in self._decoders:
                decoder.end_if_late()

    def stop(self) -> None:
        """Hand out no more planes, and end decoders that are still at work on one."""
        with self._lock:
            self._next = iter(())
            for decoder in self._decoders:
                decoder.kill()

    def _take(self) -> int | None:
        with self._lock:
            return next(self._next, None)

    def _decode(self, decoder: _Decoder, plane: CompressedPlane) -> NDArray[Any]:
        try:
            frame = plane.read()
            options = plane.options
            check_codestream(frame, options["syntax"], options["rows"], options["columns"], options["bits_allocated"])
            return decoder.decode(frame, options)
        except _DecoderEndedError:
            why = "took too long" if decoder.is_late else "crashed or ran out of memory"
            raise UnreadableFileError(
                f"{plane.name}: the decoder {why}; the compressed pixels are damaged or crafted.",
                hint="Ask for a new export of this series.",
                reason="decoder",
            ) from None
        except InputError as error:
            raise type(error)(f"{plane.name}: {error.message}", hint=error.hint, reason=error.reason) from None


class _Decoder:
    """One child process."""

    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(
                child_command(f"{__package__}._decode_worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=PACKAGE_FOLDER,
                # One thread of linear algebra is one too many already.
                env=child_environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
            )
        except OSError as error:
            raise UnreadableFileError(
                f"compressed pixels need a process of their own, which could not be started: {type(error).__name__}.",
                hint="Ask for an export without compression.",
                reason="decoder",
            ) from None
        self._deadline: float | None = None
        self.is_late = False

    def decode(self, frame: bytes, options: dict[str, Any]) -> NDArray[Any]:
        request = json.dumps({**options, "length": len(frame)}).encode()
        self._deadline = time.monotonic() + FRAME_TIMEOUT_SECONDS
        try:
            stdin, stdout = self._pipes()
            stdin.write(struct.pack(">I", len(request)) + request + frame)
            stdin.flush()
            head = _read_exactly(stdout, 5)
            payload = _read_exactly(stdout, struct.unpack(">I", head[1:])[0])
        except (OSError, ValueError):
            raise _DecoderEndedError from None
        finally:
            self._deadline = None
        if head[:1] != OK:
            raise UnreadableFileError(f"the pixels cannot be decoded: {payload.decode(errors='replace')}.")
        dtype = np.dtype(payload[:4].decode().strip())
        return np.frombuffer(payload, dtype, offset=4).reshape(options["rows"], options["columns"])

    def end_if_late(self) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.is_late = True
            self.kill()

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        for pipe in self._pipes():
            try:
                pipe.close()
            except OSError:
                continue
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _pipes(self) -> tuple[BinaryIO, BinaryIO]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise AssertionError("made with pipes")
        return stdin, stdout  # type: ignore[return-value]


def _read_exactly(stream: BinaryIO, count: int) -> bytearray:
    data = bytearray(count)
    view, filled = memoryview(data), 0
    while filled < count:
        got = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not got:
            raise _DecoderEndedError
        filled += got
    return data
