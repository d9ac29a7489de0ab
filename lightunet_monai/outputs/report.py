"""The machine-readable account of one case.

Only the standard library and the value types are imported here, and nothing that is written holds patient data:
paths and UIDs only.
"""

from __future__ import annotations

import json
import platform
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightunet_monai.errors import LightUNetError
from lightunet_monai.segmentation import Segmentation
from lightunet_monai.sources import DicomSeries, ImageSource

from .atomic import atomic_file
from .marking import PICTURE_STATEMENT, RESEARCH_STATEMENT
from .orientation import axis_codes, is_left_handed, shear_degrees

if TYPE_CHECKING:
    from .findings import Findings

SCHEMA = 1
"""Raised when a field changes its meaning or goes away; new fields do not raise it."""

STATUSES = ("done", "failed", "skipped")

_PACKAGES = {"package": "lightunet_monai", "torch": "torch", "monai": "monai"}


@dataclass(frozen=True)
class WrittenFile:
    """One file of a result.

    Parameters
    ----------
    format : str
        A name from `formats.FORMATS`, or ``"findings"``, ``"overview"``.
    name : str
        File name in the output folder.
    size_bytes : int
        Its size.
    sha256 : str
        Its hash, hexadecimal.
    """

    format: str
    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class CaseReport:
    """What happened to one case; every field is a JSON value once `to_json` is called.

    Parameters
    ----------
    status : str
        ``"done"``, ``"failed"`` or ``"skipped"``.
    source : dict
        Path, kind, name; for a series its UIDs and number of slices.
    created : str
        ISO 8601, UTC.
    geometry : dict or None
        ``shape``, ``spacing_mm``, ``affine_ras`` (4 rows), ``orientation`` (such as ``"LPS"``), ``left_handed``,
        ``shear_degrees``. A picture has a shape and, if it states one, a spacing (across, down); the rest is None.
    model : dict or None
        ``name``, ``version``, ``weights_sha256``.
    run : dict or None
        ``engine``, ``precision``, ``device``, ``settings``, ``algorithm_type``.
    seconds : dict
        Seconds per step.
    volume_ml : dict
        Millilitres per label name; empty for a picture.
    area : dict or None
        As `areas.measure_areas` gives it, for a picture; None for a volume.
    findings : dict or None
        As `Findings.to_json` gives it; None if nothing was measured.
    doubtful : list of dict
        Places that the model drew and then did not hold to be lesions, which are not in the label map, the surest
        first: ``probability``, ``volume_ml``, ``place_ras_mm``, ``place_voxel``.
    files : tuple of WrittenFile
        What was written, in the folder of the report.
    warnings : tuple of str
        What a reader of the result should know.
    error : dict or None
        ``kind`` (class name), ``reason`` (stable word), ``message``, ``hint``.
    versions : dict
        Package, bundle, torch, monai, python.
    """

    status: str
    source: dict[str, Any]
    created: str
    geometry: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    volume_ml: dict[str, float] = field(default_factory=dict)
    area: dict[str, Any] | None = None
    findings: dict[str, Any] | None = None
    doubtful: list[dict[str, Any]] = field(default_factory=list)
    files: tuple[WrittenFile, ...] = ()
    warnings: tuple[str, ...] = ()
    error: dict[str, str] | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values, with the schema number and the research statement."""
        values = asdict(self)
        values["files"] = [asdict(item) for item in self.files]
        values["warnings"] = list(self.warnings)
        statement = RESEARCH_STATEMENT if self.area is None else PICTURE_STATEMENT
        return {"schema": SCHEMA, "statement": statement, **values}

    def with_files(self, files: Sequence[WrittenFile]) -> CaseReport:
        """Return a copy that lists these files."""
        return replace(self, files=tuple(files))


def describe_case(
    source: ImageSource | Path | str,
    *,
    segmentation: Segmentation | None = None,
    findings: Findings | None = None,
    area: Mapping[str, Any] | None = None,
    seconds: Mapping[str, float] | None = None,
    warnings: Sequence[str] = (),
    error: BaseException | None = None,
    skipped: bool = False,
    bundle_version: str = "",
    clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> CaseReport:
    """Give the account of one case, done or failed.

    Parameters
    ----------
    source : ImageSource, Path or str
        Where the case came from; a path if it failed before a source was chosen.
    segmentation : Segmentation or None
        The result; None if there is none.
    findings : Findings or None
        What was measured.
    area : mapping or None
        What was measured on a picture, as `areas.measure_areas` gives it.
    seconds : mapping of str to float
        Seconds per step.
    warnings : sequence of str
        In addition to those of the source.
    error : exception or None
        Why the case failed or was skipped.
    skipped : bool
        True if the case was not meant to be processed (another modality, for example); `error` says why.
    bundle_version : str
        Version of the bundle; by default that of the segmentation's model.
    clock : callable
        Gives the current time.

    Returns
    -------
    CaseReport
    """
    provenance = segmentation.provenance if segmentation else None
    return CaseReport(
        status="skipped" if skipped else "failed" if error else "done",
        source=_describe_source(source),
        created=clock().astimezone(timezone.utc).isoformat(timespec="seconds"),
        geometry=_describe_geometry(segmentation) if segmentation else None,
        model={
            "name": provenance.model_name,
            "version": provenance.model_version,
            "weights_sha256": provenance.weights_sha256,
        }
        if provenance
        else None,
        run={
            "engine": provenance.engine,
            "precision": provenance.precision,
            "device": provenance.device,
            "settings": dict(provenance.settings),
            "algorithm_type": provenance.algorithm_type,
        }
        if provenance
        else None,
        seconds={name: round(float(value), 3) for name, value in (seconds or {}).items()},
        volume_ml={label.name: round(segmentation.volume_ml(label.value), 6) for label in segmentation.labels}
        if segmentation and not segmentation.is_picture
        else {},
        area=dict(area) if area is not None else None,
        findings=findings.to_json() if findings is not None else None,
        doubtful=_describe_doubtful(segmentation) if segmentation else [],
        warnings=_all_warnings(source, warnings, segmentation),
        error=_describe_error(error) if error else None,
        versions=_versions(bundle_version or (provenance.model_version if provenance else "")),
    )


def write_report(report: CaseReport, path: Path) -> Path:
    """Write the report as JSON, UTF-8, atomically.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_file(Path(path)) as part:
        # A path that is no text is written as JSON escapes.
        part.write_bytes(text.encode("utf-8", "backslashreplace"))
    return Path(path)


def _describe_source(source: ImageSource | Path | str) -> dict[str, Any]:
    if isinstance(source, DicomSeries):
        paths = source.paths
        return {
            "kind": "dicom-series",
            "name": source.name,
            "path": str(paths[0].parent) if len(paths) > 1 else str(paths[0]) if paths else "",
            "study_uid": source.study_uid,
            "series_uid": source.series_uid,
            "modality": source.modality,
            "volume_key": source.volume_key,
            "slices": len(source.slices),
        }
    if isinstance(source, (str, Path)):
        return {"kind": "path", "name": Path(source).name, "path": str(source)}
    return {"kind": "file", "name": source.name, "path": str(source.path)}


def _describe_geometry(segmentation: Segmentation) -> dict[str, Any]:
    if segmentation.is_picture:
        spacing = [round(value, 6) for value in segmentation.spacing[:2]] if segmentation.has_spacing else None
        nothing = dict.fromkeys(("affine_ras", "orientation", "left_handed", "shear_degrees"))
        return {"shape": [int(size) for size in segmentation.label_map.shape], "spacing_mm": spacing, **nothing}
    return {
        "shape": [int(size) for size in segmentation.label_map.shape],
        "spacing_mm": [round(value, 6) for value in segmentation.spacing],
        "affine_ras": [[float(value) for value in row] for row in segmentation.affine],
        "orientation": axis_codes(segmentation.affine),
        "left_handed": is_left_handed(segmentation.affine),
        "shear_degrees": round(shear_degrees(segmentation.affine), 3),
    }


def _describe_doubtful(segmentation: Segmentation) -> list[dict[str, Any]]:
    to_voxel = np.linalg.inv(segmentation.affine)
    last = np.array(segmentation.label_map.shape) - 1
    found = []
    for piece in segmentation.doubtful:
        voxel = np.rint(to_voxel[:3, :3] @ piece.place_ras_mm + to_voxel[:3, 3]).astype(int)
        found.append(
            {
                "probability": round(piece.probability, 3),
                "volume_ml": float(f"{piece.volume_ml:.3g}"),
                "place_ras_mm": [round(value, 1) for value in piece.place_ras_mm],
                "place_voxel": np.clip(voxel, 0, last).tolist(),  # the model's grid may reach half a voxel further
            }
        )
    return found


def _describe_error(error: BaseException) -> dict[str, str]:
    if isinstance(error, LightUNetError):
        return {
            "kind": type(error).__name__,
            "reason": error.reason,
            "message": error.message,
            "hint": error.hint,
        }
    # The text of a foreign exception may quote a header, and so a patient; the place where it was raised cannot.
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return {
        "kind": type(error).__name__,
        "reason": "unexpected",
        "message": f"unexpected {type(error).__name__}{place}.",
        "hint": "The log holds the details.",
    }


def _all_warnings(
    source: ImageSource | Path | str, warnings: Sequence[str], segmentation: Segmentation | None
) -> tuple[str, ...]:
    known = list(source.warnings) if isinstance(source, DicomSeries) else []
    if segmentation is not None and not segmentation.has_lesion:
        is_model = segmentation.provenance.algorithm_type == "AUTOMATIC"
        what = "Nothing was found" if is_model else "Nothing is marked"
        how = "holds no lesion" if segmentation.label_map.any() else "is empty"
        known.append(f"{what}: the label map {how}. This does not mean that there is no lesion.")
    if segmentation is not None:
        from .tissue import tissue_warnings  # brings scipy; who reads a report needs none

        known += tissue_warnings(segmentation)
    return tuple(dict.fromkeys([*known, *warnings]))


def _versions(bundle_version: str) -> dict[str, str]:
    versions = {"python": platform.python_version(), "bundle": bundle_version}
    for name, distribution in _PACKAGES.items():
        try:
            versions[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            versions[name] = ""
    return versions
