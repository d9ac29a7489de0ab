"""What is surveyed in one go: the folders and files directly below a root, or the entries of a list.

Work begins after the first of them, and memory holds a few at a time, however many there are.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import NoImageFoundError, UnreadableFileError, UsageError
from ..inputs.dicom_file import is_dicom
from ..inputs.own_results import result_names
from .keys import place_hash

LIST_SUFFIXES = (".json", ".csv")
PATH_COLUMNS = ("image", "path", "study", "file")


@dataclass(frozen=True)
class Unit:
    """A folder, an archive or a file to look into.

    Parameters
    ----------
    path : Path
    place : str
        Hash of the path relative to the root; what the ledger knows it by.
    series_uid : str
        Only this series, if not empty.
    is_link_outside : bool
        A symbolic link that is broken or leaves the root: to be refused, as within a study.
    """

    path: Path
    place: str
    series_uid: str = ""
    is_link_outside: bool = False

    def __repr__(self) -> str:  # a path may hold a name, and a traceback may end up in a log
        return f"Unit({self.place})"


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of the work: part ``index`` (from 1) of ``count``.

    Raises
    ------
    UsageError
        If the index is not from 1 to the count.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(f"option --shard: found {self.index}/{self.count}, expected i/n with i from 1 to n.")

    def holds(self, place: str) -> bool:
        """Say whether a unit belongs to this part; the same on every machine."""
        return int(place[:8], 16) % self.count == self.index - 1


def list_units(root: Path, *, depth: int = 1, shard: Shard | None = None, out: Path | None = None) -> Iterator[Unit]:
    """List what to survey, in a stable order.

    Parameters
    ----------
    root : Path
        A folder, a single image or archive, a datalist (``.json``) or a table (``.csv``).
    depth : int
        Units are this many levels below the root.
    shard : Shard, optional
        Only its part.
    out : Path, optional
        The output folder; left out where it lies below the root.

    Yields
    ------
    Unit

    Raises
    ------
    NoImageFoundError
        If the root does not exist.
    UnreadableFileError
        If the root or a list cannot be read.
    """
    if why := _why_absent(root):
        raise NoImageFoundError(f"{root}: {why}, expected a folder or a list.", hint="Check the path.")
    if root.name.upper() == "DICOMDIR" and root.is_file():
        units = iter([Unit(root.parent, place_hash("."))])
    elif root.is_dir():
        units = _of_folder(root, root, depth, _out_below(root, out))
    elif root.suffix.lower() in LIST_SUFFIXES:
        units = iter(_of_list(root))
    else:
        units = iter([Unit(root, place_hash(root.name))])
    return (unit for unit in units if shard is None or shard.holds(unit.place))


def signature(path: Path, out: Path | None = None) -> tuple[str, int]:
    """Describe the present state of a unit without reading it.

    Parameters
    ----------
    path : Path
        Of the unit.
    out : Path, optional
        The output folder; where it lies in the unit, it is no part of its state.

    Returns
    -------
    tuple
        Hash over names, sizes, times and permissions of all its files; number of files.
    """
    digest, count = hashlib.sha256(), 0
    for name in _files_below(path, _out_below(path, out)):
        try:
            status = os.stat(name)
        except OSError:
            continue
        facts = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_mode}\n"
        digest.update(facts.encode(errors="surrogateescape"))
        count += 1
    return digest.hexdigest()[:32], count


def _out_below(root: Path, out: Path | None) -> Path | None:
    """Where a walk of the root meets the output folder; None if it does not."""
    if out is None:
        return None
    try:
        inner = out.resolve().relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links; not below the root
        return None
    return root / inner if inner.parts else None


def _files_below(path: Path, left_out: Path | None) -> Iterator[str]:
    if not path.is_dir():
        yield str(path)
        return
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and Path(folder, name) != left_out)
        for name in sorted(files):
            yield os.path.join(folder, name)


def _of_folder(folder: Path, root: Path, depth: int, left_out: Path | None) -> Iterator[Unit]:
    results = result_names(folder)
    try:
        with os.scandir(folder) as scan:
            entries = [entry for entry in scan if not entry.name.startswith(".") and entry.name not in results]
    except OSError as error:
        if folder == root:
            raise UnreadableFileError(
                f"{folder}: cannot be read: {error.strerror}.", hint="Check permissions."
            ) from error
        yield _unit(folder, root)  # its survey says what is wrong
        return
    entries = sorted((entry for entry in entries if Path(entry.path) != left_out), key=lambda entry: entry.name)
    links = {entry.name for entry in entries if entry.is_symlink() and not _is_within(entry.path, root)}
    files = [entry for entry in entries if _is_file(entry) and entry.name not in links]
    # A folder of loose slices is one study with all that is below it, and so is whatever a DICOMDIR describes.
    if any(entry.name.upper() == "DICOMDIR" or _is_loose_slice(entry) for entry in files):
        yield _unit(folder, root)
        return
    for entry in entries:
        if entry.name in links:
            if _is_one_study(entry.name) or not _is_file(entry):
                yield replace(_unit(Path(entry.path), root), is_link_outside=True)
        elif not entry.is_dir():
            if _is_one_study(entry.name):
                yield _unit(Path(entry.path), root)
        elif entry.is_symlink():
            continue  # what it points to is listed where it lies
        elif depth > 1:
            yield from _of_folder(Path(entry.path), root, depth - 1, left_out)
        else:
            yield _unit(Path(entry.path), root)


def _is_within(path: str, root: Path) -> bool:
    try:
        return Path(path).resolve(strict=True).is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself, for example
        return False


def _is_loose_slice(entry: os.DirEntry[str]) -> bool:
    if _is_one_study(entry.name):
        return False
    try:
        return is_dicom(Path(entry.path))
    except UnreadableFileError:  # what lies beside it decides
        return False


def _is_one_study(name: str) -> bool:
    return name.lower().endswith((".zip", ".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"))


def _unit(path: Path, root: Path) -> Unit:
    return Unit(path, place_hash(path.relative_to(root).as_posix()))


def _of_list(path: Path) -> list[Unit]:
    rows = _read_csv(path) if path.suffix.lower() == ".csv" else _read_datalist(path)
    units = {}
    for where, name, series in rows:
        place = path.parent / name
        why = _why_absent(place)
        if not name or why:
            found = f"names {name}, which {why}" if name else "names no file or folder"
            raise NoImageFoundError(f"{path}: {where} {found}.", hint="Paths start from the list's folder.")
        units[(name, series)] = Unit(place, place_hash(f"{name}\n{series}" if series else name), series)
    if not units:
        raise NoImageFoundError(f"{path}: no entry, expected at least one.", hint="Give one volume a line.")
    return list(units.values())


def _why_absent(path: Path) -> str:
    """Say why nothing can be read at a path; empty if something is there."""
    try:
        return "" if path.exists() else "does not exist"
    except OSError as error:  # a name that is too long, for example
        return f"cannot be opened ({error.strerror})"


def _read_csv(path: Path) -> list[tuple[str, str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            table = csv.DictReader(stream)
            column = next((name for name in PATH_COLUMNS if name in (table.fieldnames or ())), None)
            rows = [
                (f"line {table.line_num}", (row[column] or "").strip(), (row.get("series") or "").strip())
                for row in (table if column else ())
                if any(row.values())
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFileError(f"{path}: cannot be read as CSV: {type(error).__name__}.") from error
    if column is None:
        raise UnreadableFileError(
            f"{path}: found no column {', '.join(PATH_COLUMNS)}, expected one of them in the first line.",
            hint="Write a line 'image' and below it one path a line; a column 'series' may hold series UIDs.",
        )
    return rows


def _read_datalist(path: Path) -> list[tuple[str, str, str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        return [
            (f"entry {number} of {section}", item if isinstance(item, str) else str(item["image"]), "")
            for section, items in content.items()
            if isinstance(items, list)
            for number, item in enumerate(items, start=1)
        ]
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UnreadableFileError(
            f"{path}: no datalist ({type(error).__name__}).",
            hint="Expected {'test': [{'image': PATH}, ...]} with any section names.",
        ) from error
