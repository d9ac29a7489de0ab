"""Runs the tests in ``inside`` with each slicer-core that is set up: ``scripts/setup_slicer_tests.sh``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders.series import make_series

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
ENVIRONMENTS = {"5.12": ".venv-slicer", "5.13": ".venv-slicer-next"}


@pytest.mark.slicer
@pytest.mark.parametrize("version", ENVIRONMENTS)
def test_the_module_on_slicer_core(version, tmp_path):
    python = ROOT / ENVIRONMENTS[version] / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{ENVIRONMENTS[version]} is missing; make it with scripts/setup_slicer_tests.sh")
    probe = subprocess.run([python, "-c", "import slicer, PySide6, pytest"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"{ENVIRONMENTS[version]} lacks slicer-core, PySide6 or pytest; scripts/setup_slicer_tests.sh")
    environment = {**os.environ, "LIGHTUNET_CHILD_PYTHON": sys.executable, "QT_QPA_PLATFORM": "offscreen"}
    environment["LIGHTUNET_DICOM_SERIES"] = str(make_series(tmp_path / "series", orientation=CORONAL).folder)
    large = make_series(tmp_path / "large", shape=(60, 50, 12), spacing=(2.0, 2.0, 8.0), orientation=CORONAL)
    environment["LIGHTUNET_LARGE_DICOM_SERIES"] = str(large.folder)  # of the size of a breast
    environment.pop("PYTHONPATH", None)
    command = [python, "-m", "pytest", "-c", HERE / "slicer_core.ini", "--rootdir", HERE, "-q", "--tb=short"]
    if version != "5.12":  # the second environment is there for Slicer's side, which the fake package exercises
        command += ["-m", "not real_child"]
    done = subprocess.run([*command, HERE / "inside"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
