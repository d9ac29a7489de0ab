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

SMALLEST_WINDOW = 176
"""Windows are not made smaller than this: two halos of 56 leave 64 voxels that are kept."""

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


def lighter_loads(load: Load, *, exact: bool) -> Iterator[tuple[Load, str]]:
    """Give lighter and lighter loads, each with a sentence for the report.

    Parameters
    ----------
    load : Load
        What did not fit.
    exact : bool
        Windows are exact. Blended windows keep their size: the result depends on it.

    Yields
    ------
    load : Load
    said : str
    """
    start = load
    while load.sw_batch_size > 1:
        load = replace(load, sw_batch_size=load.sw_batch_size // 2)
        yield load, f"memory ran out on {load.device}: {load.sw_batch_size} windows at once."
    while exact and max(load.roi_size) > SMALLEST_WINDOW:
        load = replace(load, roi_size=tuple(min(size, max(SMALLEST_WINDOW, size // 2)) for size in load.roi_size))
        yield load, f"memory ran out on {load.device}: windows of {' x '.join(map(str, load.roi_size))} voxels."
    if load.device != "cpu":
        load = replace(start, device="cpu")
        yield load, f"memory ran out on {start.device}: the network runs on the CPU."
        yield from lighter_loads(load, exact=exact)


class MemoryLadder:
    """Runs work, and runs it again with less at once when memory runs out.

    Parameters
    ----------
    load : Load
        What the bundle and the options say.
    exact : bool
        As in `lighter_loads`.

    Notes
    -----
    What a case needed is kept for the next: it would run out of memory again.
    """

    def __init__(self, load: Load, *, exact: bool) -> None:
        self.load = load
        self.steps: list[str] = []
        self._lighter = lighter_loads(load, exact=exact)

    def run(self, work: Callable[[Load], Result]) -> Result:
        """Give the result of the first load that fits.

        Raises
        ------
        DeviceMemoryError
            If none does.
        """
        while True:
            try:
                return work(self.load)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._step_down(error)

    def _step_down(self, error: BaseException) -> None:
        # The traceback holds the tensors of the failed attempt.
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        error.__traceback__ = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            self.load, said = next(self._lighter)
        except StopIteration:
            raise DeviceMemoryError(
                f"the network does not fit into the memory of {self.load.device}, "
                f"one window of {' x '.join(map(str, self.load.roi_size))} voxels at a time: {cause}",
                hint="Close other programs, or use a machine with more memory.",
            ) from None
        self.steps.append(said)


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
