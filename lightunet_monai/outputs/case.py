"""All files of one case, written together or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lightunet_monai.errors import OutputError
from lightunet_monai.segmentation import Segmentation
from lightunet_monai.sources import ImageFile, ImageSource

from .atomic import COMMIT_MARKER, as_output_error, atomic_folder, check_folder
from .file_hash import file_sha256
from .findings import Findings, measure_lesions, write_findings_csv, write_findings_json
from .formats import FORMATS, Format, check_formats, choose_formats
from .report import CaseReport, WrittenFile, describe_case, write_report
from .uids import Stamp

REPORT, FINDINGS_CSV, FINDINGS_JSON, OVERVIEW = COMMIT_MARKER, "findings.csv", "findings.json", "overview.png"
MASK = "mask.png"

RESULT_NAMES = (*(item.file_name for item in FORMATS.values()), FINDINGS_CSV, FINDINGS_JSON, OVERVIEW, MASK, REPORT)
"""Every file name a case may hold; a later case replaces or removes these and nothing else.

What somebody has changed or put there since is replaced, but never removed.
"""


class OverviewWriter(Protocol):
    """Draws a case into one picture; `review.write_overview` is the real one."""

    def __call__(
        self, segmentation: Segmentation, volume_hu: NDArray[np.generic], path: Path, *, findings: Findings
    ) -> Path:
        """Draw the case to `path`."""


def check_output(
    output_dir: Path, formats: Sequence[str] = ("nifti",), *, source: ImageSource | None = None, overwrite: bool = False
) -> None:
    """Check, before anything is computed, that the results of a case could be written.

    Parameters
    ----------
    output_dir : Path
        Folder of the case; it need not exist.
    formats : sequence of str
        Names from `FORMATS`.
    source : ImageSource or None
        The source, if it is known already.
    overwrite : bool
        Whether an existing result may be replaced.

    Raises
    ------
    UsageError
        If a format is unknown.
    OutputError
        If a result is there already, the source is one of the files to replace, the folder cannot be written, or a
        format cannot express the source.
    """
    output_dir = Path(output_dir)
    check_formats(choose_formats(formats), source)
    if not overwrite:
        refuse_existing(output_dir)
    if isinstance(source, ImageFile):
        refuse_source(output_dir, source.path)
    check_folder(output_dir)


def write_case(
    output_dir: Path,
    segmentation: Segmentation,
    *,
    formats: Sequence[str] = ("nifti",),
    findings: Findings | None = None,
    report: CaseReport | None = None,
    volume: NDArray[np.generic] | None = None,
    overwrite: bool = False,
    overview: OverviewWriter | None = None,
    keep_empty_frames: bool = False,
    stamp: Stamp | None = None,
) -> tuple[Path, ...]:
    """Write the chosen formats, the findings, the picture and the report of one case: all of them or nothing.

    >>> write_case(Path("out/case1"), segmentation, formats=["nifti", "seg"], volume=volume, overview=write_overview)

    Parameters
    ----------
    output_dir : Path
        Folder of the case; created if it is missing.
    segmentation : Segmentation
        The result.
    formats : sequence of str
        Names from `FORMATS`.
    findings : Findings or None
        What was measured; None measures now.
    report : CaseReport or None
        The account so far; the files are added to it. None describes the case from the segmentation.
    volume : ndarray, shape (X, Y, Z), or None
        Hounsfield units on the same grid, for the findings and the picture.
    overwrite : bool
        Replace an existing result; other files in the folder stay, and so does one of its files that was changed since
        and that is not written anew. The report warns of it.
    overview : callable or None
        Draws ``overview.png``; needs `volume`. None writes no picture.
    keep_empty_frames : bool
        Keep frames without a lesion in DICOM SEG.
    stamp : Stamp or None
        Times and UIDs of DICOM objects; None takes the present time and new UIDs.

    Returns
    -------
    tuple of Path
        The files in `output_dir`, the report last.

    Raises
    ------
    UsageError, OutputError
        As in `check_output`, or if writing fails; `output_dir` is then as it was before.
    """
    output_dir = Path(output_dir)
    chosen = choose_formats(formats)
    check_formats(chosen, segmentation.source, segmentation)
    if not overwrite:
        refuse_existing(output_dir)
    findings = findings if findings is not None else measure_lesions(segmentation, volume)
    report = report or describe_case(segmentation.source, segmentation=segmentation, findings=findings)
    stamp = stamp or Stamp.random()
    written_names = {item.file_name for item in chosen} | {FINDINGS_CSV, FINDINGS_JSON, REPORT}
    if overview is not None and volume is not None:
        written_names.add(OVERVIEW)
    kept = changed_files(output_dir, written_names) if overwrite else ()
    report = with_kept(report, kept)
    refuse = None if overwrite else partial(refuse_existing, output_dir)
    with atomic_folder(output_dir, [name for name in RESULT_NAMES if name not in kept], refuse=refuse) as room:
        for item in chosen:
            _write_format(item, segmentation, findings, room, keep_empty_frames, stamp)
        write_findings_csv(findings, room / FINDINGS_CSV)
        write_findings_json(findings, room / FINDINGS_JSON)
        if overview is not None and volume is not None:
            overview(segmentation, volume, room / OVERVIEW, findings=findings)
        written = describe_files(room)
        write_report(report.with_files(written), room / REPORT)
    return (*(output_dir / item.name for item in written), output_dir / REPORT)


def _write_format(
    item: Format, segmentation: Segmentation, findings: Findings, room: Path, keep_empty_frames: bool, stamp: Stamp
) -> None:
    path = room / item.file_name
    if item.name == "sr":
        item.writer(segmentation, findings, room / FORMATS["seg"].file_name, path, stamp=stamp)
    elif item.function == "write_dicom_seg":
        item.writer(segmentation, path, keep_empty_frames=keep_empty_frames, stamp=stamp, **item.options)
    elif item.needs_series:
        item.writer(segmentation, path, stamp=stamp, **item.options)
    else:
        item.writer(segmentation, path, **item.options)


def changed_files(output_dir: Path, written: Collection[str]) -> tuple[str, ...]:
    """Name the results in a folder that are not as its report lists them: somebody's work since then.

    Parameters
    ----------
    output_dir : Path
    written : collection of str
        File names that a new result replaces anyway; they are not looked at.

    Returns
    -------
    tuple of str
        Some of `RESULT_NAMES`.
    """
    with as_output_error(output_dir):
        present = [name for name in RESULT_NAMES if name not in written and (output_dir / name).is_file()]
        known = _listed_hashes(output_dir / REPORT) if present else {}
        return tuple(name for name in present if file_sha256(output_dir / name) != known.get(name))


def with_kept(report: CaseReport, kept: Sequence[str]) -> CaseReport:
    """Give a report that warns of the files that `changed_files` named."""
    warnings = [
        f"{name} was changed since an earlier result was written, and is kept: it does not belong to this result."
        for name in kept
    ]
    return replace(report, warnings=(*report.warnings, *warnings))


def as_written(report: CaseReport, output_dir: Path) -> CaseReport:
    """Give a report with the warnings that it has in a folder, where `write_case` added to them."""
    content = json.loads((output_dir / REPORT).read_text(encoding="utf-8"))
    return replace(report, warnings=tuple(content["warnings"]))


def _listed_hashes(report: Path) -> dict[str, str]:
    try:
        files = json.loads(report.read_text(encoding="utf-8"))["files"]
        return {str(item["name"]): str(item["sha256"]) for item in files}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def refuse_existing(output_dir: Path) -> None:
    """Refuse a folder that holds a result already."""
    with as_output_error(output_dir):
        present = [name for name in RESULT_NAMES if (output_dir / name).exists()]
    if present and not (present == [REPORT] and _is_failed(output_dir / REPORT)):
        raise OutputError(
            f"{output_dir}: holds a result already ({', '.join(present)}).",
            hint="Choose another output folder, or ask to overwrite.",
            reason="exists",
        )


def refuse_source(output_dir: Path, source: Path) -> None:
    """Refuse a folder in which a result would replace the image that it is made from."""
    with as_output_error(output_dir):
        present = [name for name in RESULT_NAMES if (output_dir / name).exists()]
        same = [name for name in present if source.exists() and os.path.samefile(output_dir / name, source)]
    if same:
        raise OutputError(
            f"{source}: is the image itself, and {same[0]} of its result would replace it.",
            hint="Choose another output folder.",
            reason="source",
        )


def _is_failed(report: Path) -> bool:
    """The report of a failed or skipped case is no result, so a second attempt may replace it."""
    try:
        return json.loads(report.read_text(encoding="utf-8"))["status"] in ("failed", "skipped")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def describe_files(room: Path) -> tuple[WrittenFile, ...]:
    """Give format, size and hash of the result files in a folder, without the report."""
    names = {item.file_name: item.name for item in FORMATS.values()}
    names |= {FINDINGS_CSV: "findings-csv", FINDINGS_JSON: "findings-json", OVERVIEW: "overview", MASK: "mask"}
    return tuple(
        WrittenFile(kind, name, (room / name).stat().st_size, file_sha256(room / name))
        for name, kind in names.items()
        if (room / name).exists()
    )
