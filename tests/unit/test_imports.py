"""Who may import whom: the table of the architecture, checked against every module."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "lightunet_monai"

VALUE_TYPES = {"labels", "options", "sources", "segmentation"}
BASE = {"errors", "lazy", "weights", *VALUE_TYPES}
ALLOWED = {
    "errors": set(),
    "lazy": set(),
    "weights": {"errors"},
    "labels": {"errors"},
    "options": {"errors"},
    "sources": {"errors"},
    "segmentation": {"errors", "labels", "sources"},
    "networks": set(),
    "inputs": BASE,
    "transforms": {*BASE, "inputs"},
    "inference": BASE,
    "outputs": BASE,
    "inferers": {"errors"},
    "training": {"errors", "labels", "weights"},
    "simulation": BASE,
    "evaluation": BASE,
    "review": BASE,
    "batch": {*BASE, "inputs", "inference", "outputs", "review"},
    "pacs": {*BASE, "inputs", "inference", "outputs", "review"},
}
EVERYTHING = {"cli", "__init__", "__main__"}
TORCH_ONLY = {"networks": {"torch", "math", "dataclasses", "collections", "copy", "__future__", "typing"}}


def _room(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def _own_imports(path: Path) -> set[str]:
    package = ("lightunet_monai", *path.relative_to(PACKAGE).parent.parts)
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            names = [".".join((*module, alias.name)) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {parts[1] for name in names if (parts := name.split("."))[0] == "lightunet_monai" and len(parts) > 1}
    return rooms - {"__version__"}


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "monai_bundle" not in path.parts)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up_the_table_only(path):
    room = _room(path)
    if room in EVERYTHING:
        return
    assert room in ALLOWED, f"{room} is a new room: add it to the table"
    forbidden = _own_imports(path) - ALLOWED[room] - {room}
    assert not forbidden, f"{path.relative_to(PACKAGE)} imports {sorted(forbidden)}"


@pytest.mark.parametrize("path", [p for p in MODULES if _room(p) in TORCH_ONLY], ids=lambda path: path.name)
def test_networks_know_torch_and_nothing_else(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    assert found <= TORCH_ONLY[_room(path)]


def test_no_module_has_a_name_that_says_nothing():
    assert not {path.stem for path in MODULES} & {"utils", "helpers", "common", "misc", "manager"}
