"""All or nothing: a file or a folder of files appears complete, or not at all.

Everything is written beside its target under a hidden name, flushed to the disk and then renamed. A run that is
killed leaves a hidden leftover, never a half-written result under the final name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lightunet_monai.errors import OutputError
from lightunet_monai.outputs.folder_lock import locked_folder

COMMIT_MARKER = "report.json"
"""Moved in last and moved out first: a folder that holds it holds a complete case."""

_CANNOT_SYNC_FOLDER = frozenset(
    getattr(errno, name) for name in ("EINVAL", "EBADF", "ENOTSUP", "EOPNOTSUPP", "EACCES", "EPERM", "ENOSYS")
)
"""What systems say that have no flush of a folder, or not for us: some network (SMB) and shared (vboxsf) folders."""


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary sibling to write to; rename it to `path` when the block ends without an error.

    Parameters
    ----------
    path : Path
        The final file. Its folder is created if it is missing; a file of that name is replaced.

    Yields
    ------
    Path
        A hidden name in the same folder that ends like `path`, because libraries choose formats by extension.

    Raises
    ------
    OutputError
        If the folder or the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(f".{uuid.uuid4().hex[:12]}.part.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        sync_file(part)
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(
    folder: Path, replaceable: Sequence[str], *, refuse: Callable[[], None] | None = None
) -> Iterator[Path]:
    """Give a temporary folder to fill; move its files into `folder` when the block ends without an error.

    A new folder appears by one rename. In a folder that is there already, files named in `replaceable` are set aside,
    the new ones are moved in with `COMMIT_MARKER` last, and if that fails the old ones come back. Other files in the
    folder stay untouched.

    Parameters
    ----------
    folder : Path
        The final folder.
    replaceable : sequence of str
        File names of an earlier result, which the new one replaces or removes.
    refuse : callable or None
        Called right before the moves; raises if what `folder` holds by then must stay. None replaces it.

    Yields
    ------
    Path
        The temporary folder, on the same file system.

    Raises
    ------
    OutputError
        If a folder or a file cannot be written.
    """
    folder = Path(folder)
    # A folder that is there may be a mount point or a link: only what lies in it is on its file system for sure.
    with as_output_error(folder):
        is_new = not folder.exists()
    room = (folder.parent if is_new else folder) / f".{uuid.uuid4().hex[:12]}.part"
    try:
        (room / "new").mkdir(parents=True)
        yield room / "new"
        for item in sorted((room / "new").iterdir()):
            sync_file(item)
        sync_folder(room / "new")
        is_new = is_new and (not folder.exists() or not any(folder.iterdir()))
        # Two runs that exchange files at once would leave files of both.
        with contextlib.nullcontext() if is_new else locked_folder(folder, wait=True):
            if refuse is not None:  # what was not there at the start may be another run's result by now
                refuse()
            if is_new:
                _move_folder(room / "new", folder, refuse)
            else:
                _exchange_files(room / "new", folder, room / "old", replaceable)
        sync_folder(folder)
        if is_new:
            sync_folder(folder.parent)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    except OutputError as error:
        if str(room) not in error.message:
            raise
        message = error.message.replace(str(room / "new"), str(folder))
        raise OutputError(message, hint=error.hint, reason=error.reason) from error
    finally:
        shutil.rmtree(room, ignore_errors=True)


def check_folder(folder: Path) -> None:
    """Check that files can be written to `folder`, by making and removing a hidden folder where it or they will be.

    Raises
    ------
    OutputError
        If they cannot, or if `folder` is a file.
    """
    folder = Path(folder)
    with as_output_error(folder):
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: is a file, expected a folder.", hint="Choose another output folder.")
        probe = (folder if folder.exists() else _nearest_existing(folder)) / f".{uuid.uuid4().hex[:12]}.part"
        probe.mkdir()
        probe.rmdir()


@contextlib.contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one of ours; asking for a name that is too long is one already.

    Raises
    ------
    OutputError
        If the block raises an OSError.
    """
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error


def sync_file(path: Path) -> None:
    """Flush the content of a file to the disk."""
    # Windows refuses fsync on a handle opened for reading only.
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk, where the system can (Windows cannot open a folder).

    Raises
    ------
    OSError
        If flushing fails, such as for a full or broken disk; not where there is no such thing.
    """
    if os.name == "nt":
        return
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDER:
            raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_folder(source: Path, target: Path, refuse: Callable[[], None] | None) -> None:
    try:
        if target.exists():
            target.rmdir()
        os.rename(source, target)
    except OSError:
        if refuse is not None:  # another run was faster
            refuse()
        raise


def _exchange_files(new: Path, folder: Path, old: Path, replaceable: Sequence[str]) -> None:
    old.mkdir()
    moved: list[tuple[Path, Path]] = []
    outgoing = _marker_first([name for name in replaceable if (folder / name).exists()])
    incoming = reversed(_marker_first([item.name for item in new.iterdir()]))
    try:
        for source, target in [
            *((folder / name, old / name) for name in outgoing),
            *((new / name, folder / name) for name in incoming),
        ]:
            os.rename(source, target)
            moved.append((source, target))
    except OSError:
        for source, target in reversed(moved):
            with contextlib.suppress(OSError):
                os.rename(target, source)
        raise


def _marker_first(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (name != COMMIT_MARKER, name))


def _nearest_existing(folder: Path) -> Path:
    for parent in folder.absolute().parents:
        if parent.exists():
            return parent
    return Path(folder.anchor or ".")


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot be written: {error.strerror or error}.",
        hint="Choose a folder that exists, is writable and has free space.",
        reason="not-writable",
    )
