"""Worker processes that end at a bad moment; real processes with a small model."""

import os
import signal
import time

import pytest

from lightunet_monai.batch.pool import LocalPool, default_jobs, worker_environment
from lightunet_monai.batch.publish import CASES
from lightunet_monai.batch.settings import CaseSettings
from lightunet_monai.batch.task import CaseTask, Outcome, WorkerPlan
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
    assert default_jobs(5, device) == jobs
    assert [worker_environment(device, number, 2)["CUDA_VISIBLE_DEVICES"] for number in range(3)] == seen


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_what_a_worker_has_answered_counts_though_it_died_before_it_was_heard(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    options = RunOptions(device="cpu", engine="torch", threads=1)
    plan = WorkerPlan(tmp_path / "out", "run", CaseSettings(), bundle, options)
    task = CaseTask("0" * 16, "1" * 16, "2" * 16, ImageFile(make_nifti(tmp_path / "a.nii.gz", make_voxels())))
    pool = LocalPool(plan, jobs=1, threads=1)
    try:
        assert pool.submit(task)
        report = plan.out / CASES / task.key / "report.json"
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
