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
    "scipy.sparse",
    "requests",
    "jsonschema",
    "polygraphy",
    "tensorrt",
    "onnx",
    "onnxruntime",
)
"""What MONAI imports where it is installed, and segmenting does not use: training, tracking, drawing, other readers."""

LATER = ("scipy.ndimage", "pydicom")
"""What MONAI and NiBabel import and few bundles make them use: loaded when it is first used."""

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


@contextmanager
def deferred_modules(*names: str) -> Iterator[None]:
    """Give, in place of modules that are not imported yet, ones that import the real one when it is used."""
    stand_ins = {name: _StandIn(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


class _StandIn(ModuleType):
    """A module that is not loaded yet."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__file__ = __file__  # MONAI takes a module without one for an empty folder

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Later(self.__name__, name)


class _Later:
    """A function, class or module of a module that is not loaded yet."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _load(self) -> Any:
        if isinstance(sys.modules.get(self._module), _StandIn):
            del sys.modules[self._module]
        return getattr(importlib.import_module(self._module), self._name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by those who only want to know what it is
            raise AttributeError(name)
        return getattr(self._load(), name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._load()(*arguments, **options)

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, self._load())


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
            with hidden_modules(*UNUSED), deferred_modules(*LATER):
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
