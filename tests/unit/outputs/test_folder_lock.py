"""One process at a time writes into a folder."""

import os
import threading

import pytest

from lightunet_monai.errors import OutputError
from lightunet_monai.outputs.atomic import atomic_folder
from lightunet_monai.outputs.folder_lock import locked_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")


def test_a_folder_that_another_one_writes_into_is_refused_and_free_again_afterwards(tmp_path):
    with (
        locked_folder(tmp_path, wait=False),
        pytest.raises(OutputError, match="another process writes into it") as caught,
        locked_folder(tmp_path, wait=False),
    ):
        pass
    assert caught.value.reason == "in-use"
    with locked_folder(tmp_path, wait=False):
        assert list(tmp_path.iterdir()) == []


def test_files_of_a_result_are_exchanged_by_one_run_after_the_other(tmp_path):
    (tmp_path / "report.json").write_text("old")

    def write():
        with atomic_folder(tmp_path, ["report.json"]) as room:
            (room / "report.json").write_text("new")

    second = threading.Thread(target=write)
    with locked_folder(tmp_path, wait=True):
        second.start()
        second.join(0.5)
        assert second.is_alive()
        assert (tmp_path / "report.json").read_text() == "old"
    second.join(60)
    assert (tmp_path / "report.json").read_text() == "new"
