"""The bundle's data loader: the next batch is prepared while the present one is used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from monai.data import DataLoader

from ..errors import find_own_error


class PrefetchDataLoader(DataLoader):
    """Prepare one batch ahead in a thread, in the order of MONAI's `DataLoader`, whose parameters it has.

    What goes wrong while a batch is prepared is raised where the batch would have come. (With MONAI's
    `ThreadDataLoader` the thread dies, the loop ends as if the cases were over, and ignite begins with the first
    one again.)

    Raises
    ------
    LightUNetError
        What the package's own transforms raise, without MONAI's wrapping.
    """

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches."""
        batches = super().__iter__()
        with ThreadPoolExecutor(1, thread_name_prefix="batch") as thread:
            coming: Future[Any] = thread.submit(next, batches, None)
            while (batch := _result(coming)) is not None:
                coming = thread.submit(next, batches, None)
                yield batch


def _result(coming: Future[Any]) -> Any:
    try:
        return coming.result()
    except RuntimeError as error:  # as MONAI wraps what a transform raises
        if (own := find_own_error(error)) is None:
            raise
        raise own from error
