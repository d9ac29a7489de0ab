"""The ledger under two runs at once, kills, full disks and damage; real processes, real files."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lightunet_monai.batch.causes import Cause, cause_of
from lightunet_monai.batch.lease import LEASE_SECONDS, Owner
from lightunet_monai.batch.ledger import FILE_NAME, STATES, Ledger
from lightunet_monai.batch.network_path import is_network_path
from lightunet_monai.errors import OutputError, UnreadableFileError, UsageError

MAY_PASS = Cause("OutputError", "not-writable", "cannot be written.", may_pass=True)
GONE = Cause("UnreadableFileError", "unreadable", "is no file.", may_pass=True)
FOR_GOOD = Cause("GeometryError", "gap", "gap of 5.0 mm, expected 2.5 mm.")

posix = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX")


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path, Owner.of_this_process()) as made:
        yield made


def _second(ledger):
    """Another run on the same output folder."""
    return Ledger(ledger.path.parent, Owner.of_this_process())


def _start(script, out, *arguments):
    head = "import sys\nfrom lightunet_monai.batch.ledger import *\nfrom lightunet_monai.batch.lease import *\n"
    code = head + "from pathlib import Path\nout = Path(sys.argv[1])\n" + textwrap.dedent(script)
    command = [sys.executable, "-c", code, str(out), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _add(ledger, *keys, place="place"):
    for key in keys:
        ledger.add(key, place, f"series-{key}")


def _sql(ledger, statement, *values):
    with sqlite3.connect(ledger.path) as database:
        rows = database.execute(statement, values).fetchall()
    database.close()
    return rows


def test_processes_that_start_and_claim_at_once_share_the_cases_without_overlap(tmp_path):
    script = """
    sys.stdin.readline()
    with Ledger(out, Owner.of_this_process()) as ledger:
        for number in range(30):
            ledger.add(f"k{number}", "place", f"s{number}")
        for number in range(30):
            if ledger.claim(f"k{number}", retries=0):
                print(f"k{number}", ledger.finish(f"k{number}", {}, {"case": f"k{number}"}))
    """
    runs = [_start(script, tmp_path) for _ in range(4)]
    for run in runs:
        run.stdin.write("\n")
        run.stdin.flush()
    answers = [run.communicate(timeout=60)[0].splitlines() for run in runs]

    assert all(run.returncode == 0 for run in runs)
    assert sorted(line for lines in answers for line in lines) == sorted(f"k{number} True" for number in range(30))
    with Ledger(tmp_path) as ledger:
        assert ledger.counts()["done"] == len(list(ledger.audit_lines())) == 30


def test_processes_that_make_the_same_ledger_at_once_do_not_lock_each_other_out(tmp_path):
    script = """
    for line in sys.stdin:
        with Ledger(Path(line.strip()), Owner.of_this_process()):
            print("open", flush=True)
    """
    runs = [_start(script, tmp_path) for _ in range(4)]
    for number in range(40):
        for run in runs:
            run.stdin.write(f"{tmp_path / str(number)}\n")
            run.stdin.flush()
        assert [run.stdout.readline() for run in runs] == ["open\n"] * 4
    assert [run.communicate(timeout=60)[0] for run in runs] == [""] * 4


def test_a_claimed_case_is_refused_to_another_connection_until_it_is_given_back(ledger):
    _add(ledger, "a")
    with _second(ledger) as other:
        assert ledger.claim("a", retries=0)
        other.reopen_failed()
        assert not other.claim("a", retries=0)
        ledger.release("a")
        assert other.claim("a", retries=0)


@posix
def test_the_cases_of_a_killed_run_are_found_again_and_count_no_attempt(tmp_path):
    script = """
    ledger = Ledger(out, Owner.of_this_process())
    for key in "ab":
        ledger.add(key, "place", key)
        ledger.claim(key, retries=0)
    ledger.finish("a", {})
    print("ready", flush=True)
    sys.stdin.readline()
    """
    run = _start(script, tmp_path)
    assert run.stdout.readline() == "ready\n"
    with Ledger(tmp_path, Owner.of_this_process()) as ledger:
        assert ledger.case("b").state == "running"  # its run lives
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=30)

        assert len(ledger.recover()) == 1
        assert ledger.recover() == []
        row = ledger.case("b")
        assert (row.state, row.run, row.attempts, row.interruptions) == ("found", None, 0, 1)
        assert ledger.case("a").state == "done"
        assert ledger.claim("b", retries=0)


def test_a_run_that_lost_a_case_changes_nothing(ledger):
    _add(ledger, "a")
    ledger.claim("a", retries=0)
    with _second(ledger) as other:
        ledger.release("a")
        assert other.claim("a", retries=0)
        before = ledger.case("a")

        assert not ledger.finish("a", {"lesions": 1}, {"case": "a"})
        assert not ledger.fail("a", MAY_PASS, retries=5)
        ledger.release("a")

        assert ledger.case("a") == before
        assert list(ledger.audit_lines()) == []


def test_a_run_that_was_taken_for_dead_and_wakes_up_is_alive_again(ledger):
    _add(ledger, "a", "b")
    _sql(ledger, "UPDATE runs SET ended = 1")
    assert ledger.living_runs() == set()
    ledger.heartbeat()
    assert ledger.living_runs() == {ledger.owner.run}

    _sql(ledger, "UPDATE runs SET ended = 1")
    assert ledger.claim("a", retries=0)
    assert ledger.living_runs() == {ledger.owner.run}


def test_a_run_elsewhere_is_dead_once_its_lease_is_over(ledger):
    _add(ledger, "a")
    there = Owner("there", "another machine", 1, "1")
    with Ledger(ledger.path.parent, there) as other:
        assert other.claim("a", retries=0)
        assert ledger.recover() == []
        _sql(ledger, "UPDATE runs SET heartbeat = heartbeat - ? WHERE run = 'there'", LEASE_SECONDS + 1)
        assert ledger.recover() == ["there"]
    assert ledger.case("a").interruptions == 1


def test_attempts_are_counted_and_end_after_the_retries(ledger):
    _add(ledger, "a")
    answers = []
    while ledger.claim("a", retries=2):
        answers.append(ledger.fail("a", MAY_PASS, retries=2, record={"case": "a"}))
    assert answers == [True, True, False]
    row = ledger.case("a")
    assert (row.state, row.attempts, row.final, row.reason) == ("failed", 3, True, "not-writable")
    assert len(list(ledger.audit_lines())) == 1


def test_what_cannot_pass_is_not_tried_again_unless_asked_for(ledger):
    _add(ledger, "a")
    ledger.claim("a", retries=2)
    assert not ledger.fail("a", FOR_GOOD, retries=2)
    assert not ledger.claim("a", retries=2)

    ledger.set_surveyed("place", "signature")
    assert ledger.is_settled("place", "signature")
    ledger.reopen_failed()
    assert not ledger.is_settled("place", "signature")
    assert ledger.claim("a", retries=2)
    assert ledger.finish("a", {"lesions": 2})
    row = ledger.case("a")
    assert (row.state, row.attempts, row.message, row.facts) == ("done", 1, "", {"lesions": 2})
    ledger.reopen_failed()
    assert not ledger.claim("a", retries=2)


def test_a_failed_case_that_newer_content_has_replaced_is_not_tried_again(ledger):
    ledger.add("old", "place", "series", FOR_GOOD)
    ledger.add("new", "place", "series")
    ledger.reopen_failed()
    assert ledger.case("old").final
    assert not ledger.claim("old", retries=2)


def test_only_a_case_that_is_done_can_be_reopened(ledger):
    _add(ledger, "a", "b")
    ledger.claim("a", retries=0)
    ledger.reopen("a")
    assert ledger.case("a").state == "running"

    ledger.finish("a", {})
    ledger.reopen("a")
    row = ledger.case("a")
    assert (row.state, row.run, row.final, row.attempts) == ("found", None, False, 0)


def test_a_case_whose_result_was_taken_away_stays_done_until_it_is_claimed(ledger):
    _add(ledger, "a")
    ledger.set_surveyed("place", "as it was")
    ledger.claim("a", retries=0)
    ledger.finish("a", {})
    ledger.reopen("a", is_gone=True)
    assert ledger.counts()["done"] == 1
    assert not ledger.has_waiting(retries=0)
    assert not ledger.is_settled("place", "as it was")
    assert ledger.claim("a", retries=0)
    assert ledger.counts()["running"] == 1


def test_new_content_of_a_series_takes_the_place_of_the_old_and_back(ledger):
    ledger.add("old", "place", "series")
    ledger.add("elsewhere", "other place", "series")
    ledger.add("new", "place", "series")
    assert [ledger.case(key).superseded_by for key in ("old", "elsewhere", "new")] == ["new", None, None]
    assert ledger.counts()["found"] == 2

    ledger.add("old", "place", "series")
    assert [ledger.case(key).superseded_by for key in ("old", "new")] == [None, "old"]


@pytest.mark.parametrize("is_told_at_once", [True, False])
def test_a_case_whose_content_was_replaced_in_one_unit_is_done_where_its_copy_lies(ledger, is_told_at_once):
    for place in ("first", "second"):
        ledger.add("old", place, "series")
        ledger.set_surveyed(place, "as it was", ["old"])
    if is_told_at_once:
        ledger.add("new", "first", "series")
    else:  # under another name of the series, such as one phase of several
        ledger.add("new", "first", "series: phase 1", whole="series")
    ledger.set_surveyed("first", "changed", ["new"])

    assert _current(ledger) == ["new", "old"]
    assert ledger.case("old").place == "second"
    assert not ledger.is_settled("second", "as it was")  # the next look takes it up there
    assert ledger.claim("old", retries=0, place="second")

    ledger.add("newer", "second", "series")
    assert _current(ledger) == ["new", "newer"]


def test_a_case_that_newer_content_has_replaced_before_its_turn_is_not_begun(ledger):
    ledger.add("old", "place", "series")
    ledger.add("new", "place", "series")
    assert [ledger.claim(key, retries=0) for key in ("old", "new")] == [False, True]
    ledger.add("old", "place", "series")
    assert ledger.claim("old", retries=0)


def _current(ledger):
    return sorted(row.key for row in ledger.cases() if row.superseded_by is None)


def test_a_series_that_holds_several_volumes_now_takes_the_place_of_the_one_before_and_back(ledger):
    def survey(signature, **cases):
        for key, series in cases.items():
            ledger.add(key, "place", series, whole="series")
        ledger.add("other", "place", "other")
        ledger.set_surveyed("place", signature, {*cases, "other"})

    ledger.add("elsewhere", "other place", "series", whole="series")
    survey("1", single="series")
    ledger.claim("single", retries=0)
    ledger.finish("single", {})
    survey("2", first="series 1", second="series 2")
    assert _current(ledger) == ["elsewhere", "first", "other", "second"]
    assert ledger.case("single").superseded_by in ("first", "second")
    assert (ledger.counts()["done"], ledger.counts()["found"]) == (0, 4)
    survey("3", single="series")
    assert _current(ledger) == ["elsewhere", "other", "single"]
    assert ledger.counts()["done"] == 1


def test_a_series_that_is_gone_keeps_its_result(ledger):
    for key in ("a", "b"):
        ledger.add(key, "place", f"series-{key}")
    ledger.set_surveyed("place", "then", ["a", "b"])
    assert ledger.claim("a", retries=0)
    assert ledger.finish("a", {})
    ledger.set_surveyed("place", "now", ["b"])
    assert _current(ledger) == ["a", "b"]
    ledger.set_surveyed("place", "later", [])
    assert _current(ledger) == ["a"]  # "b" was never done, and never will be


def test_a_unit_that_was_empty_and_is_damaged_now_counts_as_failed(ledger):
    ledger.add("unit", "unit", "unit", Cause("NoImageFoundError", "no-volume", "no volume."), skipped=True)
    ledger.add("unit", "unit", "unit", Cause("UnreadableFileError", "unreadable", "damaged."))
    row = ledger.case("unit")
    assert (row.state, row.final, row.reason) == ("failed", True, "unreadable")


def test_a_cause_given_again_leaves_a_finished_case_as_it_is(ledger):
    _add(ledger, "a")
    ledger.claim("a", retries=0)
    ledger.finish("a", {})
    before = ledger.case("a")
    ledger.add("a", "place", "series-a", FOR_GOOD)
    assert ledger.case("a") == before


def test_a_failure_found_by_the_survey_has_one_audit_line_for_each_time_it_comes(ledger):
    def fail(key="unit", cause=FOR_GOOD, **options):
        ledger.add(key, "unit", key, cause, record={"case": key}, **options)
        ledger.set_surveyed("unit", "now", [key])
        return len(list(ledger.audit_lines()))

    assert fail(skipped=True) == 0
    assert [fail(), fail(), fail()] == [1, 1, 1]
    ledger.reopen_failed()
    assert [fail(), fail()] == [2, 2]
    ledger.add("volume", "unit", "series")
    ledger.set_surveyed("unit", "mended", ["volume"])
    assert [fail(), fail()] == [3, 3]

    _add(ledger, "a")
    ledger.claim("a", retries=0)
    ledger.finish("a", {})
    assert fail("a") == 3
    assert ledger.case("a").state == "done"


def test_a_unit_is_settled_when_it_is_unchanged_and_all_its_cases_are_final_or_in_flight(ledger):
    _add(ledger, "a", "b")
    ledger.set_surveyed("place", "now")
    assert ledger.is_settled("place", "now", {"a", "b", "c"})
    assert not ledger.is_settled("place", "now", {"a"})
    assert not ledger.is_settled("place", "later", {"a", "b"})
    for key in "ab":
        assert not ledger.is_settled("place", "now")
        ledger.claim(key, retries=0)
        ledger.finish(key, {})
    assert ledger.is_settled("place", "now")
    assert not ledger.is_settled("place", "later")
    assert not ledger.is_settled("elsewhere", "now")


def _add_copies(ledger, *places):
    for place in places:
        ledger.add("a", place, "series")
        ledger.set_surveyed(place, "now", ["a"])


def _settled(ledger, *places):
    return [place for place in places if ledger.is_settled(place, "now")]


def test_a_copy_is_tried_where_the_first_folder_is_gone(ledger):
    _add_copies(ledger, "first", "second")
    assert _settled(ledger, "first", "second") == []
    assert ledger.claim("a", retries=0, place="second")
    assert ledger.case("a").place == "second"
    ledger.finish("a", {})
    assert _settled(ledger, "first", "second") == ["first", "second"]


def test_a_copy_is_tried_where_the_files_of_the_first_cannot_be_read(ledger):
    _add_copies(ledger, "first", "second", "third")
    tried = []
    while ledger.has_waiting(retries=1):
        place = ledger.case("a").place
        tried.append(place)
        assert not ledger.has_failed_at("a", place)
        assert ledger.claim("a", retries=1, place=place)
        ledger.fail("a", GONE, retries=1, record={"case": "a"})
        assert len(list(ledger.audit_lines())) == (tried == ["first"] * 2 + ["second"] * 2 + ["third"] * 2)
        assert ledger.counts()["failed"] == 1
    assert tried == ["first"] * 2 + ["second"] * 2 + ["third"] * 2
    assert ledger.case("a").final
    assert all(ledger.has_failed_at("a", place) for place in tried)
    assert _settled(ledger, *tried) == tried

    ledger.reopen_failed()
    assert _settled(ledger, *tried) == []
    assert not any(ledger.has_failed_at("a", place) for place in tried)


def test_a_folder_where_a_case_failed_is_settled_while_a_copy_waits(ledger):
    _add_copies(ledger, "first", "second")
    ledger.claim("a", retries=0)
    ledger.fail("a", GONE, retries=0)
    assert _settled(ledger, "first", "second") == ["first"]


def test_a_copy_that_is_found_after_the_first_has_failed_is_tried_too(ledger):
    _add_copies(ledger, "first")
    ledger.claim("a", retries=0)
    ledger.fail("a", GONE, retries=0)
    assert ledger.case("a").final
    _add_copies(ledger, "first")  # nothing new
    assert ledger.case("a").final
    _add_copies(ledger, "second")
    assert _settled(ledger, "first", "second") == ["first"]
    assert ledger.claim("a", retries=0, place="second")


@pytest.mark.parametrize("cause", [FOR_GOOD, MAY_PASS])
def test_a_copy_is_not_tried_for_what_it_has_in_common_with_the_first(ledger, cause):
    _add_copies(ledger, "first", "second")
    ledger.claim("a", retries=0)
    ledger.fail("a", cause, retries=0)
    _add_copies(ledger, "third")
    assert ledger.case("a").final
    assert not ledger.has_waiting(retries=0)
    assert _settled(ledger, "first", "second", "third") == ["first", "second", "third"]


def test_a_run_that_lost_a_case_marks_no_copy(ledger):
    _add_copies(ledger, "first", "second")
    ledger.claim("a", retries=0)
    ledger.release("a")
    assert not ledger.fail("a", GONE, retries=0)
    assert (ledger.case("a").state, ledger.has_failed_at("a", "first")) == ("found", False)


def test_a_ledger_of_an_earlier_version_looks_at_all_units_again_once(ledger):
    _add_copies(ledger, "first")
    _sql(ledger, "DROP TABLE copies")
    with _second(ledger) as other:
        assert not other.is_settled("first", "now")
        _add_copies(other, "first", "second")
        other.claim("a", retries=0)
        other.finish("a", {})
    with _second(ledger) as other:
        assert _settled(other, "first", "second") == ["first", "second"]


@pytest.mark.parametrize("volumes", [{"new": "series"}, {"new": "series 1", "second": "series 2"}])
def test_cases_of_an_earlier_version_are_superseded_by_those_of_the_same_series(ledger, volumes):
    ledger.add("old", "place", "series")
    ledger.claim("old", retries=0)
    ledger.finish("old", {"lesions": 1})
    ledger.set_surveyed("place", "now", ["old"])
    _sql(ledger, "ALTER TABLE cases DROP COLUMN whole")
    with Ledger(ledger.path.parent) as looker:
        assert looker.counts()["done"] == 1  # to look at an old ledger changes nothing
    for _ in range(2):
        with _second(ledger) as other:
            assert other.case("old").facts == {"lesions": 1}
            assert other.is_settled("place", "now") is ("new" in _current(other))
            for key, series in volumes.items():
                other.add(key, "place", series, whole="series")
                if other.claim(key, retries=0):
                    other.finish(key, {})
            other.set_surveyed("place", "now", volumes)
            assert _current(other) == sorted(volumes)
            assert other.counts() == {**dict.fromkeys(STATES, 0), "done": len(volumes)}


def test_what_an_earlier_version_called_a_series_is_renamed_once_it_is_looked_at_again(ledger):
    ledger.add("replaced", "place", "typed path")
    ledger.add("same", "place", "another typed path")
    ledger.add("elsewhere", "other place", "typed path")
    ledger.set_surveyed("place", "now", ["replaced", "same"])
    _sql(ledger, "PRAGMA user_version = 0")
    with _second(ledger) as other:
        assert not other.is_settled("place", "now")
        other.add("new", "place", "name", former="typed path")
        other.add("same", "place", "other name", former="as typed now")
        assert _current(other) == ["elsewhere", "new", "same"]
        assert other.case("replaced").superseded_by == "new"
        assert [other.case(key).series for key in ("same", "elsewhere")] == ["other name", "typed path"]
        other.set_surveyed("place", "now", ["new", "same"])
    assert not _sql(ledger, "SELECT 1 FROM units WHERE place = 'other place'")
    assert _sql(ledger, "SELECT 1 FROM units WHERE place = 'place'")


def test_an_archive_that_is_refused_no_more_is_out_of_date(ledger):
    refused = Cause("UnreadableFileError", "archive", "damaged zip archive.")
    for key in ("x", "y"):
        ledger.add(key, "place", key, refused)
    ledger.set_surveyed("place", "then", ["x", "y"])
    assert ledger.counts()["failed"] == 2
    ledger.set_surveyed("place", "now", ["y", "a"])
    assert [ledger.case(key).superseded_by for key in ("x", "y")] == ["place", None]
    ledger.add("x", "place", "x", refused)
    assert ledger.counts()["failed"] == 2


def test_a_run_with_other_settings_is_refused_by_name(ledger):
    ledger.check_settings({"formats": ["seg"], "overlap": 0.5})
    with _second(ledger) as other:
        other.check_settings({"formats": ["seg"], "overlap": 0.5})
        with pytest.raises(UsageError, match=r"made with overlap 0.5, found 0.25"):
            other.check_settings({"overlap": 0.25})
    assert ledger.setting("secret", "first") == ledger.setting("secret", "second") == "first"


def test_a_run_that_entered_no_case_leaves_the_settings_open(tmp_path):
    for formats in (["seg"], ["nifti"]):
        with Ledger(tmp_path, Owner.of_this_process()) as ledger:
            ledger.check_settings({"formats": formats})
    with Ledger(tmp_path, Owner.of_this_process()) as ledger:
        ledger.check_settings({"formats": ["nifti"]})
        _add(ledger, "a")
    with Ledger(tmp_path, Owner.of_this_process()) as ledger, pytest.raises(UsageError, match="made with formats"):
        ledger.check_settings({"formats": ["seg"]})


def test_another_run_can_write_while_the_cases_are_listed(ledger, monkeypatch):
    monkeypatch.setattr(f"{Ledger.__module__}.ROWS_AT_ONCE", 2)
    _add(ledger, *"abcde")
    ledger._db.execute("PRAGMA journal_mode=TRUNCATE")  # as on a network file system
    keys = []
    for row in ledger.cases():
        keys.append(row.key)
        with sqlite3.connect(ledger.path, timeout=0.0) as other:
            other.execute("UPDATE cases SET updated = updated + 1")
        other.close()
    assert keys == list("abcde")


@posix
def test_a_full_disk_is_an_error_of_ours_and_what_is_finished_stays(tmp_path):
    script = """
    import resource
    from lightunet_monai.errors import OutputError
    ledger = Ledger(out, Owner.of_this_process())
    for key in "ab":
        ledger.add(key, "place", key)
        ledger.claim(key, retries=0)
    ledger.finish("a", {"lesions": 1}, {"case": "a"})
    size = (out / (FILE_NAME + "-wal")).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    for _ in range(2):
        try:
            ledger.finish("b", {"text": "x" * 9000}, {"case": "b"})
        except OutputError as error:
            print(error.reason, "no transaction" in error.message, "within a transaction" in error.message)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(ledger.finish("b", {}, {"case": "b"}))
    ledger.close()
    """
    run = _start(script, tmp_path)
    assert run.communicate(timeout=60)[0].splitlines() == ["ledger False False"] * 2 + ["True"]
    with Ledger(tmp_path) as ledger:
        assert ledger.case("a").facts == {"lesions": 1}
        assert len(list(ledger.audit_lines())) == 2


@pytest.mark.parametrize("content", [b"not a ledger " * 99, b"SQLite format 3\0" + b"\xff" * 4000])
@pytest.mark.parametrize("owner", [None, Owner.of_this_process()])
def test_a_damaged_ledger_is_refused_and_left_as_it_is(tmp_path, content, owner):
    path = tmp_path / FILE_NAME
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"ledger cannot be used") as caught, Ledger(tmp_path, owner) as ledger:
        ledger.counts()
    assert caught.value.reason == "ledger"
    assert path.read_bytes() == content


def test_looking_at_a_folder_without_a_ledger_is_refused_and_makes_nothing(tmp_path):
    with pytest.raises(OutputError, match=r"no ledger.sqlite"):
        Ledger(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_looking_at_a_ledger_changes_nothing(ledger):
    _add(ledger, "a")
    ledger.claim("a", retries=0)
    with Ledger(ledger.path.parent) as looker:
        assert looker.counts() == {**dict.fromkeys(STATES, 0), "running": 1}
        assert [row.key for row in looker.cases()] == ["a"]
        with pytest.raises(OutputError, match=r"readonly"):
            looker.add("b", "place", "series")
    assert ledger.case("a").state == "running"


def test_a_ledger_in_a_folder_that_cannot_be_written_to_is_read_as_it_lies(tmp_path, monkeypatch):
    with Ledger(tmp_path, Owner.of_this_process()) as ledger:
        _add(ledger, "a")
    files = os.listdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with Ledger(tmp_path) as looker:
        assert [row.key for row in looker.cases()] == ["a"]
        assert os.listdir(tmp_path) == files  # SQLite could not make one


def test_what_a_run_in_a_folder_that_another_account_may_only_read_has_entered_is_seen(ledger, monkeypatch):
    _add(ledger, "a")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with Ledger(ledger.path.parent) as looker:
        assert [row.key for row in looker.cases()] == ["a"]


def test_a_run_that_ends_gives_its_cases_back(ledger):
    _add(ledger, "a")
    with _second(ledger) as other:
        other.claim("a", retries=0)
    assert ledger.case("a").state == "found"
    assert ledger.living_runs() == {ledger.owner.run}


def test_cases_are_counted_from_an_index_alone(ledger):
    # Several times a second, however many there are.
    query = "SELECT state, COUNT(*) FROM cases WHERE superseded_by IS NULL GROUP BY state"
    assert "USING COVERING INDEX cases_to_count" in str(_sql(ledger, f"EXPLAIN QUERY PLAN {query}"))


def test_a_local_disk_has_a_write_ahead_log(ledger):
    assert _sql(ledger, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/local/out", False),
        ("/share/out", True),
        ("/shared/out", False),
        ("/share/disk/out", False),
        ("/my share/out", True),
        ("/home/remote/out", True),
    ],
)
def test_network_file_systems_are_told_by_the_nearest_mount(tmp_path, place, expected):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/a / ext4 rw 0 0\nserver:/x /share nfs4 rw 0 0\n/dev/b /share/disk xfs rw 0 0\n"
        "//server/y /my\\040share cifs rw 0 0\nremote: /home/remote fuse.sshfs rw 0 0\n"
    )
    assert is_network_path(Path(place), mounts) is expected
    assert is_network_path(Path(place), tmp_path / "missing") is False


def test_no_name_path_or_uid_is_in_the_bytes_of_the_ledger(ledger):
    folder, uid = "/data/Planted Patient/ID 4711", "1.2.826.0.1.3680043.4711"
    error = UnreadableFileError(f"{folder}/IM 1.dcm: cannot be read; series {uid}.", hint=f"Look at {folder}.")
    _add(ledger, "a")
    ledger.claim("a", retries=0)
    ledger.fail("a", cause_of(error), retries=0, record={"case": "a", "reason": error.reason})

    content = b"".join(path.read_bytes() for path in ledger.path.parent.iterdir())
    assert b"unreadable" in content
    for planted in (b"Planted", b"Patient", b"4711", b"/data", b"3680043"):
        assert planted not in content
