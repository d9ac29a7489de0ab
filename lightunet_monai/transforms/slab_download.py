"""Slabs from the device into an array of the host, the copy of one beside the computation of the next."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

IN_FLIGHT = 4
"""Slabs that may be under way at once; each holds page-locked memory of its size."""


_event: Any = torch.cuda.Event  # without types in PyTorch


class SlabDownload:
    """Write slabs into parts of a tensor on the CPU; complete when the ``with`` block is left.

    A slab on a CUDA device goes into page-locked memory without waiting, so that the device computes the next one
    meanwhile, and from there into its place. On every other device it is written at once.

    >>> target = torch.zeros(4, 2, dtype=torch.uint8)
    >>> with SlabDownload() as download:
    ...     download.put(target[:2], torch.ones(2, 2) > 0)
    >>> int(target.sum())
    4
    """

    def __init__(self) -> None:
        self._under_way: deque[tuple[Tensor, Tensor, Any]] = deque()

    def put(self, target: Tensor, slab: Tensor) -> None:
        """Write ``slab``, on any device, into ``target``, a view of the same shape on the CPU, cast to its dtype."""
        slab = slab.to(target.dtype)
        if slab.device.type != "cuda":
            target.copy_(slab)
            return
        staged = torch.empty(slab.shape, dtype=slab.dtype, pin_memory=True)
        staged.copy_(slab, non_blocking=True)
        copied = _event()
        copied.record(torch.cuda.current_stream(slab.device))
        self._under_way.append((target, staged, copied))
        if len(self._under_way) >= IN_FLIGHT:
            self._finish_oldest()

    def __enter__(self) -> SlabDownload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while kind is None and self._under_way:
            self._finish_oldest()
        self._under_way.clear()

    def _finish_oldest(self) -> None:
        target, staged, copied = self._under_way.popleft()
        copied.synchronize()
        target.copy_(staged)
