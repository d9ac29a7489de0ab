"""What one run may vary without changing the meaning of its result."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import UsageError

ENGINES = ("auto", "torch", "torch-tuned", "torch-compiled", "openvino", "onnxruntime", "tensorrt")
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")

MOST_THREADS = 1024
"""More than any processor has: starting many thousands ends in errors that speak of memory."""


@dataclass(frozen=True)
class RunOptions:
    """Options of one run. A field that is None means "as the bundle says".

    >>> RunOptions(device="cpu", threads=2)

    Parameters
    ----------
    device : str or None
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    engine : str or None
        One of `ENGINES`.
    precision : str or None
        One of `PRECISIONS`.
    sw_batch_size : int or None
        Windows (or slices) computed at once; at least 1. Lower it when memory is short.
    overlap : float or None
        Overlap of blended sliding windows, 0 up to but not including 1. None keeps exact tiling.
    threads : int or None
        CPU threads; 1 to `MOST_THREADS`.

    Raises
    ------
    UsageError
        If a field has a value outside these ranges.
    """

    device: str | None = None
    engine: str | None = None
    precision: str | None = None
    sw_batch_size: int | None = None
    overlap: float | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        _check("engine", self.engine, self.engine in (None, *ENGINES), f"one of {', '.join(ENGINES)}")
        _check("precision", self.precision, self.precision in (None, *PRECISIONS), f"one of {', '.join(PRECISIONS)}")
        batch, overlap, threads = self.sw_batch_size, self.overlap, self.threads
        _check("sw_batch_size", batch, batch is None or (_is_whole(batch) and batch >= 1), "a whole number from 1 on")
        is_share = isinstance(overlap, (int, float)) and 0.0 <= overlap < 1.0
        _check("overlap", overlap, overlap is None or is_share, "a number, 0 or more and below 1")
        most = f"a whole number from 1 to {MOST_THREADS}"
        _check("threads", threads, threads is None or (_is_whole(threads) and 1 <= threads <= MOST_THREADS), most)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check(name: str, found: object, is_allowed: bool, expected: str) -> None:
    if not is_allowed:
        raise UsageError(f"option {name}: found {found}, expected {expected}.")
