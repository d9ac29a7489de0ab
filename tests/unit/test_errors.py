"""What every refusal of a study tells: what to do next, too."""

import ast
import pickle
from pathlib import Path

import pytest

from lightunet_monai import errors, inputs

INPUTS = Path(inputs.__file__).parent
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.InputError)}


def refusals(path):
    """Calls that make an error of what the user handed in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
            yield node


@pytest.mark.parametrize("path", sorted(INPUTS.glob("*.py")), ids=lambda path: path.name)
def test_every_refusal_of_a_study_says_what_to_do(path):
    silent = [
        f"{path.name}:{node.lineno}"
        for node in refusals(path)
        if not getattr(errors, node.func.id).default_hint and "hint" not in {word.arg for word in node.keywords}
    ]
    assert not silent


def test_a_damaged_file_has_a_hint_of_its_own_which_another_replaces():
    assert str(errors.UnreadableFileError("x.dcm: damaged.")) == "x.dcm: damaged. (Copy or export the file again.)"
    error = pickle.loads(pickle.dumps(errors.UnreadableFileError("x.dcm: changed.", hint="Run again.")))
    assert (error.message, error.hint, error.reason) == ("x.dcm: changed.", "Run again.", "unreadable")
