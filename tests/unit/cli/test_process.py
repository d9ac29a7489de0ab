"""The command line as a process of its own: exit codes and complete output, however quickly it leaves."""

import json
import subprocess
import sys

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
