"""What goes into the files that people install."""

import re
from pathlib import Path

from lightunet_monai.inference.bundle_files import COPIED

ROOT = Path(__file__).resolve().parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # tomllib is there from Python 3.11 on


def test_a_wheel_takes_what_belongs_to_a_bundle_and_no_results_that_lie_beside_it():
    section = PROJECT.partition("[tool.hatch.build.targets.wheel.force-include]")[2].partition("\n[")[0]
    taken = dict(re.findall(r'^"(.+)" = "(.+)"$', section, re.MULTILINE))
    assert taken == {f"monai_bundle/{name}": f"lightunet_monai/monai_bundle/{name}" for name in COPIED}
    assert [name for name in taken if not (ROOT / name).exists()] == []


def test_a_source_distribution_takes_the_same_from_the_top_folder_alone():
    section = PROJECT.partition("[tool.hatch.build.targets.sdist]")[2].partition("\n[")[0]
    taken = re.findall(r'"(.+?)"', section)
    assert {f"/monai_bundle/{name}" for name in COPIED} <= set(taken)
    assert "/monai_bundle" not in taken
    assert [name for name in taken if not name.startswith("/")] == []  # else it means a file of that name anywhere
    assert [name for name in taken if not (ROOT / name[1:]).exists()] == []
