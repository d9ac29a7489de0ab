"""What a survey found, as plain values for ``inspect`` and other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..sources import DicomSeries, ImageFile, ImageSource
from .choose import choose_series
from .discover import Survey, why_no_source
from .image_files import read_image_header


def describe_survey(survey: Survey, path: Path) -> dict[str, Any]:
    """Describe what was found, JSON values only; no patient data.

    Parameters
    ----------
    survey : Survey
    path : Path
        What was surveyed, for messages.

    Returns
    -------
    dict
        ``sources`` (see `describe_source`), ``set_aside`` (what, count, code, reason), and ``choice``: the
        selector of the source that would be taken without being asked, and else an error.
    """
    choice: dict[str, Any] = {"selector": None, "error": None}
    try:
        if not survey.sources:
            raise why_no_source(survey, path)
        chosen = choose_series(survey.sources)
        problem = describe_source(chosen)["problem"]
        choice = {"selector": None if problem else selector_of(chosen), "error": problem}
    except InputError as error:
        choice["error"] = describe_error(error)
    return {
        "sources": [describe_source(source) for source in survey.sources],
        "set_aside": [
            {"what": item.what, "count": item.count, "code": item.code, "reason": item.reason}
            for item in survey.set_aside
        ],
        "choice": choice,
    }


def describe_source(source: ImageSource) -> dict[str, Any]:
    """Describe one source, JSON values only.

    Returns
    -------
    dict
        ``kind`` (``"dicom"`` or ``"file"``), ``selector``, ``name``, ``path``, ``shape`` (columns, rows, slices),
        ``spacing`` (mm), ``affine``, ``modality``, ``description``, ``files``, ``warnings`` and ``problem``
        (None if it can be loaded).
    """
    facts = _describe_series(source) if isinstance(source, DicomSeries) else _describe_file(source)
    affine = facts["affine"]
    facts["spacing"] = (
        [round(float(v), 6) for v in np.linalg.norm(np.array(affine)[:3, :3], axis=0)] if affine else None
    )
    return facts


def unread_file(kind: str, name: str, path: Path) -> dict[str, Any]:
    """Describe a source in one file of which nothing has been read yet; keys as `describe_source`."""
    return {
        "kind": kind,
        "selector": name,
        "name": name,
        "path": str(path),
        "modality": "",
        "description": "",
        "files": 1,
        "slices": None,
        "shape": None,
        "affine": None,
        "warnings": [],
        "problem": None,
    }


def describe_error(error: InputError) -> dict[str, str]:
    """Describe a refusal, JSON values only."""
    return {"kind": type(error).__name__, "reason": error.reason, "message": error.message, "hint": error.hint}


def selector_of(source: ImageSource) -> str:
    """What `choose_series` takes to name a source."""
    return source.selector if isinstance(source, DicomSeries) else source.name


def _describe_series(series: DicomSeries) -> dict[str, Any]:
    return {
        "kind": "dicom",
        "selector": series.selector,
        "name": series.name,
        "path": str(series.paths[0].parent),
        "series_uid": series.series_uid,
        "study_uid": series.study_uid,
        "modality": series.modality,
        "description": series.description,
        "files": len(series.paths),
        "slices": len(series.slices),
        "shape": list(series.shape) if series.shape else None,
        "affine": [list(line) for line in series.affine] if series.affine else None,
        "warnings": list(series.warnings),
        "problem": describe_error(series.problem) if series.problem else None,
    }


def _describe_file(source: ImageFile) -> dict[str, Any]:
    facts = unread_file("file", source.name, source.path)
    try:
        header = read_image_header(source.path)
    except InputError as error:
        return {**facts, "problem": describe_error(error)}
    shape, affine = list(header.shape), [[float(value) for value in line] for line in header.affine]
    return {**facts, "shape": shape, "slices": shape[2], "affine": affine, "warnings": list(header.warnings)}
