"""A quick start for commands that only run the model."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

UNUSED = (
    "ignite",
    "mlflow",
    "tensorboard",
    "tensorboardX",
    "matplotlib",
    "itk",
    "pandas",
    "skimage",
    "scipy.signal",
    "requests",
    "polygraphy",
    "tensorrt",
    "onnx",
    "onnxruntime",
)
"""What MONAI imports where it is installed, and segmenting does not use: training, tracking, drawing, other readers."""

PACKAGES = ("monai.apps", "monai.bundle", "monai.inferers")
"""What opening a bundle needs. ``monai.apps`` comes first: MONAI's circular imports only resolve in that order."""


REST = ("networks.blocks", "networks.nets", "losses", "metrics", "engines", "handlers", "optimizers", "visualize")
"""What else a configuration may name by a short name."""


def quicken_monai() -> None:
    """Let the first ``import monai`` of this process load only what segmenting needs.

    ``import monai`` runs every module of MONAI, twice, and with them training, tracking and plotting packages: most of
    the time that ``lightunet segment`` takes to start. After this call it imports the packages that a bundle
    needs, and each other one when its name is first used. Nothing happens where MONAI is imported already.

    Only for a process that segments and does nothing else: MONAI then believes that ignite is not installed.
    """
    if "monai" not in sys.modules:
        sys.meta_path.insert(0, _QuickFinder())


def import_rest_of_monai() -> bool:
    """Load the packages that a quick start left out, so that MONAI finds their classes by short names.

    Returns
    -------
    bool
        False where nothing was left out.
    """
    monai = sys.modules.get("monai")
    if getattr(monai, "__getattr__", None) is not _import_when_used:
        return False
    for name in REST:
        importlib.import_module(f"monai.{name}")
    return True


@contextmanager
def hidden_modules(*names: str) -> Iterator[None]:
    """Make modules, and all below them, look as if they were not installed, unless they are imported already."""
    hider = _Hider(names)
    sys.meta_path.insert(0, hider)
    try:
        yield
    finally:
        sys.meta_path.remove(hider)


class _Hider:
    """A finder that knows nothing and stops the search for some modules."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if any(fullname == name or fullname.startswith(f"{name}.") for name in self.names):
            raise ModuleNotFoundError(f"{fullname} is hidden", name=fullname)


class _QuickFinder:
    """Finds MONAI once, as Python would, and gives it another loader."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != "monai":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _QuickLoader(spec.loader)
        return spec


class _QuickLoader(Loader):
    """Runs MONAI's ``__init__`` without the walk through all modules."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self.loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        walk = pkgutil.walk_packages
        pkgutil.walk_packages = _walk_nothing  # type: ignore[assignment]
        try:
            with hidden_modules(*UNUSED):
                self.loader.exec_module(module)
                importlib.import_module("monai.utils.module").walk_packages = walk  # type: ignore[attr-defined]
                for name in PACKAGES:
                    importlib.import_module(name)
        finally:
            pkgutil.walk_packages = walk
        module.__getattr__ = _import_when_used  # type: ignore[method-assign]


def _walk_nothing(*_: Any, **__: Any) -> tuple[()]:
    return ()


def _import_when_used(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        return importlib.import_module(f"monai.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(f"module 'monai' has no attribute {name!r}") from error
