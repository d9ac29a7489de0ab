"""The limits of a container, as the files of its control groups tell them."""

import os

import pytest

from lightunet_monai.batch import control_groups, pool
from lightunet_monai.batch.control_groups import memory_limit, usable_cores
from lightunet_monai.batch.pool import MEMORY_OF_WORKER, default_jobs

CORES = 16
V1 = "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n1:name=systemd:/docker/a\n"


@pytest.fixture(autouse=True)
def many_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(CORES)), raising=False)


def _host(folder, own, files):
    (folder / "own").write_text(own)
    for name, text in files.items():
        path = folder / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "fs", folder / "own"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),  # docker --cpus 2
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, CORES),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, CORES),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),  # of the group above
        ("0::/../x\n", {"cpu.max": "400000 100000\n"}, 4),  # what lies outside of the container is not seen
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 3),
        (V1, {"cpu/docker/a/cpu.cfs_quota_us": "50000\n", "cpu/docker/a/cpu.cfs_period_us": "50000\n"}, 1),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, CORES),
        ("0::/\n", {"cpu.max": "\n"}, CORES),
        ("no group\n", {}, CORES),
    ],
)
def test_a_quota_of_time_counts_as_cores(tmp_path, own, files, cores):
    assert usable_cores(*_host(tmp_path, own, files)) == cores


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "4294967296\n"}, 1 << 32),
        ("0::/\n", {"memory.max": "max\n"}, 0),
        ("0::/a\n", {"memory.max": "1000\n", "a/memory.max": "2000\n"}, 1000),
        (V1, {"memory/memory.limit_in_bytes": "5000\n"}, 5000),
    ],
)
def test_the_memory_of_a_container_is_its_limit(tmp_path, own, files, limit):
    assert memory_limit(*_host(tmp_path, own, files)) == limit


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert usable_cores(tmp_path, tmp_path / "none") == CORES
    assert memory_limit(tmp_path, tmp_path / "none") == 0


def test_no_more_workers_are_started_than_a_container_has_room_for(monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 1 << 20, raising=False)
    monkeypatch.setattr(pool, "memory_limit", lambda: 2 * MEMORY_OF_WORKER)
    assert default_jobs(CORES, "cpu") == 2


def test_the_command_asks_for_the_cores_of_the_container(monkeypatch):
    from lightunet_monai.cli import batch

    asked = []
    monkeypatch.setattr(control_groups, "usable_cores", lambda: 3)
    monkeypatch.setattr(pool, "memory_limit", lambda: 0)
    monkeypatch.setattr(pool, "LocalPool", lambda plan, **options: asked.append(options))
    arguments = {"scheduler": None, "cluster": None, "max_memory": None, "jobs": None, "threads": None}
    run = batch._Run.__new__(batch._Run)
    run.arguments = batch.argparse.Namespace(**arguments, device="cpu", timeout=None)
    monkeypatch.setattr(os, "sysconf", lambda name: 1 << 20, raising=False)
    run._open_pool(None)
    assert (asked[0]["jobs"], asked[0]["threads"]) == (3, 1)
