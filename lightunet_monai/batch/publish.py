"""From a staging folder into the output folder: a result appears whole, and once.

A run writes below ``.work/RUN``; a finished case is renamed to ``cases/KEY``. What a dead run left in its staging
folder is removed by the next run. What somebody has changed in ``cases/KEY`` is never removed.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..outputs.atomic import COMMIT_MARKER, sync_folder
from ..outputs.file_hash import file_sha256

CASES, WORK, LOGS = "cases", ".work", "logs"

CHANGED = ".changed-"
"""In the name of a folder in `CASES` that is no case: an earlier result of one that somebody has changed."""


def staging_folder(out: Path, run: str, key: str) -> Path:
    """Name a new folder for the files of one attempt."""
    return out / WORK / run / f"{key}-{uuid.uuid4().hex[:8]}"


def publish(staging: Path, out: Path, key: str, *, tell_kept: Callable[[str], None] = lambda name: None) -> bool:
    """Move a finished case to its place.

    What is there and is no complete result goes: what somebody has changed or put there to ``cases/KEY.changed-HEX``,
    with all that lies beside it; a rest of the old result is removed.

    Parameters
    ----------
    staging, out : Path
    key : str
    tell_kept : callable
        Told the name of the folder that was changed, where it is now.

    Returns
    -------
    bool
        False if a complete result was there already; the new one is dropped.

    Raises
    ------
    OutputError
        If it cannot be moved.
    """
    target = out / CASES / key
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(staging, target)
        except OSError:
            if not target.is_dir():
                raise
            if read_result(out, key) is not None:
                shutil.rmtree(staging, ignore_errors=True)
                return False
            old = _move_away(target, staging, tell_kept)
            os.rename(staging, target)
            if old is not None:
                shutil.rmtree(old, ignore_errors=True)
        sync_folder(target.parent)
    except OSError as error:
        raise OutputError(
            f"case {key}: its result cannot be moved to the output folder: {error.strerror or error}.",
            hint="Check free space and permissions of the output folder.",
            reason="not-writable",
        ) from error
    return True


def _move_away(target: Path, staging: Path, tell_kept: Callable[[str], None]) -> Path | None:
    """Make room for a result; give what may be removed of the old one."""
    if _is_changed(target):
        kept = target.with_name(f"{target.name}{CHANGED}{uuid.uuid4().hex[:8]}")
        os.rename(target, kept)
        tell_kept(kept.name)
        return None
    # Half a result, unchanged, can only be one that somebody took files from.
    old = staging.with_name(f"{staging.name}-old")
    os.rename(target, old)
    return old


def _is_changed(folder: Path) -> bool:
    """Say whether a folder holds anything but a report and files that are as it lists them: somebody's work."""
    try:
        report = json.loads((folder / COMMIT_MARKER).read_text(encoding="utf-8"))
        listed = {str(item["name"]): item["sha256"] for item in report["files"]}
        if report["status"] != "done":  # none of ours
            return True
        others = [entry for entry in os.scandir(folder) if entry.name != COMMIT_MARKER]
        return any(entry.name not in listed or file_sha256(Path(entry)) != listed[entry.name] for entry in others)
    except (OSError, ValueError, KeyError, TypeError):
        return True


def kept_folders(out: Path) -> dict[str, list[str]]:
    """Give, by case, the names of the folders in which earlier results are kept that somebody had changed."""
    found: dict[str, list[str]] = {}
    try:
        names = sorted(entry.name for entry in os.scandir(out / CASES))
    except OSError:
        return found
    for name in names:
        key, separator, _ = name.partition(CHANGED)
        if separator:
            found.setdefault(key, []).append(name)
    return found


def read_result(out: Path, key: str, *, thorough: bool = True) -> dict[str, Any] | None:
    """Read the report of a finished case; None if there is no complete result.

    Parameters
    ----------
    out : Path
    key : str
    thorough : bool
        Compare the hash of every file, not only its size.
    """
    folder = out / CASES / key
    try:
        report: dict[str, Any] = json.loads((folder / COMMIT_MARKER).read_text(encoding="utf-8"))
        for item in report["files"]:
            path = folder / item["name"]
            if path.stat().st_size != item["size_bytes"]:
                return None
            if thorough and file_sha256(path) != item["sha256"]:
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if report.get("status") == "done" else None


def model_of(report: Mapping[str, Any]) -> dict[str, str]:
    """What the audit log keeps of the model that a report names, as `CaseRunner.model` gives it."""
    model: dict[str, Any] = report["model"] or {}
    names = {"model": "name", "model_version": "version", "weights_sha256": "weights_sha256"}
    return {name: str(model[key]) for name, key in names.items() if key in model}


def facts_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the ledger keeps of a report."""
    stages: dict[str, float] = report["seconds"]
    lesions = (report["findings"] or {}).get("lesions", [])
    return {
        "seconds": round(sum(stages.values()), 3),
        "stages": {name: round(value, 3) for name, value in stages.items()},
        "lesions": len(lesions),
        "lesions_ml": round(sum(lesion["volume_ml"] for lesion in lesions), 6),
        "volume_ml": report["volume_ml"],
        "doubtful": len(report.get("doubtful", ())),
        "warnings": len(report["warnings"]),
    }


def remove_work(out: Path, run: str) -> None:
    """Remove what a run that has ended left in its staging folder: parts of files of workers that died."""
    shutil.rmtree(out / WORK / run, ignore_errors=True)


def remove_leftovers(out: Path, living_runs: Collection[str]) -> int:
    """Remove the staging folders of runs that are no more; give their number."""
    removed = 0
    try:
        folders = [entry for entry in os.scandir(out / WORK) if entry.name not in living_runs]
    except OSError:
        return 0
    for entry in folders:
        shutil.rmtree(entry.path, ignore_errors=True)
        removed += 1
    return removed
