"""The command line as a process of its own: exit codes and complete output, however quickly it leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.bundle import tiny_bundle
from tests.builders.volume import make_nifti, make_voxels


def _run(*words):
    return subprocess.run(
        [sys.executable, "-m", "lightunet_monai", *map(str, words)], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("segment", "--help"), 0, "usage: lightunet segment"),
        (("--version",), 0, "lightunet "),
        (("segment",), 2, "required"),
        (("segment", "no-such-study", "-o", "out"), 1, "no-such-study"),
        (("profile", "--help"), 0, "usage: lightunet profile"),
    ],
)
def test_a_process_says_what_it_has_to_say_and_gives_its_code(words, code, said):
    done = _run(*words)
    assert done.returncode == code
    assert said in done.stdout + done.stderr


def test_all_lines_arrive_through_a_pipe(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    study = make_nifti(tmp_path / "a.nii.gz", make_voxels((24, 20, 16)))
    done = _run("segment", study, "-o", tmp_path / "out", "--bundle", bundle, "--progress", "json", "--engine", "torch")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "done"
    assert (tmp_path / "out" / "report.json").is_file()


BUFFERED = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}


@pytest.mark.parametrize("words", [("--help",), ("segment", "--help")])
def test_a_reader_that_has_read_enough_is_no_error(words):
    command = [sys.executable, "-m", "lightunet_monai", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=BUFFERED) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [("--help",), ("segment", "--help")])
def test_output_that_cannot_be_written_is_told_in_one_line(words):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "lightunet_monai", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=BUFFERED, timeout=120)
    assert done.returncode == 1
    assert done.stderr == "error: standard output cannot be written: No space left on device.\n"


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["inspect", "segment"])
def test_closed_streams_change_nothing(tmp_path, closed, command):
    study = make_nifti(tmp_path / "a.nii.gz", make_voxels((24, 20, 16)))
    words = {"inspect": [command, str(study)], "segment": [command, "--help"]}[command]
    shell = ["sh", "-c", f'exec "$0" -m lightunet_monai "$@" {closed}', sys.executable, *words]
    assert subprocess.run(shell, capture_output=True, timeout=120).returncode == 0
