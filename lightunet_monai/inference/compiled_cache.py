"""Compiled models on disk, so that only the first run compiles.

A file is named by everything that went into it (weights, structure, the code of the network and of what exports it,
engine and its version, precision, processor) and holds its own checksum. Files are written beside their target and
renamed: processes that start together may both compile, but none ever reads half a file. The folder is the user's, and
may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from torch import nn

KEPT_FILES = 16
"""Compiled models that are kept, about 17 MB each; the ones unused for longest go first."""

CHECKSUM_BYTES = 32

EXPORTING = tuple(
    str(Path(__file__).with_name(name)) for name in ("engine.py", "int8.py", "onnx_engines.py", "openvino_engine.py")
)
"""What turns a network into what is kept."""

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Give the folder of compiled models, where the platform keeps caches; it may not exist yet.

    Raises
    ------
    OSError
        If the user has no home folder: then nothing is kept.
    """
    try:
        return _caches_of_user() / "lightunet_monai" / "compiled"
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error


def _caches_of_user() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
        return Path(base) if base else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base) if base else Path.home() / ".cache"


def network_key(network: nn.Module, parts: Iterable[str]) -> str:
    """Name a compiled model.

    Parameters
    ----------
    network : Module
        Its structure and all its weights count, and the files that its classes come from.
    parts : iterable of str
        What else counts: engine, version, precision, processor.

    Returns
    -------
    str
        40 hexadecimal digits.
    """
    digest = hashlib.sha256("\n".join([repr(network), *parts]).encode())
    for path in (*EXPORTING, *_files_of(network)):
        digest.update(_content_hash(path))
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:40]


def _files_of(network: nn.Module) -> list[str]:
    """Where the classes of a network and of its layers are defined, those of PyTorch aside: its version counts."""
    classes = {kind for module in network.modules() for kind in type(module).__mro__}
    names = {kind.__module__ for kind in classes if kind.__module__.partition(".")[0] not in ("torch", "builtins")}
    files = (getattr(sys.modules.get(name), "__file__", None) for name in names)
    return sorted(str(file) for file in files if file)


@lru_cache
def _content_hash(path: str) -> bytes:
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:  # frozen into an application
        return b""


def read_compiled(key: str) -> bytes | None:
    """Read a compiled model; None where there is none or it is damaged."""
    try:
        path = cache_folder() / key
        content = path.read_bytes()
    except OSError:
        return None
    with contextlib.suppress(OSError):  # a file of another user, or of a read-only disk, may be read all the same
        os.utime(path)  # what is used stays
    body = content[CHECKSUM_BYTES:]
    if hashlib.sha256(body).digest() != content[:CHECKSUM_BYTES]:
        _log.warning("%s is damaged and will be made anew", path)
        return None
    return body


def write_compiled(key: str, body: bytes) -> None:
    """Keep a compiled model. A folder that cannot be written costs time at the next start, not the result."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, part = tempfile.mkstemp(dir=folder, prefix=f".{key[:8]}", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(body).digest())
                file.write(body)
            os.replace(part, folder / key)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
        _remove_oldest(folder)
    except OSError as error:
        _log.info("compiled model not kept: %s", error)


def _remove_oldest(folder: Path) -> None:
    ages = []
    for path in folder.iterdir():
        try:
            ages.append((path.stat().st_mtime, path))
        except FileNotFoundError:  # another process was quicker
            continue
    for _, path in sorted(ages, reverse=True)[KEPT_FILES:]:
        path.unlink(missing_ok=True)
