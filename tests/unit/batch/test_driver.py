"""A run over a root with a stand-in for the workers: it ends, whatever is found, and tries again what it should."""

import threading

import pytest

from lightunet_monai.batch import feed
from lightunet_monai.batch.causes import Cause
from lightunet_monai.batch.driver import Batch
from lightunet_monai.batch.lease import Owner
from lightunet_monai.batch.ledger import Ledger
from lightunet_monai.batch.task import Outcome
from lightunet_monai.batch.units import list_units
from lightunet_monai.errors import LightUNetError
from tests.builders.series import make_series


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
