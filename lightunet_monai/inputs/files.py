"""Which files are here: folders of any depth, single files, members of zip archives.

Paths come from the file system and from archive directories, never from DICOM values: a DICOMDIR is
not followed, its folder is walked instead. Symbolic links may point within the tree only.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..errors import InputError, NoImageFoundError, UnreadableFileError, UnsupportedImageError
from .kinds import SetAside
from .limits import (
    MAX_ARCHIVE_BYTES,
    MAX_ARCHIVE_RATIO,
    MAX_FILES,
    MAX_MEMBER_BYTES,
    RATIO_MATTERS_BYTES,
)
from .own_results import result_names

READ_ERRORS = (OSError, EOFError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What opening and reading a file or an archive member may raise, as damaged as it may be."""

RIGHTS_HINT = "Give yourself the right to read it."
IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
_NOT_IMAGES = (".seg.nrrd", ".seg.nhdr")
_SIDE_FILES = (".json", ".txt", ".csv", ".xml", ".html", ".pdf", ".png", ".jpg", ".jpeg", ".py", ".md", ".log")
FOLDER_REASON = "folder-unreadable"
ARCHIVE_REASON = "archive"
"""What the reason of each refusal of an archive begins with."""

_PACKED = "image file or archive within an archive, to be unpacked first"
_SLICE_SUFFIXES = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class Candidate:
    """A file, or a member of a zip archive, that may be a DICOM instance."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """Without its folder."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    def __str__(self) -> str:
        return f"{self.path}!{self.member}" if self.member else str(self.path)


@dataclass
class FoundFiles:
    """What a walk found.

    Parameters
    ----------
    candidates : list of Candidate
        May be DICOM; in a stable order.
    images : list of Path
        NIfTI, NRRD and MetaImage files, by their names.
    set_aside : list of SetAside
        What was not opened, and why.
    errors : list of InputError
        Refused archives, and folders that cannot be opened (reason `FOLDER_REASON`).
    lost : list of Path
        Files that are listed and cannot be found: broken links.
    """

    candidates: list[Candidate]
    images: list[Path]
    set_aside: list[SetAside]
    errors: list[InputError]
    lost: list[Path] = field(default_factory=list)


def find_files(path: Path) -> FoundFiles:
    """List what may be an image at a path.

    Parameters
    ----------
    path : Path
        A folder, a file, a zip archive or a DICOMDIR.

    Returns
    -------
    FoundFiles

    Raises
    ------
    NoImageFoundError
        If the path does not exist.
    UnreadableFileError
        If it is an archive that is refused.
    """
    found = FoundFiles([], [], [], [])
    try:
        root = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else "a symbolic link that leads to itself"
        raise NoImageFoundError(f"{path}: cannot be opened: {why}.", hint="Check the path.") from None
    if root.is_dir():
        _add_folder(root, path, found)
    elif path.name.upper() == "DICOMDIR":
        _add_folder(root.parent, path.parent, found)
    elif stat.S_ISREG(root.stat().st_mode):
        _add_file(path, found)
    else:
        raise NoImageFoundError(f"{path}: is neither a file nor a folder.", hint="Check the path.")
    return found


def may_be_a_slice(name: str, suffixes: Container[str]) -> bool:
    """Whether a file in which nothing can be read was a slice, by its name.

    Parameters
    ----------
    name : str
        Without its folder.
    suffixes : container of str
        `slice_suffix` of the DICOM files that were found.
    """
    suffix = slice_suffix(name)
    if name.startswith(".") or name.lower().endswith(_SIDE_FILES):
        return False
    # Slices are numbered; DONE, LOCKFILE, README and Thumbs.db are not.
    return suffix in _SLICE_SUFFIXES or (suffix in suffixes and any(letter.isdigit() for letter in name))


def slice_suffix(name: str) -> str:
    """The suffix of a file's name in lower case; empty where it is a number, as in a UID."""
    suffix = PurePosixPath(name).suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def has_image_suffix(path: Path) -> bool:
    """A NIfTI, NRRD or MetaImage file by its name."""
    return path.name.lower().endswith(IMAGE_SUFFIXES)


def _add_folder(root: Path, shown: Path, found: FoundFiles) -> None:
    seen: set[tuple[int, int]] = set()
    for path, entry in _walk(root, shown, found):
        try:
            status = entry.stat()
        except OSError:
            found.lost.append(path)
            continue
        if entry.is_symlink() and not _is_within(path, root):
            found.set_aside.append(SetAside(str(path), 1, "link-outside", "symbolic link that leaves the folder"))
            continue
        if not stat.S_ISREG(status.st_mode):
            if not stat.S_ISDIR(status.st_mode):
                found.set_aside.append(SetAside(str(path), 1, "special-file", "neither a file nor a folder"))
            continue
        if (identity := (status.st_dev, status.st_ino)) in seen and status.st_ino:
            continue
        seen.add(identity)
        if len(seen) > MAX_FILES:
            raise UnsupportedImageError(
                f"{shown}: more than {MAX_FILES} files, expected a study.", hint="Give the folder of one study."
            )
        if path.name.startswith(".") and has_image_suffix(path):
            # Of macOS, beside each file on a foreign disk, or of a writer that was killed.
            found.set_aside.append(SetAside(str(path), 1, "hidden", "a hidden file"))
            continue
        _add_file(path, found)
    _set_results_aside(found)


def _set_results_aside(found: FoundFiles) -> None:
    """Results may lie in the study that they were made from; one that is named by itself is read."""
    names = {folder: result_names(folder) for folder in {path.parent for path in found.images}}
    results = [path for path in found.images if path.name in names[path.parent]]
    found.images = [path for path in found.images if path.name not in names[path.parent]]
    found.set_aside += [
        SetAside(str(path), 1, "result", "a result of an earlier run, no CT volume") for path in results
    ]


def _walk(root: Path, shown: Path, found: FoundFiles) -> Iterator[tuple[Path, os.DirEntry[str]]]:
    """Every entry below a folder but hidden folders; linked folders are not entered."""
    folders = [(root, shown)]
    while folders:
        folder, name = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            found.errors.append(_folder_error(name, error))
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    folders.append((folder / entry.name, name / entry.name))
            else:
                yield name / entry.name, entry


def _folder_error(path: Path, error: OSError) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path}: the folder cannot be opened: {type(error).__name__}.",
        hint=RIGHTS_HINT,
        reason=FOLDER_REASON,
    )


def _is_within(path: Path, root: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def _add_file(path: Path, found: FoundFiles) -> None:
    name = path.name.lower()
    if name.endswith(_NOT_IMAGES):
        found.set_aside.append(SetAside(str(path), 1, "segmentation", "a segmentation, no volume"))
    elif name.endswith(IMAGE_SUFFIXES):
        found.images.append(path)
    elif name.endswith(_SIDE_FILES):
        found.set_aside.append(SetAside(str(path), 1, "not-dicom", "not a DICOM file"))
    elif _is_zip(path):
        try:
            found.candidates += _members(path, found.set_aside)
        except UnreadableFileError as error:
            found.errors.append(error)
            found.set_aside.append(SetAside(str(path), 1, error.reason, error.message))
    else:
        found.candidates.append(Candidate(path))


def _is_zip(path: Path) -> bool:
    """By the first bytes: a DICOM file with an archive hidden at its end is a DICOM file."""
    try:
        with path.open("rb", buffering=0) as stream:
            return stream.read(4) in (b"PK\3\4", b"PK\5\6")
    except OSError:
        return False


def _members(path: Path, set_aside: list[SetAside]) -> list[Candidate]:
    """The members of an archive that may be DICOM, after the whole directory was checked."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UnreadableFileError(f"{path}: damaged zip archive: {error}.", reason="archive") from None
    _check_members(path, members)
    candidates = []
    for member in members:
        name = member.filename.lower()
        if member.is_dir() or PurePosixPath(member.filename).name.startswith("._"):
            continue
        if name.endswith((".zip", *IMAGE_SUFFIXES)):
            set_aside.append(SetAside(f"{path}!{member.filename}", 1, "packed", _PACKED))
        elif not name.endswith(_SIDE_FILES):
            candidates.append(Candidate(path, member.filename))
    return candidates


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    def refuse(
        text: str, reason: str = "archive", hint: str = "The archive may be hostile; it was not unpacked."
    ) -> None:
        raise UnreadableFileError(f"{path}: {text}.", hint=hint, reason=reason)

    names = [member.filename for member in members if not member.is_dir()]
    if twice := len(names) - len(set(names)):  # only the last one of a name could be read
        hint = "Pack it again, each series in a folder of its own."
        refuse(f"{twice} archive members have the name of another one", "archive-names", hint)
    for member in members:
        name = member.orig_filename.replace("\\", "/")
        windows = PureWindowsPath(name)
        if name.startswith("/") or windows.drive or windows.root or ".." in PurePosixPath(name).parts or "\0" in name:
            refuse("an archive member leaves the archive", "archive-member-outside")
        if stat.S_ISLNK(member.external_attr >> 16):
            refuse("an archive member is a symbolic link", "archive-link")
        if member.flag_bits & 1:
            hint = "Unpack it with its password, and give the folder."
            refuse("an archive member is encrypted", "archive-encrypted", hint)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            hint = "Unpack it, and give the folder."
            refuse(f"an archive member is packed by method {member.compress_type}, expected deflate", hint=hint)
        if member.file_size > MAX_MEMBER_BYTES:
            refuse(f"an archive member unpacks to {member.file_size} bytes, expected at most {MAX_MEMBER_BYTES}")
    if len(members) > MAX_FILES:
        refuse(f"{len(members)} members, expected at most {MAX_FILES}")
    unpacked, packed = sum(m.file_size for m in members), path.stat().st_size
    if unpacked > MAX_ARCHIVE_BYTES or (unpacked > RATIO_MATTERS_BYTES and unpacked > MAX_ARCHIVE_RATIO * packed):
        refuse(
            f"{packed} bytes unpack to {unpacked}, expected at most {MAX_ARCHIVE_RATIO} times as many "
            f"and {MAX_ARCHIVE_BYTES}",
            "archive-bomb",
        )
