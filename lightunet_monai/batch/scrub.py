"""Texts without paths, UIDs or names, for logs, summaries and reports that many people read.

Messages of this package name the file or the series, and a path may hold a patient's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..sources import DicomSeries, ImageSource

if TYPE_CHECKING:
    from ..outputs import CaseReport

UID = re.compile(r"(?<![0-9.])(?:[0-2](?:\.[0-9]+){3,}|2\.25\.[0-9]+)(?![0-9])")
_DICOM_ROOT = "1.2.840.10008."

FILE, SERIES = "<file>", "<series>"

_SUFFIX = r"\.(?:dcm|nii\.gz|nii|nrrd|nhdr|mha|mhd|raw|zip|ima|csv|json)\b"
_ROOT = rf"(?:/|~/|\\\\|[A-Za-z]:[\\/]|{FILE}[\\/!])"
_QUOTED_PATH = re.compile(rf"(['\"]){_ROOT}.*?\1")
# Folders are often named after a patient, with spaces and commas: a path goes on to its last separator before ": ",
# and from there to a known suffix or the next mark.
_PATH = re.compile(
    rf"(?:(?<=[\s'\"(=,;])|^|(?={FILE})){_ROOT}(?:(?:(?!: )[^\n])*[\\/])?"
    rf"(?:[^\n'\":,;()]*?{_SUFFIX}|[^\n'\":,;()]*)",
    re.IGNORECASE | re.MULTILINE,
)
_FILE_NAME = re.compile(rf"[^\s:'\",]+{_SUFFIX}", re.IGNORECASE)
_PLACEHOLDER = f"{FILE}|{SERIES}"
_NUMBER = re.compile(r"[0-9.]+")
_SLICE_NUMBER = re.compile(r"[0-9]{1,6}")
"""A file name that counts the slices of a series; a longer number may be that of a patient."""


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """Take paths, file names, UIDs and known identifiers out of a message.

    Parameters
    ----------
    text : str
    secrets : iterable of str
        Strings that must not remain, such as the paths and UIDs of the source: a path wherever it stands, any other
        one where no letter or digit touches it, and no decimal if it is a number itself.

    Returns
    -------
    str
    """
    # As they are, and as Python quotes them in messages of the system.
    known = {form for item in secrets if len(item) > 1 for form in (item, repr(item)[1:-1])}
    paths = sorted(filter(_is_path, known), key=len, reverse=True)
    names = sorted(known.difference(paths), key=len, reverse=True)
    named = re.compile("|".join((_PLACEHOLDER, *map(_name_pattern, names))))
    if paths:
        text = re.sub("|".join(map(re.escape, paths)), FILE, text)
    text = named.sub(_as_placeholder, text)
    for pattern in (_QUOTED_PATH, _PATH, _FILE_NAME):
        text = pattern.sub(FILE, text)
    # Names that the standard gives to its own objects and encodings tell nothing about anybody.
    text = UID.sub(lambda found: found[0] if found[0].startswith(_DICOM_ROOT) else SERIES, text)
    return named.sub(_as_placeholder, text)  # what a path or a UID touched stands alone now


def _as_placeholder(found: re.Match[str]) -> str:
    return found[0] if found[0] in (FILE, SERIES) else SERIES


def _is_path(secret: str) -> bool:
    return "/" in secret or "\\" in secret


def _name_pattern(name: str) -> str:
    """Match a name, but not within a word or a number: a slice may be called ``29``."""
    before, after = (r"(?<![^\W_])" if name[0].isalnum() else ""), (r"(?![^\W_])" if name[-1].isalnum() else "")
    if _NUMBER.fullmatch(name):
        before, after = rf"{before}(?<![0-9]\.)", rf"{after}(?!\.[0-9])"
    return f"{before}{re.escape(name)}{after}"


def secrets_of(source: ImageSource) -> set[str]:
    """Strings of a source that a message may quote and that may tell who the patient is."""
    if not isinstance(source, DicomSeries):
        return {str(source.path), str(source.path.parent), source.path.name, source.name}
    found = {source.series_uid, source.study_uid, source.selector, source.name}
    for item in source.slices:
        found |= {str(item), str(item.path), item.path.name, item.sop_instance_uid}
        found |= {item.member} if item.member else set()
    names = {item.member or item.path.name for item in source.slices}
    if len(names) > 1:  # the only file of a series may be called after its patient
        found -= {name for name in names if _SLICE_NUMBER.fullmatch(name)}
    return found | {str(item.path.parent) for item in source.slices}


def redact_report(report: CaseReport, source: ImageSource, key: str) -> CaseReport:
    """Give a case report that names the case by its key, not by a path; the UIDs stay.

    Parameters
    ----------
    report : CaseReport
    source : ImageSource
    key : str
        Of the case.

    Returns
    -------
    CaseReport
    """
    secrets = secrets_of(source)
    warnings = tuple(scrub(text, secrets) for text in report.warnings)
    return replace(report, source={**report.source, "name": key, "path": ""}, warnings=warnings)
