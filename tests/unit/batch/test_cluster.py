"""Cases on a real dask cluster on this machine: same results as without, and nothing lost when something dies."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from builders.bundle import tiny_bundle
from builders.volume import make_nifti, make_voxels

from lightunet_monai.batch.case import CaseSettings
from lightunet_monai.batch.cluster import open_cluster
from lightunet_monai.batch.cluster_start import ClusterSettings, import_dask
from lightunet_monai.batch.keys import case_key
from lightunet_monai.batch.pool import LocalPool
from lightunet_monai.batch.publish import remove_work
from lightunet_monai.batch.task import CaseTask, Lost, Outcome, WorkerPlan
from lightunet_monai.errors import InferenceError, LightUNetError, UsageError
from lightunet_monai.options import RunOptions
from lightunet_monai.sources import ImageFile

pytest.importorskip("distributed", reason="the extra cluster is not installed")

ROOT = Path(__file__).resolve().parents[3]
PATIENT = "PLANTED^PATIENT"
LOOPBACK = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
PATIENCE = 600.0
"""Seconds; much more than a quiet machine needs."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in")
    found = []
    for number in range(4):
        path = make_nifti(folder / f"{PATIENT}_{number}.nii.gz", make_voxels(seed=number))
        found.append(_task(path))
    return found


@pytest.fixture(scope="module")
def large_task(tmp_path_factory):
    """Takes long enough to be caught while it is worked on."""
    voxels = np.repeat(make_voxels((320, 320, 4)), 4, axis=2)
    path = make_nifti(tmp_path_factory.mktemp("large") / f"{PATIENT}.nii.gz", voxels)
    return _task(path)


def _task(path):
    return CaseTask(case_key(ImageFile(path)), "0" * 16, "0" * 16, ImageFile(path))


@pytest.fixture
def make_plan(tmp_path, bundle):
    def make(name="out", **changes):
        options = RunOptions(device="cpu", engine="torch", threads=1)
        out = tmp_path / name
        out.mkdir()
        return WorkerPlan(out, "run0", CaseSettings(formats=("nifti",)), bundle, options, **changes)

    return make


class Dask:
    """Scheduler and workers as processes of their own, with their logs in files."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes = []
        self.start_scheduler()

    def start_scheduler(self):
        self.scheduler = self._start("scheduler", "--port", str(self.port))
        wait_for(self._answers)

    def start_worker(self):
        arguments = ["--nthreads", "1", "--resources", "case=1", "--local-directory", str(self.folder)]
        return self._start("worker", self.address, *arguments)

    def _answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _start(self, kind, *arguments):
        with (self.folder / f"{kind}{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", kind, *arguments, *LOOPBACK],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a nanny and its worker end together
            )
        self.processes.append(process)
        return process

    def end(self, process):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self):
        for process in self.processes:
            self.end(process)
        print(self.logs())  # shown where a test fails

    def logs(self):
        return "\n".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """One scheduler with two workers, for the tests that leave it whole."""
    started = Dask(tmp_path_factory.mktemp("dask"))
    try:
        started.start_worker()
        started.start_worker()
        yield started
        assert PATIENT not in started.logs()  # whatever the tests did
    finally:
        started.close()


def free_port():
    """A port below those that the system gives to connections.

    Among these, one that waits for a scheduler to come back can be given the scheduler's port as its own end and so
    be connected with itself (TCP allows that), or another test can: the scheduler would then start at another port.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 50):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return found


@contextmanager
def opened(pool):
    try:
        yield pool
    finally:
        pool.close()


def work_off(pool, tasks, *, again=True, between=lambda: None):
    """Every task to its end; lost ones once more. Gives outcomes by key and what was lost."""
    waiting, outcomes, lost = list(tasks), {}, []
    end = time.monotonic() + PATIENCE
    while waiting or pool.in_flight():
        assert time.monotonic() < end, f"waited too long for {[task.key for task in waiting]} and {describe(pool)}"
        while waiting and pool.submit(waiting[0]):
            waiting.pop(0)
        between()
        for event in pool.poll(0.2):
            if isinstance(event, Outcome):
                assert event.key not in outcomes
                outcomes[event.key] = event
            else:
                lost.append(event)
                waiting += [task for task in tasks if again and task.key == event.key]
    return outcomes, lost


def describe(pool):
    """What dask says of the cases in flight, for a test that waits in vain."""
    client = pool._client
    futures = {key: flying.future.status for key, flying in pool._flying.items()}
    return {"client": client.status, "slots": pool._slots, "futures": futures}


def label_maps(plan):
    return {path.parent.name: path.read_bytes() for path in sorted(plan.out.glob("cases/*/*.nii.gz"))}


def caught_at_work(plan):
    """Process number of a worker that is stopped in the middle of a case; None if there is none."""
    for marker in (plan.out / ".work" / plan.run).glob("*.started"):
        try:
            number = int(marker.read_text())
            os.kill(number, signal.SIGSTOP)
        except (OSError, ValueError):
            continue
        if marker.exists():
            return number
        os.kill(number, signal.SIGCONT)
    return None


@pytest.mark.slow
def test_a_cluster_of_this_machine_gives_what_worker_processes_give(make_plan, tasks):
    alone, cluster = make_plan("alone"), make_plan("cluster")
    with opened(LocalPool(alone, jobs=1, threads=1)) as pool:
        expected, _ = work_off(pool, tasks)
        model = pool.model
    with opened(open_cluster("local", cluster, ClusterSettings(workers=2, memory_bytes=4 << 30))) as pool:
        found, lost = work_off(pool, tasks)
        assert pool.model == model
        assert pool.dashboard_link.startswith("http://127.0.0.1:")
    assert not lost
    assert set(found) == set(expected) == {task.key for task in tasks}
    assert all(outcome.facts and outcome.cause is None for outcome in found.values())
    assert [found[key].facts["volume_ml"] for key in found] == [expected[key].facts["volume_ml"] for key in found]
    assert len(label_maps(cluster)) == len(tasks)
    assert label_maps(cluster) == label_maps(alone)


@pytest.mark.slow
def test_a_signal_to_all_processes_ends_no_worker_of_this_machine(make_plan, tasks):
    with opened(open_cluster("local", make_plan())) as pool:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            for number in pool._client.run(os.getpid).values():
                os.kill(number, signal_number)
            outcomes, lost = work_off(pool, tasks[:1])
            assert not lost
            assert outcomes[tasks[0].key].facts


@pytest.mark.slow
def test_a_killed_worker_is_blamed_on_its_case_alone_and_all_are_done_in_the_end(dask, make_plan, tasks, large_task):
    plan = make_plan()
    killed = []

    def kill_one():
        if not killed and (number := caught_at_work(plan)):
            killed.append(number)
            killed.append(next((plan.out / ".work" / plan.run).glob("*.started")).name)
            os.kill(number, signal.SIGKILL)

    with opened(open_cluster(dask.address, plan)) as pool:
        outcomes, lost = work_off(pool, [large_task, *tasks], between=kill_one)
    assert killed
    assert {key for key, outcome in outcomes.items() if outcome.facts} == {task.key for task in [large_task, *tasks]}
    blamed = [event for event in lost if event.is_suspect]
    assert len(blamed) == 1
    assert blamed[0] == Lost(blamed[0].key, "died", True, True)
    assert all(event.how == "died" and not event.is_sure for event in lost if event not in blamed)
    assert not list((plan.out / ".work" / plan.run).glob("*.started"))
    remove_work(plan.out, plan.run)  # half-written parts of the worker that was killed
    assert not (plan.out / ".work" / plan.run).exists()


@pytest.mark.slow
def test_a_case_that_takes_too_long_ends_its_worker_and_says_so(dask, make_plan, large_task):
    plan = make_plan(timeout=0.1)
    with opened(open_cluster(dask.address, plan)) as pool:
        outcomes, lost = work_off(pool, [large_task], again=False)
    assert not outcomes
    assert lost == [Lost(large_task.key, "timeout", True, True)]


@pytest.mark.slow
def test_neither_a_failed_case_nor_the_logs_of_dask_name_a_patient(dask, make_plan, tmp_path):
    broken = tmp_path / f"{PATIENT}.nii.gz"
    broken.write_bytes(b"no volume")
    task = CaseTask("e" * 16, "0" * 16, "0" * 16, ImageFile(broken))
    with opened(open_cluster(dask.address, make_plan())) as pool:
        outcomes, lost = work_off(pool, [task])
        assert pool.submit(task)
        running = f"lightunet-{task.key}-2-"
    assert not lost
    wait_for(lambda: running in dask.logs())  # dask names a task when it is cancelled
    logs = dask.logs()
    assert "Start worker at" in logs
    assert PATIENT not in logs
    assert "Compute Failed" not in logs
    assert outcomes[task.key].facts is None
    assert outcomes[task.key].cause.kind == "UnreadableFileError"
    assert PATIENT not in repr(outcomes)


@pytest.mark.slow
def test_no_more_is_taken_than_two_for_each_worker(dask, make_plan, tasks):
    many = [CaseTask(f"{number:016x}", task.place, task.series, task.source) for number, task in enumerate(tasks * 4)]
    with opened(open_cluster(dask.address, make_plan())) as pool:
        wait_for(lambda: not pool.poll(0.1) and pool._slots == 2)
        taken = [task.key for task in many if pool.submit(task)]
        assert taken == pool.in_flight() == [task.key for task in many[:4]]


@pytest.mark.slow
def test_a_bundle_that_workers_cannot_open_ends_the_run(dask, make_plan, tasks, tmp_path):
    plan = make_plan()
    plan = WorkerPlan(plan.out, plan.run, plan.settings, tmp_path / "nowhere", plan.options)
    with opened(open_cluster(dask.address, plan)) as pool, pytest.raises(LightUNetError, match="nowhere"):
        work_off(pool, tasks[:1])


@pytest.mark.slow
def test_workers_that_do_not_see_the_output_folder_say_so(dask, make_plan, tasks):
    plan = make_plan()
    with opened(open_cluster(dask.address, plan)) as pool:
        (plan.out / ".work" / plan.run).rmdir()
        with pytest.raises(UsageError, match="output folder") as caught:
            work_off(pool, tasks[:1])
    assert caught.value.reason == "not-shared"


@pytest.mark.slow
def test_a_scheduler_that_comes_back_finds_the_pool_waiting_with_all_its_cases(
    make_plan, tasks, large_task, tmp_path_factory
):
    plan = make_plan()
    dask = Dask(tmp_path_factory.mktemp("restarted"))
    try:
        worker = dask.start_worker()
        with opened(open_cluster(dask.address, plan)) as pool:
            restarted = []

            def restart():
                if not restarted and (number := caught_at_work(plan)):
                    restarted.extend(pool.in_flight())
                    os.kill(number, signal.SIGCONT)
                    dask.end(dask.scheduler)
                    dask.end(worker)  # a worker leaves when its scheduler is gone, and is started again by its site
                    dask.start_scheduler()
                    dask.start_worker()

            outcomes, lost = work_off(pool, [large_task, *tasks[:2]], between=restart)
        assert restarted
        assert {event.key for event in lost} == set(restarted)
        assert all(event == Lost(event.key, "cluster", False, False) for event in lost)
        assert all(outcome.facts for outcome in outcomes.values())
        assert len(label_maps(plan)) == len(outcomes) == 3
        assert PATIENT not in dask.logs()
    finally:
        dask.close()


@pytest.mark.slow
def test_a_scheduler_that_stays_away_ends_the_run_with_a_hint(make_plan, tasks, tmp_path_factory):
    dask = Dask(tmp_path_factory.mktemp("gone"))
    try:
        with opened(open_cluster(dask.address, make_plan(), ClusterSettings(reconnect_seconds=1.0))) as pool:
            dask.end(dask.scheduler)
            wait_for(lambda: not pool._is_connected())
            with pytest.raises(InferenceError, match="has been away for 1 s") as caught:
                work_off(pool, tasks[:1])
        assert "finished" in caught.value.hint
    finally:
        dask.close()


@pytest.mark.slow
def test_a_scheduler_without_workers_ends_the_run_with_a_hint(make_plan, tasks, tmp_path_factory):
    dask = Dask(tmp_path_factory.mktemp("empty"))
    try:
        with opened(open_cluster(dask.address, make_plan(), ClusterSettings(reconnect_seconds=3.0))) as pool:
            with pytest.raises(InferenceError, match="no worker for 3 s") as caught:
                work_off(pool, tasks[:1])
            assert not pool.in_flight()
        assert "dask worker" in caught.value.hint
    finally:
        dask.close()


@pytest.fixture
def no_client(monkeypatch):
    """No client is made: one that fails may end the clients of the whole process when Python collects it."""
    made = []
    monkeypatch.setattr("distributed.Client", lambda *args, **settings: made.append(args))
    yield
    assert not made


def test_a_scheduler_that_is_not_there_is_named_with_a_hint(make_plan, monkeypatch, no_client):
    monkeypatch.setattr("lightunet_monai.batch.cluster.CONNECT_SECONDS", 1.0)
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(UsageError, match="no dask scheduler answers") as caught:
        open_cluster(address, make_plan())
    assert address in caught.value.message
    assert "dask scheduler" in caught.value.hint
    assert "\n" not in str(caught.value)


@contextmanager
def another_server(greeting):
    """A server that takes connections and says this, or nothing and keeps them open."""
    with socket.create_server(("127.0.0.1", free_port())) as server:

        def serve():
            with contextlib.suppress(OSError), contextlib.ExitStack() as kept:
                while True:
                    connection = kept.enter_context(server.accept()[0])
                    if greeting:
                        connection.sendall(greeting)
                        connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<html>no</html>"])
def test_another_server_at_the_address_is_no_scheduler_and_is_not_waited_for(
    make_plan, monkeypatch, caplog, greeting, no_client
):
    monkeypatch.setattr("lightunet_monai.batch.cluster.CONNECT_SECONDS", 1.0)
    monkeypatch.setattr("lightunet_monai.batch.cluster.FETCH_SECONDS", 1.0)
    begin = time.monotonic()
    with another_server(greeting) as address, pytest.raises(UsageError, match="no dask scheduler answers") as caught:
        open_cluster(address, make_plan())
    assert time.monotonic() - begin < 60
    assert address in caught.value.message
    assert not caplog.records


@pytest.mark.slow
def test_a_worker_is_no_scheduler(dask, make_plan):
    plan = make_plan()
    with opened(open_cluster(dask.address, plan)) as pool:
        pool._client.wait_for_workers(1, timeout=60)
        address = next(iter(pool._client.scheduler_info(n_workers=-1)["workers"]))
    with pytest.raises(UsageError, match="no dask scheduler answers") as caught:
        open_cluster(address, plan)
    assert address in caught.value.message


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8787", "tcp://127.0.0.1", "tcp://127.0.0.1:a", "tls://127.0.0.1:1"]
)
def test_an_address_that_dask_cannot_use_is_refused_with_a_hint(make_plan, monkeypatch, address, no_client):
    monkeypatch.setattr("lightunet_monai.batch.cluster.CONNECT_SECONDS", 1.0)
    with pytest.raises(UsageError, match="no dask scheduler answers") as caught:
        open_cluster(address, make_plan())
    assert address in caught.value.message
    assert "tcp://host:8786" in caught.value.hint
    assert "tls://" in caught.value.hint


def test_an_unknown_kind_of_cluster_is_refused_with_the_known_ones(make_plan):
    with pytest.raises(UsageError, match="expected one of local, slurm, kubernetes") as caught:
        open_cluster("beowulf", make_plan())
    assert caught.value.hint


@pytest.mark.parametrize("settings", [{"workers": 0}, {"threads": 0}])
def test_a_number_that_makes_no_sense_is_refused(settings):
    with pytest.raises(UsageError, match="expected 1 or more"):
        ClusterSettings(**settings)


def test_a_package_that_is_missing_is_named_with_its_extra():
    with pytest.raises(UsageError, match="needs the package dask_of_nobody") as caught:
        import_dask("dask_of_nobody.operator", "kubernetes")
    assert caught.value.hint == "pip install 'lightunet_monai[kubernetes]'"


def test_what_dask_may_print_names_no_patient(make_plan, tasks):
    assert PATIENT not in repr((make_plan(deidentify="secret"), tasks))
    assert "secret" not in repr(make_plan("other", deidentify="secret"))
