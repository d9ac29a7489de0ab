"""Worker processes that end at a bad moment; real processes with a small model."""

import os
import signal
import time
from pathlib import Path

import pytest

from lightunet_monai.batch import pool
from lightunet_monai.batch import pool as pool_module
from lightunet_monai.batch.keys import case_key
from lightunet_monai.batch.pool import LocalPool, default_jobs, worker_environment
from lightunet_monai.batch.publish import CASES
from lightunet_monai.batch.settings import CaseSettings
from lightunet_monai.batch.task import CaseTask, Outcome, WorkerPlan
from lightunet_monai.errors import InferenceError
from lightunet_monai.options import RunOptions
from lightunet_monai.sources import ImageFile
from tests.builders.bundle import tiny_bundle
from tests.builders.volume import make_nifti, make_voxels


@pytest.mark.parametrize(
    ("device", "jobs", "seen"),
    [
        (None, 2, ["4", "7", "4"]),
        ("cuda", 2, ["4", "7", "4"]),
        ("cuda:1", 1, ["4,7"] * 3),  # hidden from a worker, it would not be there
        ("cpu", 5, ["4,7"] * 3),
    ],
)
def test_workers_share_several_gpus_unless_one_is_named(monkeypatch, device, jobs, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr(os, "sysconf", lambda name: 1 << 20, raising=False)
    monkeypatch.setattr(pool, "memory_limit", lambda: 0)
    assert default_jobs(5, device) == jobs
    assert [worker_environment(device, number, 2)["CUDA_VISIBLE_DEVICES"] for number in range(3)] == seen


@pytest.mark.parametrize(("max_memory", "jobs"), [(0, 32), (8e9, 2), (1e9, 1)])
def test_no_more_workers_are_started_than_the_memory_limit_has_room_for(monkeypatch, max_memory, jobs):
    monkeypatch.setattr(os, "sysconf", lambda name: 1 << 20, raising=False)
    monkeypatch.setattr(pool, "memory_limit", lambda: 0)
    assert default_jobs(32, "cpu", int(max_memory)) == jobs


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_worker_that_cannot_be_started_is_an_error_of_ours(tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(InferenceError, match="a worker cannot be started: Too many open files"):
            LocalPool(WorkerPlan(tmp_path, "run", CaseSettings()), jobs=1, threads=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def _open_pool(folder):
    bundle = tiny_bundle(folder / "bundle")
    options = RunOptions(device="cpu", engine="torch", threads=1)
    return LocalPool(WorkerPlan(folder / "out", "run", CaseSettings(), bundle, options), jobs=1, threads=1)


def _task(folder):
    source = ImageFile(make_nifti(folder / "a.nii.gz", make_voxels()))
    return CaseTask(case_key(source), "1" * 16, "2" * 16, source)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system has no /proc")
def test_a_worker_without_a_case_that_holds_too_much_is_replaced_once(tmp_path, monkeypatch):
    monkeypatch.setattr(pool_module, "MEMORY_CHECK_SECONDS", 0.0)
    pool = _open_pool(tmp_path)
    try:
        assert pool.submit(_task(tmp_path))
        end = time.monotonic() + 120
        while not pool.poll(0.5):
            assert time.monotonic() < end, "the case was not finished"
        pids, pool.max_memory = pool.pids(), 1

        assert pool.poll(0.1) == []
        replaced = pool.pids()
        assert replaced != pids
        assert pool.poll(0.1) == []
        assert pool.pids() == replaced
    finally:
        pool.close()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_what_a_worker_has_answered_counts_though_it_died_before_it_was_heard(tmp_path):
    pool, task = _open_pool(tmp_path), _task(tmp_path)
    try:
        assert pool.submit(task)
        report = pool.plan.out / CASES / task.key / "report.json"
        end = time.monotonic() + 120
        while not report.exists():
            assert time.monotonic() < end, "the case was not finished"
            time.sleep(0.1)
        time.sleep(1.0)  # for the answer, which follows the result
        (pid,) = pool.pids()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

        events = pool.poll(10.0)

        assert [(type(event), event.key) for event in events] == [(Outcome, task.key)]
        assert events[0].cause is None
        assert pool.in_flight() == []
        assert pool.pids() != [pid]
    finally:
        pool.close()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_signal_to_all_processes_ends_no_worker_that_is_still_starting(tmp_path):
    pool, task = _open_pool(tmp_path), _task(tmp_path)
    try:
        (pid,) = pool.pids()
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        assert pool.submit(task)
        end, events = time.monotonic() + 120, []
        while not events:
            assert time.monotonic() < end, "the case was not finished"
            events = pool.poll(0.5)
        assert [(type(event), event.key) for event in events] == [(Outcome, task.key)]
        assert events[0].cause is None
        assert pool.pids() == [pid]
    finally:
        pool.close()
