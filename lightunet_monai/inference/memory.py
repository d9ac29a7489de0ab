"""When memory runs out: fewer windows at once, then smaller windows, then the CPU.

Exact windows give the same numbers whatever their size, so each step costs time and changes no label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from ..errors import DeviceMemoryError

Result = TypeVar("Result")

LEAST_KEPT = 64
"""Voxels of a window, along each axis, that are kept beside its two halos: windows are not made smaller."""

SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "bad allocation",
    "failed to allocate",
    "status_alloc_failed",
)
"""What PyTorch, NVIDIA's libraries, OpenVINO and ONNX Runtime say in a `RuntimeError` when memory runs out, in lower
case; ``bad_alloc`` is ``bad allocation`` where Microsoft's compiler made the library."""


@dataclass(frozen=True)
class Load:
    """How much the network is given at once, and where.

    Parameters
    ----------
    sw_batch_size : int
        Windows at once.
    roi_size : tuple of int
        Largest window, voxels.
    device : str
        Where the network runs.
    """

    sw_batch_size: int
    roi_size: tuple[int, ...]
    device: str


def smallest_window(halo: int) -> int:
    """The smallest window, voxels, of an inferer that gives each window a halo on both sides."""
    return 2 * halo + LEAST_KEPT


def lighter_loads(load: Load, *, smallest: int | None) -> Iterator[tuple[Load, str]]:
    """Give lighter and lighter loads, each with a sentence for the report.

    Parameters
    ----------
    load : Load
        What did not fit.
    smallest : int or None
        Exact windows are not made smaller, voxels; see `smallest_window`. None for blended ones, which keep their size:
        the result depends on it.

    Yields
    ------
    load : Load
    said : str
    """
    start = load
    while load.sw_batch_size > 1:
        load = replace(load, sw_batch_size=load.sw_batch_size // 2)
        yield load, f"memory ran out on {load.device}: {load.sw_batch_size} windows at once."
    while smallest is not None and max(load.roi_size) > smallest:
        load = replace(load, roi_size=tuple(min(size, max(smallest, size // 2)) for size in load.roi_size))
        yield load, f"memory ran out on {load.device}: windows of {' x '.join(map(str, load.roi_size))} voxels."
    if load.device != "cpu":
        load = replace(start, device="cpu")
        yield load, f"memory ran out on {start.device}: the network runs on the CPU."
        yield from lighter_loads(load, smallest=smallest)


class MemoryLadder:
    """Runs work, and runs it again with less at once when memory runs out.

    Parameters
    ----------
    load : Load
        What the bundle and the options say.
    smallest : int or None
        As in `lighter_loads`.

    Attributes
    ----------
    steps : list of str
        Sentences for the report of the work that was run last: what it took, and what an earlier case left.

    Notes
    -----
    What fitted one case is kept for the next: it would run out of memory again. A case that nothing fits leaves no
    trace.
    """

    def __init__(self, load: Load, *, smallest: int | None) -> None:
        self.steps: list[str] = []
        self._rungs = [(load, ""), *lighter_loads(load, smallest=smallest)]
        self._rung = 0

    @property
    def load(self) -> Load:
        """What the next work is tried with first."""
        return self._rungs[self._rung][0]

    def run(self, work: Callable[[Load], Result]) -> Result:
        """Give the result of the first load that fits.

        Raises
        ------
        DeviceMemoryError
            If none does.
        """
        self.steps = [_kept_from_before(self.load)] if self._rung else []
        cause = ""
        for rung in range(self._rung, len(self._rungs)):
            load, said = self._rungs[rung]
            if rung > self._rung:
                self.steps.append(said)
            try:
                result = work(load)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                cause = str(error).splitlines()[0] if str(error) else type(error).__name__
                error.__traceback__ = None  # it holds the tensors of the failed attempt
            else:
                self._rung = rung
                return result
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        raise DeviceMemoryError(
            f"the network does not fit into the memory of {load.device}, "
            f"one window of {' x '.join(map(str, load.roi_size))} voxels at a time: {cause}",
            hint="Close other programs, or use a machine with more memory.",
        )


def _kept_from_before(load: Load) -> str:
    windows = f"windows of {' x '.join(map(str, load.roi_size))} voxels, {load.sw_batch_size} at once"
    return f"memory ran out in an earlier case: since then the network runs on {load.device} with {windows}."


def is_out_of_memory(error: Any) -> bool:
    """Say whether an error means that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in SIGNS)


def find_out_of_memory(error: BaseException) -> BaseException | None:
    """Return the error that means that memory ran out, itself or behind another one, or None."""
    cause: BaseException | None = error
    while cause is not None and not is_out_of_memory(cause):
        cause = cause.__cause__ or cause.__context__
    return cause
