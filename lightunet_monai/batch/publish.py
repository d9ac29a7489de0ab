"""From a staging folder into the output folder: a result appears whole, and once.

A run writes below ``.work/RUN``; a finished case is renamed to ``cases/KEY``. What a dead run left in its staging
folder is removed by the next run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..outputs.atomic import COMMIT_MARKER, sync_folder

CASES, WORK, LOGS = "cases", ".work", "logs"


def staging_folder(out: Path, run: str, key: str) -> Path:
    """Name a new folder for the files of one attempt."""
    return out / WORK / run / f"{key}-{uuid.uuid4().hex[:8]}"


def publish(staging: Path, out: Path, key: str) -> bool:
    """Move a finished case to its place.

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
            # Half a result can only be one that somebody took files from: out of the way with it.
            old = staging.with_name(f"{staging.name}-old")
            os.rename(target, old)
            os.rename(staging, target)
            shutil.rmtree(old, ignore_errors=True)
        sync_folder(target.parent)
    except OSError as error:
        raise OutputError(
            f"case {key}: its result cannot be moved to the output folder: {error.strerror or error}.",
            hint="Check free space and permissions of the output folder.",
            reason="not-writable",
        ) from error
    return True


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
            if thorough and hashlib.sha256(path.read_bytes()).hexdigest() != item["sha256"]:
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if report.get("status") == "done" else None


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
