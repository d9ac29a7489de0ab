"""The half of the checks of Slicer's extension catalogue that needs no network.

Prints one line a check and gives the exit code 1 if one fails. The catalogue also clones the repository, looks whether
its images can be reached and whether the topic ``3d-slicer-extension`` is set, and builds the extension.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTENSION = ROOT / "slicer_extension"
ENTRY = EXTENSION / "LightUNetSegmentation.json"
MODULE = EXTENSION / "LightUNetSegmentation"

REQUIRED = {"$schema", "scm_url", "category"}
ALLOWED = REQUIRED | {"build_dependencies", "build_subdirectory", "enabled", "scm_revision", "scm_type", "tier"}
CATEGORIES = {"Segmentation", "Quantification", "Informatics", "Machine Learning", "Radiomics"}
LARGEST_BYTES = 100 * 1024 * 1024
LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING")
BUNDLED = {"slicer", "vtk", "qt", "ctk", "LightUNetSegmentationLib"}
"""What comes with Slicer, and the module's own library."""


def check_entry() -> str:
    """The catalogue entry has the fields of schema 1.0.1 and no others, with values that are taken."""
    entry = json.loads(ENTRY.read_text(encoding="utf-8"))
    if not set(entry) >= REQUIRED or not set(entry) <= ALLOWED:
        return f"fields {sorted(entry)}"
    if not re.search(r"schema-v1\.0\.[12]\.json#?$", entry["$schema"]):
        return entry["$schema"]
    if not re.fullmatch(r"(https|git)://\S+\.git", entry["scm_url"]):
        return entry["scm_url"]
    if entry["category"] not in CATEGORIES:
        return entry["category"]
    return "" if entry.get("tier") in (1, 3, 5) else f"tier {entry.get('tier')}"


def check_names() -> str:
    """The extension is not called Slicer..., its repository is, and the project has the name of the entry."""
    entry = json.loads(ENTRY.read_text(encoding="utf-8"))
    project = re.search(r"project\((\w+)", _root_cmake()).group(1)
    repository = entry["scm_url"].rsplit("/", 1)[1]
    if ENTRY.stem != project or project.lower().startswith("slicer"):
        return f"{ENTRY.stem}, {project}"
    return "" if repository.startswith("Slicer") else repository


def check_line_ends() -> str:
    """Text files have LF alone."""
    paths = [
        ENTRY,
        ROOT / "CMakeLists.txt",
        *(path for path in EXTENSION.rglob("*") if path.suffix in (".py", ".txt", ".ui")),
    ]
    return ", ".join(path.name for path in paths if b"\r" in path.read_bytes())


def check_licence() -> str:
    """A licence stands in the root."""
    return "" if any((ROOT / name).exists() for name in LICENCES) else "none found"


def check_metadata() -> str:
    """The root file has every field, and images that are in the repository."""
    text = _root_cmake()
    missing = [
        name
        for name in ("HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS")
        if not re.search(rf'set\(EXTENSION_{name} "[^"]+"\)', text)
    ]
    if missing:
        return f"missing {missing}"
    for name in ("ICONURL", "SCREENSHOTURLS"):
        for url in re.search(rf'EXTENSION_{name} "([^"]+)"', text).group(1).split():
            path = ROOT / url.split("/main/", 1)[-1]
            if not url.startswith("https://") or not path.is_file():
                return url
    depends = re.search(r'EXTENSION_DEPENDS "([^"]+)"', text).group(1).split()
    entry = json.loads(ENTRY.read_text(encoding="utf-8"))
    return "" if depends == entry["build_dependencies"] else f"{depends} and {entry['build_dependencies']}"


def check_size() -> str:
    """The clone that the catalogue takes, its files and its history together, stays below the limit of a checkout.

    It takes the newest commit alone (``--depth 1``) of an entry that names no revision, and all history else
    (``check_clone_repository`` in ``scripts/check_description_files.py`` of Slicer's ExtensionsIndex).
    """
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        return ""  # not a checkout
    paths = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    tracked = sum(path.stat().st_size for path in paths if path.is_file())
    # What a clone brings, and not what lies in this .git: that may hold objects twice, or left by earlier work.
    walk = [] if "scm_revision" in json.loads(ENTRY.read_text(encoding="utf-8")) else ["--no-walk"]
    command = ["git", "rev-list", "--objects", "--disk-usage", *walk, "HEAD"]
    stored = int(subprocess.check_output(command, cwd=ROOT))
    return "" if tracked + stored <= LARGEST_BYTES else f"{(tracked + stored) / 2**20:.0f} MB"


def check_file_scope() -> str:
    """At file scope nothing but Slicer and the standard library is imported, and nothing is run."""
    found = []
    for path in MODULE.rglob("*.py"):
        if "Testing" in path.parts:
            continue
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(statement, ast.Import):
                names = [one.name.split(".")[0] for one in statement.names]
            elif isinstance(statement, ast.ImportFrom) and statement.level == 0:
                names = [(statement.module or "").split(".")[0]]
            found += [
                f"{path.name} imports {name}" for name in names if name not in {*BUNDLED, *sys.stdlib_module_names}
            ]
            if isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant):
                found.append(f"{path.name}:{statement.lineno} runs code")
    return ", ".join(found)


def check_torch() -> str:
    """Torch is never installed by pip: it comes from the PyTorch extension."""
    text = (MODULE / "Resources" / "requirements.txt").read_text(encoding="utf-8")
    return "torch is a requirement" if re.search(r"(?m)^\s*torch", text) else ""


def check_documentation() -> str:
    """The guide has a tutorial, says where data come from, what is stored and how it is removed, and how to cite."""
    path = ROOT / "docs" / "slicer.md"
    text = path.read_text(encoding="utf-8").lower() if path.exists() else ""
    wanted = ("tutorial", "![", "sample", "licence", "cite", "removed", "network")
    return ", ".join(word for word in wanted if word not in text)


def _root_cmake() -> str:
    return (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


CHECKS = (
    check_entry,
    check_names,
    check_line_ends,
    check_licence,
    check_metadata,
    check_size,
    check_file_scope,
    check_torch,
    check_documentation,
)


def main() -> int:
    """Run all checks."""
    failed = 0
    for check in CHECKS:
        problem = check()
        failed += bool(problem)
        title = (check.__doc__ or "").splitlines()[0]
        print(f"{'failed' if problem else 'ok    '}  {title}{'  Found: ' + problem if problem else ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
