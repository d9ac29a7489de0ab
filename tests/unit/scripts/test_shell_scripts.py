"""setup.sh installs what is missing and no more; demo.sh refuses a study that is not there before it installs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shell scripts are for Linux and macOS")


@pytest.fixture
def set_up(tmp_path):
    """Runs setup.sh in a folder whose pip only writes down what it was asked for."""
    for name in ("pyproject.toml", "constraints.txt", "scripts/setup.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$*" >>asked\n')
    python.chmod(0o755)

    def run(*extras):
        asked = tmp_path / "asked"
        asked.unlink(missing_ok=True)
        subprocess.run(["sh", tmp_path / "scripts" / "setup.sh", *extras], check=True, capture_output=True)
        lines = asked.read_text().splitlines() if asked.exists() else []
        return [line.split(" -e ")[1] for line in lines if " -e " in line]

    return run


def test_extras_that_are_there_are_not_installed_again(set_up):
    assert set_up() == ["."]
    assert set_up("test,lint") == [".[test,lint]"]
    assert set_up("lint") == []
    assert set_up() == []
    assert set_up("test,train") == [".[test,lint,train]"]
    assert set_up("train,test,lint") == []


def test_other_pins_are_installed_with_all_extras_of_before(set_up, tmp_path):
    set_up("test,lint")
    with (tmp_path / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert set_up("lint") == [".[test,lint]"]


def test_a_study_that_is_not_there_is_refused_before_anything_is_installed(tmp_path):
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "demo.sh", tmp_path / "scripts")  # without setup.sh, which it would call
    for missing in (tmp_path / "none", tmp_path / "none" / "scripts"):
        done = subprocess.run(["sh", tmp_path / "scripts" / "demo.sh", missing], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr == f"error: {missing}: no such file or folder\n"
