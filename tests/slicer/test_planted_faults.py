"""The faults that ``scripts/slicer_mutations.py`` plants still fit the sources."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "slicer_mutations.py"


def planted():
    spec = importlib.util.spec_from_file_location("slicer_mutations", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MUTATIONS = planted()


@pytest.mark.parametrize("fault", MUTATIONS.FAULTS, ids=lambda fault: fault.title)
def test_the_text_that_a_fault_replaces_is_in_the_sources(fault):
    assert fault.old in (MUTATIONS.MODULE / fault.file).read_text(encoding="utf-8")
