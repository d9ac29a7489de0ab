"""A run over a root with a stand-in for the workers: it ends, whatever is found, and tries again what it should."""

import json
import shutil
import sqlite3
import threading
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from lightunet_monai.batch import feed
from lightunet_monai.batch.causes import Cause, cause_of
from lightunet_monai.batch.driver import Batch
from lightunet_monai.batch.feed import Feed, Watch
from lightunet_monai.batch.keys import case_key, former_series_hash
from lightunet_monai.batch.lease import Owner
from lightunet_monai.batch.ledger import FILE_NAME, Ledger
from lightunet_monai.batch.publish import CASES
from lightunet_monai.batch.summary import write_summary
from lightunet_monai.batch.task import Outcome
from lightunet_monai.batch.units import list_units
from lightunet_monai.errors import LightUNetError, OutputError
from lightunet_monai.inputs import discover_sources, read_hu
from lightunet_monai.outputs import write_case
from lightunet_monai.sources import ImageFile
from tests.builders.segmentation import PROVENANCE, make_segmentation
from tests.builders.series import make_series
from tests.builders.volume import make_nifti, make_voxels


class FailingPool:
    """Every case fails, with the same cause."""

    def __init__(self, *, may_pass=True):
        self.model, self.tasks, self.attempts = {}, [], 0
        self.cause = Cause("DeviceMemoryError", "device-memory", "did not fit.", may_pass=may_pass)

    def submit(self, task):
        self.tasks.append(task)
        self.attempts += 1
        return True

    def poll(self, seconds):
        tasks, self.tasks = self.tasks, []
        return [Outcome(task.key, cause=self.cause) for task in tasks]

    def in_flight(self):
        return [task.key for task in self.tasks]

    def close(self):
        pass


class ReadingPool(FailingPool):
    """Every case is done whose volume can be read; folders of these names go away right before."""

    def __init__(self, lost=""):
        super().__init__()
        self.lost = lost

    def poll(self, seconds):
        tasks, self.tasks = self.tasks, []
        return [self._read(task) for task in tasks]

    def _read(self, task):
        folder = task.source.paths[0].parent
        if folder.name in self.lost:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            read_hu(task.source)
        except LightUNetError as error:
            return Outcome(task.key, cause=cause_of(error))
        return Outcome(task.key, facts={})


class BusyPool(FailingPool):
    """No worker is free."""

    def submit(self, task):
        return False


@pytest.fixture
def run(tmp_path):
    """Runs a batch over a root; gives its progress and how many attempts were made."""

    def call(look, *, may_pass=True, **options):
        pool = FailingPool(may_pass=may_pass)
        with Ledger(tmp_path / "out", Owner.of_this_process()) as ledger:
            state = Batch(look, ledger, pool, **options).run(threading.Event())
        return state, pool.attempts

    return call


def test_a_link_to_itself_in_the_root_is_listed_as_failed_and_the_run_ends(run, tmp_path):
    root = tmp_path / "root"
    make_series(root / "study")
    (root / "loop").symlink_to("loop")
    (root / "study" / "loop").symlink_to("loop")
    state, attempts = run(lambda: list_units(root), retries=0)
    assert attempts == 1
    assert state.counts["failed"] == 2  # the link, and the study that fails here
    with Ledger(tmp_path / "out") as ledger:
        assert sorted(row.reason for row in ledger.cases()) == ["device-memory", "link-outside"]


def _copies(root):
    make_series(root / "a")
    for name in "bc":
        shutil.copytree(root / "a", root / name)
    return root


def _counts(state):
    return {name: count for name, count in state.counts.items() if count}


def test_a_copy_of_a_study_is_read_where_the_first_is_gone_before_its_turn(tmp_path):
    root, out, stop = _copies(tmp_path / "root"), tmp_path / "out", threading.Event()

    def stop_when_surveyed(event, facts):
        if event == "progress" and facts["state"].is_surveyed:
            stop.set()

    with Ledger(out, Owner.of_this_process()) as ledger:
        busy = BusyPool()
        state = Batch(lambda: list_units(root), ledger, busy, tell=stop_when_surveyed).run(stop)
    assert _counts(state) == {"found": 1}
    shutil.rmtree(root / "a")
    with Ledger(out, Owner.of_this_process()) as ledger:
        state = Batch(lambda: list_units(root), ledger, ReadingPool()).run(threading.Event())
    assert _counts(state) == {"done": 1}


@pytest.mark.parametrize(("lost", "attempts", "counts"), [
    ("", 1, {"done": 1}), ("a", 3, {"done": 1}), ("ab", 5, {"done": 1}), ("abc", 6, {"failed": 1}),
])  # fmt: skip
def test_copies_of_a_study_are_tried_until_one_can_be_read(tmp_path, lost, attempts, counts):
    root, out = _copies(tmp_path / "root"), tmp_path / "out"
    pool = ReadingPool(lost)
    with Ledger(out, Owner.of_this_process()) as ledger:
        state = Batch(lambda: list_units(root), ledger, pool, retries=1).run(threading.Event())
        (row,) = ledger.cases()
    assert (_counts(state), pool.attempts) == (counts, attempts)
    assert row.final


def test_a_copy_that_comes_after_all_others_have_failed_is_tried(tmp_path):
    root, out = _copies(tmp_path / "root"), tmp_path / "out"
    with Ledger(out, Owner.of_this_process()) as ledger:
        state = Batch(lambda: list_units(root), ledger, ReadingPool("abc")).run(threading.Event())
        assert _counts(state) == {"failed": 1}
        make_series(root / "later")
        state = Batch(lambda: list_units(root), ledger, ReadingPool()).run(threading.Event())
    assert _counts(state) == {"done": 1}


def test_an_archive_beside_a_series_has_failed_until_it_is_mended(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    make_series(root / "study")
    other = make_series(tmp_path / "other", series=2)
    (root / "study" / "more.zip").write_bytes(b"PK cut off")

    def run_once():
        with Ledger(out, Owner.of_this_process()) as ledger:
            state = Batch(lambda: list_units(root), ledger, FailingPool(may_pass=False)).run(threading.Event())
            return _counts(state), sorted(row.reason for row in ledger.cases() if row.superseded_by is None)

    assert run_once() == run_once() == ({"failed": 2}, ["archive", "device-memory"])
    with zipfile.ZipFile(root / "study" / "more.zip", "w") as archive:
        for path in other.files:
            archive.write(path, path.name)
    assert run_once() == ({"failed": 2}, ["device-memory", "device-memory"])


def test_a_study_whose_survey_breaks_is_listed_and_the_others_have_their_turn(run, tmp_path, monkeypatch):
    make_series(tmp_path / "root" / "bad", series=1)
    make_series(tmp_path / "root" / "good", series=2)
    real = feed.survey

    def survey(path):
        if path.name == "bad":
            raise RuntimeError("of PLANTED^PATIENT")
        return real(path)

    monkeypatch.setattr(feed, "survey", survey)
    state, attempts = run(lambda: list_units(tmp_path / "root"), retries=0)
    assert (attempts, state.counts["failed"]) == (1, 2)
    with Ledger(tmp_path / "out") as ledger:
        (row,) = (row for row in ledger.cases() if row.reason == "unexpected")
    assert row.message.startswith("unexpected RuntimeError in ")
    assert "PLANTED" not in row.message


def test_an_error_that_nobody_foresaw_ends_the_run_instead_of_leaving_it_waiting(run):
    def look():
        raise RuntimeError("of PLANTED^PATIENT")
        yield

    with pytest.raises(LightUNetError, match="the survey of the studies ended: unexpected RuntimeError") as caught:
        run(look)
    assert "PLANTED" not in str(caught.value)


@pytest.mark.parametrize(("may_pass", "each"), [(True, 3), (False, 1)])
def test_what_an_earlier_run_gave_up_is_tried_again_once_when_asked_for(run, tmp_path, may_pass, each):
    make_series(tmp_path / "root" / "study")

    def look():
        return list_units(tmp_path / "root")

    attempts = [run(look, may_pass=may_pass, retry_failed=again)[1] for again in (False, False, True, True, False)]
    assert attempts == [each, 0, each, each, 0]


WATCH = Watch(interval=0.01, quiet=0.0)

PATIENCE = 1000
"""Looks at the root, or turns of the loop, after which a watching run that does not get on is stopped."""


class SlowPool(FailingPool):
    """Two workers: the case of study a is done once that of b was, and the root has been looked at some times more."""

    def __init__(self, on_first, looks, stop):
        super().__init__()
        self.on_first, self.looks, self.stop = on_first, looks, stop
        self.events, self.polls, self.last = [], 0, 0

    def submit(self, task):
        if not self.tasks:
            self.on_first()
        self.events.append(f"{task.source.paths[0].parent.name} out")
        return super().submit(task)

    def poll(self, seconds):
        time.sleep(0.002)
        self.polls += 1
        if self.events[-1:] == ["b out"]:
            self.last = len(self.looks) + 5
            return self._finish("b")
        if self.polls > PATIENCE or (self.last and len(self.looks) > self.last):
            self.stop.set()
            return self._finish("a")
        return []

    def _finish(self, name):
        done = [task for task in self.tasks if task.source.paths[0].parent.name == name]
        self.tasks = [task for task in self.tasks if task not in done]
        self.events += [f"{name} done" for _ in done]
        return [Outcome(task.key, facts={}) for task in done]


def test_a_case_that_takes_long_keeps_no_new_study_of_a_watched_folder_waiting(tmp_path, monkeypatch):
    root, stop, looks, surveyed, real = tmp_path / "root", threading.Event(), [], [], feed.survey
    make_series(root / "a", series=1)
    make_series(tmp_path / "b", series=2)

    def look():
        looks.append(1)
        return list_units(root)

    def survey(path):
        surveyed.append(path.name)
        return real(path)

    monkeypatch.setattr(feed, "survey", survey)
    pool = SlowPool(lambda: (tmp_path / "b").rename(root / "b"), looks, stop)
    with Ledger(tmp_path / "out", Owner.of_this_process()) as ledger:
        state = Batch(look, ledger, pool, watch=WATCH).run(stop)
    assert pool.events == ["a out", "b out", "b done", "a done"]
    assert _counts(state) == {"done": 2}
    assert surveyed == ["a", "b"]  # not again at each look while they are worked on


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
def test_a_study_is_complete_once_it_was_seen_unchanged_whatever_the_clock_of_its_server_says(
    tmp_path, monkeypatch, ahead
):
    make_series(tmp_path / "root" / "study")
    real, stop, begun, quiet = time.time, threading.Event(), time.monotonic(), 0.4
    monkeypatch.setattr(time, "time", lambda: real() - ahead)
    done = []

    def tell(event, facts):
        done.extend([time.monotonic() - begun] if event == "done" else [])
        if done or time.monotonic() - begun > 20:
            stop.set()

    with Ledger(tmp_path / "out", Owner.of_this_process()) as ledger:
        watch = Watch(interval=0.05, quiet=quiet)
        Batch(lambda: list_units(tmp_path / "root"), ledger, ReadingPool(), watch=watch, tell=tell).run(stop)
    assert done
    assert done[0] >= quiet


class WritingPool(ReadingPool):
    """Every case is done, with a result."""

    def __init__(self, out):
        super().__init__()
        self.out = out

    def _read(self, task):
        write_case(self.out / CASES / task.key, make_segmentation(np.zeros((4, 4, 4), np.uint8)))
        return super()._read(task)


def test_results_that_were_taken_away_after_their_studies_leave_nothing_to_do(tmp_path):
    root, out, told = tmp_path / "root", tmp_path / "out", []
    for number, name in enumerate("ab"):
        make_series(root / name, series=number)

    def run():
        with Ledger(out, Owner.of_this_process()) as ledger:
            pool = WritingPool(out)
            batch = Batch(lambda: list_units(root), ledger, pool, tell=lambda event, facts: told.append(event))
            state = batch.run(threading.Event())
            write_summary(ledger)
        return _counts(state), pool.attempts

    def messages():
        return sorted(row["message"] for row in json.loads((out / "summary.json").read_text())["cases"])

    assert run() == ({"done": 2}, 2)
    (out / CASES).rename(tmp_path / "archive")
    shutil.rmtree(root / "a")
    for attempts in (1, 0):
        assert run() == ({"done": 2}, attempts)
        assert messages() == ["", "its result was taken away."]
    assert told.count("recovered") == 2

    shutil.copytree(tmp_path / "archive", out / CASES, dirs_exist_ok=True)
    assert run() == ({"done": 2}, 0)
    assert messages() == ["", ""]


def test_an_output_folder_that_goes_away_ends_the_run_with_a_message(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    make_series(root / "study")

    class Pool(FailingPool):
        def poll(self, seconds):
            shutil.rmtree(out, ignore_errors=True)
            return super().poll(seconds)

    # Whichever is looked at first: the folder, or the ledger in it.
    message = "out: was removed or renamed|ledger.sqlite: the ledger cannot be used"
    with Ledger(out, Owner.of_this_process()) as ledger, pytest.raises(OutputError, match=message):
        Batch(lambda: list_units(root), ledger, Pool()).run(threading.Event())


def test_a_result_that_is_not_beside_the_ledger_is_not_called_done(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    make_series(root / "study")

    class Pool(ReadingPool):
        def poll(self, seconds):
            if self.tasks:
                out.rename(tmp_path / "renamed")
                (out / CASES / self.tasks[0].key).mkdir(parents=True)  # as a worker does that has a result
            return super().poll(seconds)

    with Ledger(out, Owner.of_this_process()) as ledger:
        with pytest.raises(OutputError, match="out: was removed or renamed while the run was working"):
            Batch(lambda: list_units(root), ledger, Pool()).run(threading.Event())
        assert ledger.counts()["done"] == 0


def test_an_output_folder_that_is_gone_before_the_survey_begins_is_told_as_gone(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    make_series(root / "study")

    class LateFeed(Feed):
        def run(self):
            shutil.rmtree(out)
            super().run()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightunet_monai.batch.driver.Feed", LateFeed)
        with (
            Ledger(out, Owner.of_this_process()) as ledger,
            pytest.raises(OutputError, match="out: was removed or renamed"),
        ):
            Batch(lambda: list_units(root), ledger, FailingPool()).run(threading.Event())
    assert not out.exists()


def test_a_copy_in_a_watched_folder_is_tried_when_the_first_is_gone(tmp_path):
    root, stop, looks = _copies(tmp_path / "root"), threading.Event(), []

    def look():
        looks.append(1)
        return list_units(root)

    def tell(event, facts):
        if event == "done" or len(looks) > PATIENCE:
            stop.set()

    with Ledger(tmp_path / "out", Owner.of_this_process()) as ledger:
        batch = Batch(look, ledger, ReadingPool("ab"), retries=0, watch=WATCH, tell=tell)
        assert _counts(batch.run(stop)) == {"done": 1}


def _audit(out):
    with Ledger(out) as ledger:
        return [json.loads(line) for line in ledger.audit_lines()]


def test_a_result_of_a_run_that_died_has_the_audit_line_of_its_own_model(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    make_series(root / "study")
    (source,) = discover_sources(root)
    write_case(out / CASES / case_key(source), make_segmentation(np.zeros((4, 4, 4), np.uint8)))
    pool = ReadingPool()
    with Ledger(out, Owner.of_this_process()) as ledger:
        state = Batch(lambda: list_units(root), ledger, pool).run(threading.Event())
    assert (_counts(state), pool.attempts, pool.model) == ({"done": 1}, 0, {})
    (line,) = _audit(out)
    assert (line["event"], line["case"]) == ("segmented", case_key(source))
    assert (line["model"], line["model_version"]) == (PROVENANCE.model_name, PROVENANCE.model_version)
    assert line["weights_sha256"] == PROVENANCE.weights_sha256


def test_a_failure_that_the_survey_finds_has_an_audit_line_as_any_other(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    make_series(root / "study")
    (root / "study" / "more.zip").write_bytes(b"PK\3\4 cut off")
    (root / "gone").symlink_to("nowhere")
    (root / "empty").mkdir()
    for _ in range(2):  # the second run finds nothing new
        with Ledger(out, Owner.of_this_process()) as ledger:
            pool = FailingPool(may_pass=False)
            pool.model = {"model": "m"}
            Batch(lambda: list_units(root), ledger, pool).run(threading.Event())
    lines = _audit(out)
    assert sorted(line["reason"] for line in lines) == ["archive", "device-memory", "link-outside"]
    assert {(line["event"], line["model"], len(line["case"]), len(line["series"])) for line in lines} == {
        ("failed", "m", 24, 24)
    }


def test_a_second_phase_that_comes_later_takes_the_place_of_the_case_before(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"

    def run_once():
        with Ledger(out, Owner.of_this_process()) as ledger:
            state = Batch(lambda: list_units(root), ledger, ReadingPool()).run(threading.Event())
            return _counts(state), {row.key for row in ledger.cases() if row.superseded_by is None}

    first = make_series(root / "study")
    counts, alone = run_once()
    assert counts == {"done": 1}
    both = make_series(root / "study", defect="two phases")
    counts, phases = run_once()
    assert counts == {"done": 2}
    assert not alone & phases
    for path in set(both.files) - set(first.files):
        path.unlink()
    assert run_once() == ({"done": 1}, alone)


def test_a_file_that_was_replaced_since_an_earlier_version_takes_the_place_of_the_case_before(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"

    def run_once(seed):
        path = make_nifti(root / "a.nii", make_voxels(seed=seed))
        with Ledger(out, Owner.of_this_process()) as ledger:
            state = Batch(lambda: list_units(root), ledger, FailingPool(), retries=0).run(threading.Event())
            return path, _counts(state)

    root.mkdir()
    path, _ = run_once(0)
    with sqlite3.connect(out / FILE_NAME) as database:
        former = former_series_hash(ImageFile(path))
        database.execute("UPDATE cases SET series = ?, whole = ?", (former, former))
        database.execute("PRAGMA user_version = 0")
    database.close()
    assert run_once(1)[1] == {"failed": 1}


def test_an_earlier_result_that_was_changed_and_is_kept_is_told(tmp_path):
    class KeepingPool(ReadingPool):
        def _read(self, task):
            return replace(super()._read(task), kept="key.changed-1")

    told = []
    make_series(tmp_path / "root" / "study")
    with Ledger(tmp_path / "out", Owner.of_this_process()) as ledger:
        batch = Batch(
            lambda: list_units(tmp_path / "root"), ledger, KeepingPool(), tell=lambda *event: told.append(event)
        )
        batch.run(threading.Event())
        (row,) = ledger.cases()
    assert ("kept", {"case": row.key, "folder": "key.changed-1"}) in told


def _interrupted(root, out):
    """A run that found the cases and ended before one was begun."""
    stop = threading.Event()

    def stop_when_surveyed(event, facts):
        if event == "progress" and facts["state"].is_surveyed:
            stop.set()

    with Ledger(out, Owner.of_this_process()) as ledger:
        return Batch(lambda: list_units(root), ledger, BusyPool(), tell=stop_when_surveyed).run(stop)


@pytest.mark.parametrize("is_folder_left", [False, True])
def test_a_case_whose_study_was_deleted_before_its_turn_waits_no_longer_and_is_done_when_it_comes_back(
    tmp_path, is_folder_left
):
    root, out, told = tmp_path / "root", tmp_path / "out", []
    make_series(root / "a", series=1)
    make_series(root / "b", series=2, seed=1)
    assert _counts(_interrupted(root, out)) == {"found": 2}
    shutil.move(root / "a", tmp_path / "away")
    if is_folder_left:
        (root / "a").mkdir()

    def run():
        with Ledger(out, Owner.of_this_process()) as ledger:
            pool = ReadingPool()
            state = Batch(lambda: list_units(root), ledger, pool, tell=lambda *event: told.append(event[0])).run(
                threading.Event()
            )
            write_summary(ledger)
            return {name: count for name, count in _counts(state).items() if name != "skipped"}

    assert run() == {"done": 1}
    assert "found" not in (out / "summary.csv").read_text()
    assert is_folder_left or "lost" in told
    if is_folder_left:
        (root / "a").rmdir()
    shutil.move(tmp_path / "away", root / "a")
    # There is no result on the disk for a stand-in's case: what it did is done again, what was lost is done now.
    with Ledger(out) as ledger:
        before = {row.key for row in ledger.cases() if row.state == "done"}
    with Ledger(out, Owner.of_this_process()) as ledger:
        Batch(lambda: list_units(root), ledger, ReadingPool()).run(threading.Event())
        after = {row.key for row in ledger.cases() if row.state == "done" and row.superseded_by is None}
    assert len(after - before) == 1


def test_a_case_of_another_part_of_the_work_or_of_another_living_run_is_left_in(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    make_series(root / "a")
    _interrupted(root, out)
    with Ledger(out, Owner.of_this_process()) as ledger:
        assert ledger.leave_out_lost((), lambda place: False) == []
        with Ledger(out, Owner.of_this_process()):
            assert ledger.leave_out_lost(()) == []
        assert len(ledger.leave_out_lost(())) == 1
