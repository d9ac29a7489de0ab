"""What the package offers, and nothing else."""

import subprocess
import sys

import lightunet_monai


def test_every_public_name_can_be_imported():
    for name in lightunet_monai.__all__:
        assert getattr(lightunet_monai, name) is not None, name


def test_the_list_is_sorted_and_without_doubles():
    assert lightunet_monai.__all__ == sorted(set(lightunet_monai.__all__))


def test_importing_the_package_is_quick_because_it_imports_nothing_heavy():
    code = "import sys, lightunet_monai; print(sorted({'torch', 'monai', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_that_of_the_project(project_root):
    line = next(x for x in (project_root / "pyproject.toml").read_text().splitlines() if x.startswith("version"))
    assert line == f'version = "{lightunet_monai.__version__}"'
