"""Child processes of this machine: what they import, and what not."""

import sys
import time

import pytest
from builders.bundle import tiny_bundle

from lightunet_monai.batch.case import CaseSettings
from lightunet_monai.batch.cluster_start import ClusterSettings, start_cluster
from lightunet_monai.batch.pool import LocalPool
from lightunet_monai.batch.task import WorkerPlan
from lightunet_monai.options import RunOptions

PATIENCE = 300.0
"""Seconds; much more than a quiet machine needs."""


@pytest.fixture
def trace(tmp_path, monkeypatch):
    """Where Python files in the working folder leave a trace, if they are run."""
    folder, trace = tmp_path / "study", tmp_path / "was-run"
    folder.mkdir()
    for name in ("numpy", "torch", "pickle", "signal", "runpy"):
        (folder / f"{name}.py").write_text(f"open({str(trace)!r}, 'w').close()\nraise SystemExit(9)\n")
    monkeypatch.chdir(folder)
    return trace


def test_python_files_in_the_working_folder_are_not_run_by_worker_processes(tmp_path, trace):
    options = RunOptions(device="cpu", engine="torch", threads=1)
    bundle = tiny_bundle(tmp_path / "bundle")
    pool = LocalPool(WorkerPlan(tmp_path, "run0", CaseSettings(), bundle, options), jobs=1, threads=1)
    try:
        end = time.monotonic() + PATIENCE
        while not pool.model and time.monotonic() < end:
            pool.poll(0.2)
    finally:
        pool.close()
    assert pool.model
    assert not trace.exists()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 cannot be told")
def test_python_files_in_the_working_folder_are_not_run_by_the_workers_of_a_cluster_here(trace, monkeypatch):
    monkeypatch.setenv("PYTHONSAFEPATH", "")  # put back behind the test
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
    cluster = start_cluster("local", ClusterSettings())
    try:
        with distributed.Client(cluster) as client:
            assert client.submit(divmod, 7, 2).result(timeout=PATIENCE) == (3, 1)
    finally:
        cluster.close()
    assert not trace.exists()
