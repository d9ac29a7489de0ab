import json

import numpy as np
import pytest

from lightunet_monai.batch.publish import (
    CASES,
    CHANGED,
    WORK,
    kept_folders,
    model_of,
    publish,
    read_result,
    remove_leftovers,
    staging_folder,
)
from lightunet_monai.errors import OutputError
from lightunet_monai.outputs import write_case
from tests.builders.segmentation import PROVENANCE, make_segmentation

KEY = "0123456789ab"


@pytest.fixture
def stage(tmp_path):
    """Writes a result into a staging folder of its own."""

    def write(voxels=1):
        label_map = np.zeros((4, 4, 4), np.uint8)
        label_map[:voxels] = 1
        staging = staging_folder(tmp_path, "run", KEY)
        write_case(staging, make_segmentation(label_map))
        return staging

    return write


def _content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_result_is_moved_whole(tmp_path, stage):
    staging = stage()
    expected = _content(staging)
    assert publish(staging, tmp_path, KEY)
    assert _content(tmp_path / CASES / KEY) == expected
    assert not staging.exists()
    assert read_result(tmp_path, KEY)["files"][0]["name"] == "labelmap.nii.gz"


def test_the_first_complete_result_stays_and_the_second_is_dropped(tmp_path, stage):
    publish(stage(1), tmp_path, KEY)
    before = _content(tmp_path / CASES / KEY)
    second = stage(2)
    assert not publish(second, tmp_path, KEY)
    assert _content(tmp_path / CASES / KEY) == before
    assert not second.exists()


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _replace(out, stage):
    """Publish another result over one that is not complete; give the names of the folders that were kept."""
    assert read_result(out, KEY) is None
    staging, told = stage(2), []
    expected = _content(staging)
    assert publish(staging, out, KEY, tell_kept=told.append)
    assert _content(out / CASES / KEY) == expected
    assert list((out / WORK / "run").iterdir()) == []
    assert kept_folders(out) == ({KEY: told} if told else {})
    assert {path.name for path in (out / CASES).iterdir()} == {KEY, *told}
    return told


@pytest.mark.parametrize("name", ["labelmap.nii.gz", "findings.json"])
def test_an_incomplete_result_is_none_and_is_replaced(tmp_path, stage, name):
    publish(stage(1), tmp_path, KEY)
    (tmp_path / CASES / KEY / name).unlink()
    assert _replace(tmp_path, stage) == []


@pytest.mark.parametrize("name", ["labelmap.nii.gz", "findings.json"])
@pytest.mark.parametrize("damage", [_cut, _flip], ids=["short", "altered"])
def test_a_result_that_somebody_has_changed_is_none_and_is_kept_under_another_name(tmp_path, stage, name, damage):
    publish(stage(1), tmp_path, KEY)
    folder = tmp_path / CASES / KEY
    damage(folder / name)
    (folder / "mine").mkdir()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (kept,) = _replace(tmp_path, stage)
    assert kept.startswith(f"{KEY}{CHANGED}")
    folder = tmp_path / CASES / kept
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert (folder / "mine").is_dir()


@pytest.mark.parametrize("name", ["note.txt", ".hidden", "labelmap.seg.nrrd", "sub/note.txt", "empty/"])
def test_what_somebody_has_put_beside_an_incomplete_result_is_kept(tmp_path, stage, name):
    publish(stage(1), tmp_path, KEY)
    folder = tmp_path / CASES / KEY
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).mkdir() if name.endswith("/") else (folder / name).write_bytes(b"")
    (folder / "findings.json").unlink()
    (kept,) = _replace(tmp_path, stage)
    assert (tmp_path / CASES / kept / name).exists()
    assert (tmp_path / CASES / kept / "labelmap.nii.gz").is_file()


@pytest.mark.parametrize("text", [None, "", "[]", '{"files": [], "status": "failed"}'])
def test_files_that_no_report_vouches_for_are_kept(tmp_path, stage, text):
    publish(stage(1), tmp_path, KEY)
    report = tmp_path / CASES / KEY / "report.json"
    report.unlink() if text is None else report.write_text(text)
    (kept,) = _replace(tmp_path, stage)
    assert (tmp_path / CASES / kept / "labelmap.nii.gz").is_file()


def test_each_changed_result_is_kept(tmp_path, stage):
    publish(stage(1), tmp_path, KEY)
    for number in range(1, 4):
        _cut(tmp_path / CASES / KEY / "labelmap.nii.gz")
        publish(stage(2), tmp_path, KEY)
        assert len(kept_folders(tmp_path)[KEY]) == number


def test_a_complete_result_with_files_beside_it_stays_where_it_is(tmp_path, stage):
    publish(stage(1), tmp_path, KEY)
    (tmp_path / CASES / KEY / "note.txt").write_text("mine")
    assert not publish(stage(2), tmp_path, KEY)
    assert (tmp_path / CASES / KEY / "note.txt").read_text() == "mine"
    assert kept_folders(tmp_path) == kept_folders(tmp_path / "nothing") == {}


def test_a_report_tells_the_model_as_the_audit_log_has_it(tmp_path, stage):
    publish(stage(), tmp_path, KEY)
    assert model_of(read_result(tmp_path, KEY)) == {
        "model": PROVENANCE.model_name,
        "model_version": PROVENANCE.model_version,
        "weights_sha256": PROVENANCE.weights_sha256,
    }
    assert model_of({"model": None}) == {}


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"files": 1}', '{"files": [1], "status": "done"}'])
def test_a_damaged_report_is_no_result(tmp_path, text):
    (tmp_path / CASES / KEY).mkdir(parents=True)
    (tmp_path / CASES / KEY / "report.json").write_text(text)
    assert read_result(tmp_path, KEY) is None


def test_only_a_case_that_is_done_is_a_result(tmp_path, stage):
    publish(stage(), tmp_path, KEY)
    path = tmp_path / CASES / KEY / "report.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "failed"}))
    assert read_result(tmp_path, KEY) is None


def test_sizes_alone_are_compared_when_there_is_no_time(tmp_path, stage):
    publish(stage(), tmp_path, KEY)
    _flip(tmp_path / CASES / KEY / "labelmap.nii.gz")
    assert read_result(tmp_path, KEY, thorough=False) is not None


def test_a_result_that_cannot_be_moved_is_an_error_of_ours_and_stays(tmp_path, stage):
    (tmp_path / CASES).write_text("in the way")
    staging = stage()
    with pytest.raises(OutputError, match=f"case {KEY}: its result cannot be moved"):
        publish(staging, tmp_path, KEY)
    assert (staging / "report.json").is_file()


def test_leftovers_of_living_runs_stay(tmp_path):
    for run in ("dead", "alive"):
        folder = staging_folder(tmp_path, run, KEY)
        folder.mkdir(parents=True)
        (folder / "labelmap.nii.gz").write_bytes(b"half")
    assert remove_leftovers(tmp_path, {"alive"}) == 1
    assert [path.name for path in (tmp_path / WORK).iterdir()] == ["alive"]
    assert remove_leftovers(tmp_path / "nothing", set()) == 0
