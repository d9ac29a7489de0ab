"""Names for cases and folders that say nothing about a patient, and are the same in every run.

A case is named by a hash of its series UID, volume key and content; a folder of the source by a hash of its path.
Paths are hashed from a root on: the same folder may be typed in many ways, and lie elsewhere tomorrow.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..outputs.file_hash import file_sha256
from ..sources import DicomSeries, DicomSlice, ImageSource, StoredPixels, folder_of

KEY_DIGITS = 24
"""96 bits: among a million cases two share a key with a probability below 1e-16."""

SAMPLE_BYTES = 4096
"""Read from the middle of each slice's pixels, so that an altered copy under the same UIDs is a new case."""

_HEADER_BYTES = 1 << 16
_DATA_FILE = re.compile(rb"^(?:data ?file:|ElementDataFile\s*=)\s*([^\r\n]+?)\s*$", re.IGNORECASE | re.MULTILINE)
"""Of NRRD and MetaImage, where the voxels lie in a second file beside the header."""


def case_key(source: ImageSource) -> str:
    """Give the name of a case.

    Parameters
    ----------
    source : ImageSource
        As `discover_sources` gives it.

    Returns
    -------
    str
        Hexadecimal. For a series it depends on the series UID, the volume key, the header of the first slice (which
        has patient, pixel spacing and orientation) and, slice by slice, SOP Instance UID, frame, position, storage and
        a sample of the pixels (in an archive, the member's checksum); for a file on all its bytes. Paths play no part.
    """
    if not isinstance(source, DicomSeries):
        return _short(["file", *map(_hash_file, _files_of(source.path))])
    checksum = _checksums()
    facts = [source.series_uid, source.volume_key, *map(_header, source.slices[:1])]
    return _short([*facts, *(_slice_facts(item, checksum) for item in source.slices)])


def series_hash(source: ImageSource, home: Path, place: str = "") -> str:
    """Name the series of a source, whatever its content is now.

    Parameters
    ----------
    source : ImageSource
    home : Path
        The folder, archive or file that it was found in, typed as for the search. A file, and a series without a UID,
        are named by their path from there.
    place : str
        Name of `home`, such as the place of a unit.

    Returns
    -------
    str
        Hexadecimal.
    """
    if not isinstance(source, DicomSeries):
        return _short(["file", place, os.path.relpath(source.path, home)])
    if source.series_uid or not source.slices:
        return _short(["series", source.series_uid, source.volume_key])
    first = source.slices[0]
    folder = folder_of(Path(os.path.relpath(first.path, home)), first.member)
    return _short(["series", source.study_uid, place, folder, source.volume_key])


def whole_series_hash(source: ImageSource, home: Path, place: str = "") -> str:
    """Name the series of a source without telling its volumes apart; that of its only volume is `series_hash`."""
    return series_hash(replace(source, volume_key="") if isinstance(source, DicomSeries) else source, home, place)


def former_series_hash(source: ImageSource) -> str:
    """Give what ledgers of earlier versions call a series without a UID: by its path as it is typed; else nothing."""
    if not isinstance(source, DicomSeries):
        return _short(["series", str(source.path), ""])
    if source.series_uid or not source.slices:
        return ""
    first = source.slices[0]
    return _short(["series", source.study_uid, folder_of(first.path, first.member), source.volume_key])


def place_hash(relative: str) -> str:
    """Name a folder or file of the source by its path relative to the root."""
    return _short(["place", relative])


def uid_hash(uid: str) -> str:
    """SHA-256 of a UID, hexadecimal."""
    return hashlib.sha256(uid.encode()).hexdigest()


def _short(facts: list[str]) -> str:
    # A file name need not be text.
    return hashlib.sha256("\n".join(facts).encode(errors="surrogateescape")).hexdigest()[:KEY_DIGITS]


def _header(item: DicomSlice) -> str:
    """Hash of all that stands before the pixels of an instance: what results take over from it, patient first.

    The bytes, and no affine computed from them: its last digits may be others on the next machine.
    """
    if item.pixels is None or item.member:  # the checksum of a member covers its header
        return ""
    # Of a deflated file, as many bytes hold the header and more.
    return _sample(item.path, 0, item.pixels.offset)


def _slice_facts(item: DicomSlice, checksum: Callable[[Path, str], str]) -> str:
    pixels = item.pixels
    if pixels is None:
        return f"{item.sop_instance_uid} {item.frame} {item.position}"
    storage = (pixels.transfer_syntax, pixels.rows, pixels.columns, pixels.bits_stored, pixels.length)
    rescale = (pixels.slope, pixels.intercept, pixels.is_signed, pixels.file_bytes)
    sample = (
        _sample(item.path, _middle(pixels, item.frame or 0)) if not item.member else checksum(item.path, item.member)
    )
    return f"{item.sop_instance_uid} {item.frame} {item.position} {storage} {rescale} {sample}"


def _middle(pixels: StoredPixels, frame: int) -> int:
    """Where the middle of a frame lies in the file; compressed frames are taken as equally long."""
    length = pixels.length if pixels.length > 0 else pixels.file_bytes - pixels.offset
    middle = pixels.offset + length * (2 * frame + 1) // (2 * pixels.frames)
    # A deflated file is shorter than its stream.
    return middle if middle < pixels.file_bytes else pixels.file_bytes // 2


def _checksums() -> Callable[[Path, str], str]:
    """Give a function that tells the checksum of an archive's member; it reads each archive's directory once."""
    known: dict[Path, dict[str, int]] = {}

    def checksum(path: Path, member: str) -> str:
        if path not in known:
            try:
                with zipfile.ZipFile(path) as archive:
                    known[path] = {item.filename: item.CRC for item in archive.infolist()}
            except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
                known[path] = {}
        return str(known[path].get(member, "unreadable"))

    return checksum


def _sample(path: Path, offset: int, length: int = SAMPLE_BYTES) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return hashlib.sha256(stream.read(length)).hexdigest()
    except OSError:
        return "unreadable"


def _files_of(path: Path) -> list[Path]:
    """Give an image file, and the file with its voxels if that is another one."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return [path]
    try:
        with path.open("rb") as stream:
            found = _DATA_FILE.search(stream.read(_HEADER_BYTES))
    except OSError:
        return [path]
    name = found[1].decode("latin-1") if found else ""
    is_beside = name not in ("", "LOCAL") and Path(name).name == name
    return [path, path.with_name(name)] if is_beside else [path]


def _hash_file(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:
        return f"unreadable {path}"
