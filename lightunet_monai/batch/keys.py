"""Names for cases and folders that say nothing about a patient, and are the same in every run.

A case is named by a hash of its series UID, volume key and content; a folder of the source by a hash of its path.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..sources import DicomSeries, DicomSlice, ImageSource

KEY_DIGITS = 24
"""96 bits: among a million cases two share a key with a probability below 1e-16."""

SAMPLE_BYTES = 4096
"""Read from the middle of each slice's pixels, so that an altered copy under the same UIDs is a new case."""


def case_key(source: ImageSource) -> str:
    """Give the name of a case.

    Parameters
    ----------
    source : ImageSource
        As `discover_sources` gives it.

    Returns
    -------
    str
        Hexadecimal. For a series it depends on the series UID, the volume key and, slice by slice, SOP Instance UID,
        frame, position, storage and a sample of the pixels; for a file on all its bytes. Paths play no part.
    """
    if not isinstance(source, DicomSeries):
        return _short(["file", _hash_file(source.path)])
    facts = [source.series_uid, source.volume_key, *map(_slice_facts, source.slices)]
    return _short(facts)


def series_hash(source: ImageSource) -> str:
    """Name the series of a source, whatever its content is now."""
    uid = source.series_uid if isinstance(source, DicomSeries) else str(source.path)
    key = source.volume_key if isinstance(source, DicomSeries) else ""
    return _short(["series", uid, key])


def place_hash(relative: str) -> str:
    """Name a folder or file of the source by its path relative to the root."""
    return _short(["place", relative])


def uid_hash(uid: str) -> str:
    """SHA-256 of a UID, hexadecimal."""
    return hashlib.sha256(uid.encode()).hexdigest()


def _short(facts: list[str]) -> str:
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:KEY_DIGITS]


def _slice_facts(item: DicomSlice) -> str:
    pixels = item.pixels
    if pixels is None:
        return f"{item.sop_instance_uid} {item.frame} {item.position}"
    storage = (pixels.transfer_syntax, pixels.rows, pixels.columns, pixels.bits_stored, pixels.length)
    rescale = (pixels.slope, pixels.intercept, pixels.is_signed, pixels.file_bytes)
    sample = _sample(item, pixels.offset + max(0, pixels.length) // 2) if item.frame in (None, 0) else ""
    return f"{item.sop_instance_uid} {item.frame} {item.position} {storage} {rescale} {sample}"


def _sample(item: DicomSlice, offset: int) -> str:
    if item.member is not None:  # an archive's own checksum covers its members, and its size is in the facts above
        return ""
    try:
        with item.path.open("rb") as stream:
            stream.seek(offset)
            return hashlib.sha256(stream.read(SAMPLE_BYTES)).hexdigest()
    except OSError:
        return "unreadable"


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError:
        return f"unreadable {path}"
    return digest.hexdigest()
