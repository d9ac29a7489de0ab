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

UID = re.compile(r"\b(?:[0-2](?:\.[0-9]+){3,}|2\.25\.[0-9]+)\b")
_PATH = re.compile(r"(?:(?<=[\s'\"(])|^)(?:/|[A-Za-z]:\\|\\\\)[^\s:'\",)]+")
_FILE_NAME = re.compile(r"[^\s/\\:'\",]+\.(?:dcm|nii\.gz|nii|nrrd|nhdr|mha|mhd|zip|ima)\b", re.IGNORECASE)

FILE, SERIES = "<file>", "<series>"


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """Take paths, file names, UIDs and known identifiers out of a message.

    Parameters
    ----------
    text : str
    secrets : iterable of str
        Strings that must not remain, such as the paths and UIDs of the source.

    Returns
    -------
    str
    """
    for secret in sorted({item for item in secrets if len(item) > 1}, key=len, reverse=True):
        text = text.replace(secret, FILE if "/" in secret or "\\" in secret else SERIES)
    text = UID.sub(SERIES, text)
    return _FILE_NAME.sub(FILE, _PATH.sub(FILE, text))


def secrets_of(source: ImageSource) -> set[str]:
    """Strings of a source that a message may quote and that may tell who the patient is."""
    if not isinstance(source, DicomSeries):
        return {str(source.path), str(source.path.parent), source.path.name, source.name}
    found = {source.series_uid, source.study_uid, source.selector}
    for item in source.slices:
        found |= {str(item), str(item.path), item.path.name, str(item.path.parent), item.sop_instance_uid}
        found |= {item.member} if item.member else set()
    return found


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
