"""The command on real studies, good and bad: killed, resumed, watched; nothing lost, doubled or half-written."""

import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from lightunet_monai.batch.audit import first_broken_line
from lightunet_monai.batch.causes import Cause
from lightunet_monai.batch.lease import Owner
from lightunet_monai.batch.ledger import FILE_NAME, Ledger
from lightunet_monai.cli import main
from lightunet_monai.errors import InferenceError, OutputError
from tests.builders.bundle import tiny_bundle
from tests.builders.series import make_series
from tests.builders.volume import make_nifti, make_voxels

PATIENT = "PLANTED^PATIENT"
PATIENT_ID = "ID-4711-PLANTED"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")]


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Four volumes that can be used, three that cannot, one of another modality; folders are named after a patient."""
    root = tmp_path_factory.mktemp("studies")
    for index in range(3):
        folder = root / f"{PATIENT} {index}"
        folder.mkdir()
        make_nifti(folder / f"{PATIENT}.nii.gz", make_voxels() + index)
    make_series(root / f"{PATIENT}_3", change=_plant)
    make_nifti(root / "flat.nii.gz", make_voxels()[:, :, 0])
    (root / f"{PATIENT}_broken").mkdir()
    (root / f"{PATIENT}_broken" / f"{PATIENT}.nii.gz").write_bytes(b"\x1f\x8b not a volume")
    make_series(root / f"{PATIENT}_gap", change=_plant, defect="gap", series=2)
    make_series(root / f"{PATIENT}_mr", change=_plant_mr, series=3)
    return root


def _plant(index, dataset):
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = PATIENT, PATIENT_ID, "19470411"


def _plant_mr(index, dataset):
    _plant(index, dataset)
    dataset.Modality = "MR"


@pytest.fixture(scope="module")
def a_bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("model") / "bundle")


def _command(studies, output, bundle, *more):
    return [
        sys.executable, "-m", "lightunet_monai", "batch", str(studies), "-o", str(output), "--bundle", str(bundle),
        "--engine", "torch", "--device", "cpu", "--threads", "1", *more,
    ]  # fmt: skip


def _run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def _label_maps(output):
    return {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((output / "cases").glob("*/labelmap.nii.gz"))
    }


def _summary(output):
    with (output / "summary.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def _is_clean(output):
    leftovers = list((output / ".work").glob("*/*")) if (output / ".work").exists() else []
    return not leftovers and not list((output / "cases").rglob(".*"))


@pytest.fixture(scope="module")
def undisturbed(studies, a_bundle, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    return output, _run(*_command(studies, output, a_bundle, "--jobs", "2", "--progress", "json"))


def test_good_cases_are_done_and_bad_ones_are_listed_with_their_cause(undisturbed):
    output, done = undisturbed
    assert done.returncode == 1, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["counts"] == {"found": 0, "running": 0, "done": 4, "failed": 3, "skipped": 1}
    assert len(_label_maps(output)) == 4
    rows = _summary(output)
    assert sorted(row["state"] for row in rows) == ["done"] * 4 + ["failed"] * 3 + ["skipped"]
    failed = [row for row in rows if row["state"] == "failed"]
    assert all(row["reason"] and row["message"] for row in failed), failed
    assert "gap" in {row["reason"] for row in failed}
    assert json.loads((output / "summary.json").read_text())["counts"]["done"] == 4
    assert (output / "summary.html").read_text().count('overview.png" alt') == 4
    assert _is_clean(output)


def test_results_are_those_of_segment(studies, a_bundle, undisturbed, tmp_path):
    alone = _run(
        sys.executable, "-m", "lightunet_monai", "segment", str(studies / f"{PATIENT}_3"), "-o", str(tmp_path / "out"),
        "--bundle", str(a_bundle), "--engine", "torch", "--device", "cpu",
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    label_map = hashlib.sha256((tmp_path / "out" / "labelmap.nii.gz").read_bytes()).hexdigest()
    assert label_map in _label_maps(undisturbed[0]).values()


def test_no_file_or_name_below_the_output_tells_the_patient(undisturbed):
    output, done = undisturbed
    planted = [PATIENT, PATIENT_ID]
    paths = [path for path in output.rglob("*") if path.is_file()]
    assert {".sqlite", ".jsonl", ".json", ".csv", ".html"} <= {path.suffix for path in paths}
    for word in planted:
        assert word not in done.stdout + done.stderr
        for path in paths:
            assert word not in str(path.relative_to(output))
            assert word.encode() not in path.read_bytes(), path


def test_every_result_has_one_line_in_an_unbroken_audit_log(undisturbed):
    with Ledger(undisturbed[0]) as ledger:
        lines = list(ledger.audit_lines())
        done = {row.key for row in ledger.cases() if row.state == "done"}
    records = [json.loads(line) for line in lines]
    assert first_broken_line(lines) is None
    segmented = [record for record in records if record["event"] == "segmented"]
    assert sorted(record["case"] for record in segmented) == sorted(done)
    assert all(len(record["weights_sha256"]) == 64 and record["user"] for record in segmented)
    failed = [record["case"] for record in records if record["event"] == "failed"]
    with Ledger(undisturbed[0]) as ledger:
        assert sorted(failed) == [row.key for row in ledger.cases() if row.state == "failed"]


def test_a_second_run_does_nothing_again_and_other_settings_are_refused(studies, a_bundle, undisturbed):
    output, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for path in output.glob("cases/*/labelmap.nii.gz")}
    again = _run(*_command(studies, output, a_bundle))
    assert "4 done, 3 failed, 1 skipped" in again.stdout, again.stderr
    assert {path: path.stat().st_mtime_ns for path in output.glob("cases/*/labelmap.nii.gz")} == before
    status = _run(sys.executable, "-m", "lightunet_monai", "batch", "status", str(output))
    assert status.returncode == 0
    assert "4 done, 3 failed, 1 skipped" in status.stdout
    assert PATIENT not in status.stdout
    where = _run(sys.executable, "-m", "lightunet_monai", "batch", "status", str(output), "--root", str(studies))
    assert f"{PATIENT}_gap" in where.stdout
    other = _run(*_command(studies, output, a_bundle, "--formats", "nrrd"))
    assert other.returncode == 2
    assert "was made with formats" in other.stderr
    repeated = _run(*_command(studies, output, a_bundle, "--deterministic-uids"))
    assert repeated.returncode == 2
    assert "was made with deterministic-uids false" in repeated.stderr


def test_a_model_is_chosen_by_name_as_in_segment(studies, a_bundle, tmp_path):
    volume = studies / f"{PATIENT} 0"
    done = _run(*_command(volume, tmp_path / "out", a_bundle, "--model", "tissues", "--jobs", "1"))
    assert "1 done" in done.stdout, done.stderr
    (report,) = (json.loads(path.read_text()) for path in (tmp_path / "out").glob("cases/*/report.json"))
    assert list(report["volume_ml"]) == ["tumor", "fibroglandular", "adipose", "skin"]
    (row,) = _summary(tmp_path / "out")
    assert float(row["volume_ml"]) == pytest.approx(report["volume_ml"]["tumor"], rel=1e-4)
    assert report["volume_ml"]["tumor"] < sum(report["volume_ml"].values())
    alone = _run(
        sys.executable, "-m", "lightunet_monai", "segment", str(volume), "-o", str(tmp_path / "alone"), "--model",
        "tissues", "--bundle", str(a_bundle), "--engine", "torch", "--device", "cpu",
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    assert json.loads((tmp_path / "alone" / "report.json").read_text())["model"] == report["model"]
    label_map = hashlib.sha256((tmp_path / "alone" / "labelmap.nii.gz").read_bytes()).hexdigest()
    assert list(_label_maps(tmp_path / "out").values()) == [label_map]
    other = _run(*_command(volume, tmp_path / "out", a_bundle))
    assert other.returncode == 2
    assert "was made with model" in other.stderr


def test_a_result_that_was_taken_away_is_made_again(studies, a_bundle, undisturbed, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(undisturbed[0], output)
    gone = sorted((output / "cases").iterdir())[0]
    (gone / "labelmap.nii.gz").unlink()
    _run(*_command(studies, output, a_bundle))
    assert _label_maps(output) == _label_maps(undisturbed[0])


def test_a_result_that_was_changed_is_made_again_and_the_changed_one_is_kept(studies, a_bundle, undisturbed, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(undisturbed[0], output)
    changed = sorted((output / "cases").iterdir())[0]
    (changed / "labelmap.nii.gz").write_bytes(b"edited by hand")
    (changed / "note.txt").write_text("mine")
    _run(*_command(studies, output, a_bundle))
    (kept,) = output.glob(f"cases/{changed.name}.changed-*")
    assert (kept / "labelmap.nii.gz").read_bytes() == b"edited by hand"
    assert (kept / "note.txt").read_text() == "mine"
    made = _label_maps(output)
    del made[kept.name]
    assert made == _label_maps(undisturbed[0])
    assert [row["case"] for row in _summary(output) if kept.name in row["message"]] == [changed.name]
    events = [json.loads(line) for path in output.glob("logs/*.jsonl") for line in path.read_text().splitlines()]
    told = [(event["case"], event["folder"], event["level"]) for event in events if event["event"] == "kept"]
    assert told == [(changed.name, kept.name, "warning")]
    assert _is_clean(output)


def test_kills_at_random_moments_lose_nothing_and_double_nothing(studies, a_bundle, undisturbed, tmp_path):
    output = tmp_path / "out"
    moments = random.Random(4)
    for number in range(int(os.environ.get("LIGHTUNET_TEST_KILLS", "3"))):
        process = subprocess.Popen(
            _command(studies, output, a_bundle, "--jobs", "2"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(moments.uniform(1.0, 14.0))
        workers = _workers(process.pid)
        if number % 2 and workers:
            os.kill(moments.choice(workers), signal.SIGKILL)  # one worker: the run goes on
            time.sleep(moments.uniform(0.5, 4.0))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    last = _run(*_command(studies, output, a_bundle, "--jobs", "2"))
    assert "4 done, 3 failed, 1 skipped" in last.stdout, last.stdout + last.stderr
    assert _label_maps(output) == _label_maps(undisturbed[0])
    assert _is_clean(output)
    with Ledger(output) as ledger:
        lines = [json.loads(line) for line in ledger.audit_lines()]
    assert len([line for line in lines if line["event"] == "segmented"]) == 4


def _workers(pid):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(pid) and "_worker_process" in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def test_a_case_that_takes_too_long_is_recorded_and_the_rest_goes_on(studies, a_bundle, tmp_path):
    done = _run(*_command(studies / f"{PATIENT} 0", tmp_path, a_bundle, "--timeout", "0.01", "--retries", "1"))
    assert done.returncode == 1
    assert "1 failed" in done.stdout, done.stdout + done.stderr
    with Ledger(tmp_path) as ledger:
        (case,) = ledger.cases()
    assert (case.attempts, case.reason) == (2, "timeout")
    assert "--timeout" in case.hint


def test_a_case_that_needs_too_much_memory_is_recorded_and_the_rest_goes_on(studies, a_bundle, tmp_path):
    root = tmp_path / "studies"
    root.mkdir()
    shutil.copytree(studies / f"{PATIENT} 0", root / "small")
    # A worker with its model takes 300 to 600 MB; this volume 500 MB as float32, and more on its way there.
    make_nifti(root / "large.nii.gz", np.full((512, 512, 480), 40, np.int16))
    done = _run(*_command(root, tmp_path / "out", a_bundle, "--max-memory", "900", "--retries", "0", "--jobs", "1"))
    assert "1 done, 1 failed" in done.stdout, done.stdout + done.stderr
    rows = _summary(tmp_path / "out")
    assert [row["reason"] for row in rows if row["state"] == "failed"] == ["memory-limit"]
    assert ["--max-memory" in row["hint"] for row in rows if row["state"] == "failed"] == [True]


def test_a_memory_limit_with_no_room_for_the_model_is_told_as_that(studies, a_bundle, tmp_path):
    root, out = studies / f"{PATIENT} 0", tmp_path / "out"
    done = _run(*_command(root, out, a_bundle, "--max-memory", "50", "--jobs", "1"))
    assert done.returncode == 1
    assert "the workers passed the memory limit of 50 MB. (Raise --max-memory" in done.stderr


def test_the_summary_of_a_run_that_ended_with_an_error_calls_nothing_running(studies, tmp_path, monkeypatch, capsys):
    class Pool:
        def __init__(self, *arguments, **options):
            self.model = {}

        def submit(self, task):
            return True

        def poll(self, seconds):
            if _counts(tmp_path / "out").get("running"):
                raise InferenceError("a worker cannot be started.")
            return []

        def close(self):
            pass

    monkeypatch.setattr("lightunet_monai.batch.pool.LocalPool", Pool)
    monkeypatch.setattr("lightunet_monai.cli.batch._stop_on_signals", threading.Event)
    assert main(["batch", str(studies / f"{PATIENT} 0"), "-o", str(tmp_path / "out")]) == 1
    assert "a worker cannot be started" in capsys.readouterr().err
    assert [row["state"] for row in _summary(tmp_path / "out")] == ["found"]


def test_sigterm_ends_the_run_and_the_next_one_goes_on(studies, a_bundle, undisturbed, tmp_path):
    output = tmp_path / "out"
    process = subprocess.Popen(
        _command(studies, output, a_bundle), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _wait_for(lambda: _counts(output).get("running"))
    process.terminate()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert _is_clean(output)
    _run(*_command(studies, output, a_bundle, "--jobs", "2"))
    assert _label_maps(output) == _label_maps(undisturbed[0])


def _counts(output):
    if not (output / "ledger.sqlite").is_file():
        return {}
    try:
        with Ledger(output) as ledger:
            return ledger.counts()
    except OutputError:  # its tables are just being made
        return {}


def test_a_dask_cluster_gives_the_same_results(studies, a_bundle, undisturbed, tmp_path):
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    done = _run(*_command(studies, tmp_path, a_bundle, "--cluster", "local", "--jobs", "2"))
    assert "4 done, 3 failed, 1 skipped" in done.stdout, done.stderr
    assert "dashboard: http" in done.stderr
    assert PATIENT not in done.stderr
    assert _label_maps(tmp_path) == _label_maps(undisturbed[0])
    assert _is_clean(tmp_path)


def test_two_runs_on_one_output_share_the_work(studies, a_bundle, undisturbed, tmp_path):
    command = _command(studies, tmp_path, a_bundle)
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        said, errors = process.communicate(timeout=300)
        assert process.returncode == 1, said + errors
    assert _label_maps(tmp_path) == _label_maps(undisturbed[0])
    with Ledger(tmp_path) as ledger:
        assert ledger.counts()["done"] == 4
        done = [line for line in map(json.loads, ledger.audit_lines()) if line["event"] == "segmented"]
    assert len(done) == 4


def test_a_watched_folder_is_worked_on_as_studies_become_complete(studies, a_bundle, tmp_path):
    root, output = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    process = subprocess.Popen(
        _command(root, output, a_bundle, "--watch", "--quiet", "2", "--interval", "0.5", "--metrics-port", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        files = sorted(path for path in (studies / f"{PATIENT}_3").rglob("*") if path.is_file())
        (root / "late").mkdir()
        for path in files:  # slices arrive one by one: not taken before the last
            shutil.copy(path, root / "late" / path.name)
            time.sleep(0.05)
        _wait_for(lambda: _label_maps(output))
        shutil.copytree(studies / f"{PATIENT} 1", root / "next")
        os.utime(root / "next" / f"{PATIENT}.nii.gz")
        _wait_for(lambda: len(_label_maps(output)) == 2)
        port = json.loads(sorted(output.glob("logs/*.jsonl"))[0].read_text().splitlines()[0])["metrics_port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            _wait_for(lambda: "lightunet_finished_total 2.0" in _metrics(port))
            assert answer.status == 200
    finally:
        process.terminate()
        said, errors = process.communicate(timeout=60)
    assert process.returncode == 0, said + errors
    assert "2 done" in said
    with Ledger(output) as ledger:
        assert ledger.counts() == {"found": 0, "running": 0, "done": 2, "failed": 0, "skipped": 0}


def _metrics(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def _wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def test_a_dry_run_lists_and_writes_nothing(studies, tmp_path):
    listed = _run(
        sys.executable, "-m", "lightunet_monai", "batch", str(studies), "--dry-run", "-o", str(tmp_path / "x")
    )
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.splitlines()[-1] == "4 to do, 3 refused, 1 skipped"
    assert not (tmp_path / "x").exists()
    refused = _run(sys.executable, "-m", "lightunet_monai", "batch", str(studies), "--dry-run", "--formats", "pdf")
    assert refused.returncode == 2
    assert "formats: found pdf" in refused.stderr


@pytest.mark.parametrize(("more", "said"), [((), "2 refused"), (("--regularize", "--assume-hu"), "2 to do")])
def test_a_dry_run_goes_by_what_is_asked_for(tmp_path, capsys, more, said):
    make_series(tmp_path / "tilted", defect="tilt")
    make_series(tmp_path / "bare", defect="no rescale", series=2)
    assert main(["batch", str(tmp_path), "--dry-run", *more]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--model", "ultrasound"), "option --model"),
        (("--model", "nonesuch"), "option --model"),
        (("--depth", "0"), "option --depth: found 0"),
        (("--jobs", "0"), "options --jobs"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would_refuse_as_wrong_use(tmp_path, capsys, more, said):
    make_series(tmp_path / "study")
    for dry in ((), ("--dry-run",)):
        assert main(["batch", str(tmp_path), "-o", str(tmp_path / "out"), *dry, *more]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_counts_a_study_that_lies_in_two_folders_once(tmp_path, capsys):
    for folder in ("first", "second"):
        make_series(tmp_path / folder)
    assert main(["batch", str(tmp_path), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 to do, 1 copy"


def test_a_dry_run_leaves_out_what_is_done_or_given_up(tmp_path, capsys):
    root, out = tmp_path / "studies", tmp_path / "out"
    root.mkdir()
    for index in range(3):
        make_nifti(root / f"{index}.nii.gz", make_voxels() + index)
    listed = ["batch", str(root), "--dry-run", "-o", str(out)]
    main(listed)
    done, gone, given_up = (line.split()[2] for line in capsys.readouterr().out.splitlines()[:3])
    with Ledger(out, Owner.of_this_process()) as ledger:
        for key in (done, gone, given_up):
            ledger.add(key, key, key)
            ledger.claim(key, retries=0)
        ledger.finish(done, {})
        ledger.finish(gone, {})
        ledger.fail(given_up, Cause("InferenceError", "x", "it did not work."), retries=0)
    report = out / "cases" / done / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text('{"status": "done", "files": []}')
    main(listed)
    assert capsys.readouterr().out.splitlines()[-1] == "1 to do, 1 done, 1 failed"
    main([*listed, "--retry-failed"])
    assert capsys.readouterr().out.splitlines()[-1] == "2 to do, 1 done"


def test_a_dry_run_refuses_an_output_folder_that_was_made_with_other_settings(tmp_path, capsys):
    root, out = tmp_path / "studies", tmp_path / "out"
    root.mkdir()
    make_nifti(root / "a.nii.gz")
    with Ledger(out, Owner.of_this_process()) as ledger:
        ledger.check_settings({"threshold": 0.3})
        ledger.add("key", "place", "series")
    before = (out / FILE_NAME).read_bytes()
    listed = ["batch", str(root), "--dry-run", "-o", str(out)]
    assert main(listed) == 2
    assert "was made with threshold 0.3, found null" in capsys.readouterr().err
    assert main([*listed, "--threshold", "0.3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 to do"
    assert (out / FILE_NAME).read_bytes() == before


def test_an_output_folder_within_the_root_is_no_study_of_it(studies, a_bundle, tmp_path):
    shutil.copytree(studies / f"{PATIENT} 0", tmp_path / "study")
    for _ in range(2):
        done = _run(*_command(tmp_path, tmp_path / "out", a_bundle, "--jobs", "1"))
        assert (done.returncode, done.stdout.splitlines()[0]) == (0, "1 done"), done.stderr
    listed = _run(*_command(tmp_path, tmp_path / "other", a_bundle, "--dry-run"))
    assert "1 to do, 1 skipped" in listed.stdout  # an output folder of another run: nothing but results


def test_shards_of_a_root_make_one_whole(studies, a_bundle, undisturbed, tmp_path):
    for part in ("1/2", "2/2"):
        _run(*_command(studies, tmp_path, a_bundle, "--shard", part))
    assert _label_maps(tmp_path) == _label_maps(undisturbed[0])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--shard", "3/2"), "--shard"),
        (("--shard", "x"), "expected I/N"),
        (("--shard", "²/²"), "expected I/N"),
        (("--jobs", "0"), "--jobs"),
        (("--formats", "pdf"), "pdf"),
        (("--model", "ultrasound"), "is for single 2-D images"),
        (("--model", "no"), "expected one of breast-ct"),
        (("--scheduler", "tcp://127.0.0.1:1", "--cluster", "local"), "found both"),
        (("--cluster-file", "x.yaml"), "--cluster-file: is for --cluster kubernetes"),
        (("--root", "x"), "--root: is for 'batch status OUT'"),
        (("--metrics-port", "99999"), "--metrics-port: found 99999, expected 1 to 65535"),
        (("--quiet", "nan"), "--quiet"),
    ],
)
def test_wrong_options_are_refused_with_one_line(studies, tmp_path, more, said):
    done = _run(sys.executable, "-m", "lightunet_monai", "batch", str(studies), "-o", str(tmp_path / "out"), *more)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_root_that_is_missing_and_a_folder_without_a_ledger_are_refused(tmp_path):
    missing = _run(sys.executable, "-m", "lightunet_monai", "batch", str(tmp_path / "no"), "-o", str(tmp_path / "out"))
    assert missing.returncode == 1
    assert "does not exist" in missing.stderr
    assert not (tmp_path / "out").exists()
    nothing = _run(sys.executable, "-m", "lightunet_monai", "batch", "status", str(tmp_path))
    assert nothing.returncode == 1
    assert "no ledger.sqlite" in nothing.stderr


def test_a_file_in_place_of_the_output_folder_is_refused_and_stays(studies, tmp_path, capsys):
    file = tmp_path / "taken"
    file.write_text("mine")
    assert main(["batch", str(studies), "-o", str(file)]) == 1
    assert f"{file}: is a file, expected a folder" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_a_case_that_failed_and_is_tried_again_is_told_from_one_that_is_given_up(tmp_path, capsys):
    with Ledger(tmp_path, Owner.of_this_process()) as ledger:
        for key, may_pass in (("a", True), ("b", False)):
            ledger.add(key, "place", f"series-{key}")
            assert ledger.claim(key, retries=1)
            assert ledger.fail(key, Cause("inference", "memory", "no room", may_pass=may_pass), retries=1) == may_pass
    assert main(["batch", "status", str(tmp_path)]) == 0
    assert main(["batch", "status", str(tmp_path), "--progress", "json"]) == 0
    said, waits, given_up, line = capsys.readouterr().out.splitlines()
    assert said == "2 failed"
    assert waits.split() == ["failed", "a", "attempt", "1,", "to", "be", "tried", "again", "no", "room"]
    assert given_up.split() == ["failed", "b", "attempt", "1", "no", "room"]
    assert [(case["case"], case["given_up"]) for case in json.loads(line)["cases"]] == [("a", False), ("b", True)]


def test_what_a_killed_run_had_begun_is_not_running_in_the_status(tmp_path, capsys):
    dead = Owner.of_this_process()
    dead = Owner("dead", dead.host, dead.pid, "started before this process")
    with Ledger(tmp_path, Owner.of_this_process()) as ledger, Ledger(tmp_path, dead) as killed:
        for key, owner in (("a", ledger), ("b", killed), ("c", killed)):
            ledger.add(key, "place", f"series-{key}")
            assert owner.claim(key, retries=0)
        assert main(["batch", "status", str(tmp_path)]) == 0
        assert main(["batch", "status", str(tmp_path), "--progress", "json"]) == 0
        assert ledger.counts()["running"] == 3, "looking changes nothing"
    said, *cases, line = capsys.readouterr().out.splitlines()
    assert said == "2 found, 1 running"
    assert [text.split()[:2] for text in cases] == [["running", "a"]]
    event = json.loads(line)
    assert (event["counts"]["found"], event["counts"]["running"], len(event["cases"])) == (2, 1, 1)
