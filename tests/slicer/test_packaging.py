"""Every file of the module is packaged, and the catalogue of Slicer would take the extension."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "slicer_extension" / "LightUNetSegmentation"
STUB = Path(__file__).resolve().parent / "cmake_stub"


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    """The build folder after CMake has configured the extension with a stand-in for Slicer."""
    local = ROOT / ".venv-slicer" / "bin" / "cmake"
    program = str(local) if local.exists() else shutil.which("cmake")
    if program is None:
        pytest.skip("cmake is missing; make .venv-slicer with scripts/setup_slicer_tests.sh")
    source, build = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("build")
    shutil.copy(ROOT / "CMakeLists.txt", source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "slicer_extension", source / "slicer_extension", ignore=ignored)
    project = source / "CMakeLists.txt"
    project.write_text(
        project.read_text().replace("project(LightUNetSegmentation)", "project(LightUNetSegmentation NONE)")
    )
    command = [program, "-S", source, "-B", build, f"-DSlicer_DIR={STUB}", "-G", "Unix Makefiles"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return build


def lines(path):
    return path.read_text().splitlines()


def test_every_file_of_the_module_is_packaged_and_every_packaged_one_is_there(configured):
    ours = {
        str(path.relative_to(MODULE))
        for path in MODULE.rglob("*")
        if path.is_file() and "Testing" not in path.parts and path.suffix != ".pyc" and path.name != "CMakeLists.txt"
    }
    assert ours == set(lines(configured / "packaged.txt"))


def test_every_test_of_the_module_is_known_to_ctest(configured):
    ours = {path.name for path in (MODULE / "Testing" / "Python").glob("*Test.py")}
    assert ours == set(lines(configured / "tested.txt"))


def test_the_metadata_is_complete(configured):
    metadata = dict(line.split("=", 1) for line in lines(configured / "metadata.txt"))
    assert all(metadata.values())
    assert metadata["DEPENDS"] == "PyTorch"
    assert not metadata["NAME"].startswith("Slicer")


def test_the_catalogue_takes_the_extension():
    command = [sys.executable, ROOT / "scripts" / "check_slicer_catalogue.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_colour_table_is_in_step_with_the_bundle():
    command = [sys.executable, ROOT / "scripts" / "write_slicer_colors.py", "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run scripts/write_slicer_colors.py"


def test_no_label_of_the_model_is_written_in_the_code():
    metadata = json.loads((ROOT / "monai_bundle" / "configs" / "metadata.json").read_text())
    words = set()
    for definition in metadata["label_definitions"].values():
        words |= {definition["title"], *(definition[key]["value"] for key in ("category", "type", "region"))}
    for path in MODULE.rglob("*.py"):
        text = path.read_text()
        assert not [word for word in words if word in text], path.name
