"""The data loader of the bundle: order, errors, and what it leaves prepared."""

import threading

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose

from lightunet_monai.errors import UnreadableFileError, find_own_error
from lightunet_monai.transforms import PrefetchDataLoader


def _double(value):
    if value == 3:
        raise UnreadableFileError("case_3: damaged.", hint="Export it again.")
    return {"value": torch.tensor(2 * value), "thread": threading.current_thread().name}


def _loader(values, **settings):
    return PrefetchDataLoader(Dataset(values, transform=_double), batch_size=1, num_workers=0, **settings)


def test_batches_come_in_order_each_prepared_by_another_thread_and_again_in_the_next_round():
    loader = _loader([0, 1, 2])
    for _ in range(2):
        batches = list(loader)
        assert [int(batch["value"]) for batch in batches] == [0, 2, 4]
        assert all(batch["thread"][0] != threading.current_thread().name for batch in batches)


def test_what_one_case_raises_comes_after_the_cases_before_it_and_ends_the_round():
    batches = iter(_loader([1, 2, 3, 4]))
    assert [int(next(batches)["value"]) for _ in range(2)] == [2, 4]
    with pytest.raises(UnreadableFileError, match="case_3"):
        next(batches)
    assert list(batches) == []


def test_another_error_comes_as_monai_raises_it_and_can_be_looked_through():
    def fails(value):
        raise ValueError("no number")

    loader = PrefetchDataLoader(Dataset([1], transform=Compose([fails])), batch_size=1, num_workers=0)
    with pytest.raises(RuntimeError, match="applying transform") as caught:
        list(loader)
    assert isinstance(caught.value.__cause__, ValueError)  # not itself, which would have no end
    assert find_own_error(caught.value) is None


def test_the_order_of_a_shuffle_is_that_of_the_plain_loader():
    orders = []
    for kind in (DataLoader, PrefetchDataLoader):
        torch.manual_seed(7)
        loader = kind(Dataset(list(range(10, 40)), transform=_double), batch_size=2, shuffle=True, num_workers=0)
        orders.append([batch["value"].tolist() for batch in loader])
    assert orders[0] == orders[1]


def test_leaving_the_loop_early_ends_the_thread():
    for _ in _loader([0, 1, 2, 4, 5]):
        break
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batch")]
