import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lightunet_monai.batch.lease import LEASE_SECONDS, Owner, _started

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")

LONG_AGO = 10 * LEASE_SECONDS


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def _owner_of(process):
    return replace(Owner.of_this_process(), pid=process.pid, started=_started(process.pid))


def test_this_process_is_alive_however_old_its_sign_of_life(child):
    assert Owner.of_this_process().is_alive(LONG_AGO)
    assert _owner_of(child).is_alive(LONG_AGO)


def test_two_runs_of_one_process_have_names_of_their_own():
    assert Owner.of_this_process().run != Owner.of_this_process().run


def test_a_process_that_has_ended_is_not_alive(child):
    owner = _owner_of(child)
    child.kill()
    child.wait()
    assert not owner.is_alive(0.0)


@needs_proc
def test_a_reused_process_number_is_another_process(child):
    assert not replace(_owner_of(child), started="1").is_alive(0.0)


@needs_proc
def test_a_zombie_is_not_alive(child):
    owner = _owner_of(child)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet reaped
    time.sleep(0.01)
    assert _started(child.pid) == owner.started
    assert not owner.is_alive(0.0)


@pytest.mark.parametrize(
    ("age", "expected"),
    [(0.0, True), (LEASE_SECONDS - 1, True), (LEASE_SECONDS, False), (1 - LEASE_SECONDS, True), (-LONG_AGO, False)],
)
def test_a_run_on_another_machine_lives_by_its_last_sign(age, expected):
    assert replace(Owner.of_this_process(), host="elsewhere", pid=1).is_alive(age) is expected


def test_the_host_is_told_without_its_name():
    assert len(Owner.of_this_process().host) == 16
    assert os.uname().nodename not in Owner.of_this_process().host
