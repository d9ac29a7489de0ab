"""``lightunet export``: an edited label map as DICOM SEG, SR, RTSTRUCT and more, on the series it was drawn on."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, LightUNetError, UsageError
from . import DISCLAIMER
from .progress import choose_reporter, print_event

if TYPE_CHECKING:
    from ..labels import LabelTable
    from ..outputs import CaseReport
    from ..segmentation import AlgorithmType, Segmentation
    from ..sources import ImageSource


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("labelmap", type=Path, help="NIfTI, NRRD, .seg.nrrd or DICOM SEG on the grid of the source")
    parser.add_argument("--source", type=Path, required=True, help="what it was drawn on: DICOM folder, file or zip")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the results go")
    parser.add_argument(
        "-f",
        "--formats",
        default="seg,sr",
        metavar="NAME,...",
        help="nifti, nrrd, segnrrd, seg, seg-labelmap, sr, rtstruct, stl, obj (seg,sr)",
    )
    parser.add_argument("--series", metavar="UID", help="which series, where the source has several")
    kind = parser.add_argument_group("who drew it").add_mutually_exclusive_group()
    kind.add_argument(
        "--edited",
        dest="algorithm_type",
        action="store_const",
        const="SEMIAUTOMATIC",
        default="SEMIAUTOMATIC",
        help="the model, and people edited it (this is assumed)",
    )
    kind.add_argument("--manual", dest="algorithm_type", action="store_const", const="MANUAL", help="people alone")
    kind.add_argument(
        "--unedited", dest="algorithm_type", action="store_const", const="AUTOMATIC", help="the model alone"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="report.json of the run that made it (the one beside the label map)"
    )
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="model bundle that made it (the shipped one)")
    parser.add_argument("--model", metavar="NAME", help="model of the bundle, such as tissues (the one that made it)")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are already there")
    parser.add_argument("--keep-empty-frames", action="store_true", help="DICOM SEG: keep frames without a lesion")
    parser.add_argument(
        "--deterministic-uids", action="store_true", help="DICOM objects get the same UIDs when this is repeated"
    )
    parser.add_argument("--assume-hu", action="store_true", help="take values as Hounsfield units without a rescale")
    parser.add_argument(
        "--progress", choices=("auto", "bar", "json", "none"), default="auto", help="a bar, or JSON lines for programs"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the label map in each format, and measure it again."""
    try:
        report = _export(arguments)
    except LightUNetError as error:
        if arguments.progress == "json":
            print_event("error", kind=type(error).__name__, reason=error.reason, message=error.message, hint=error.hint)
        raise
    if arguments.progress == "json":
        print_event("done", report=str(arguments.output / "report.json"))
        return 0
    for warning in report.warnings:
        print(f"warning: {warning}")
    lesions = (report.findings or {}).get("count", 0)
    print(f"{lesions} lesion{'' if lesions == 1 else 's'}; {(report.run or {})['algorithm_type']}")
    print(f"results: {arguments.output}")
    print(DISCLAIMER)
    return 0


def _export(arguments: argparse.Namespace) -> CaseReport:
    from ..batch.resampled import read_on_result_grid
    from ..outputs import check_output, describe_case, measure_lesions, write_case
    from ..outputs.case import as_written
    from ..outputs.uids import Stamp
    from ..review.overview import write_overview
    from .evaluate import refuse_pictures

    refuse_pictures(arguments)
    formats = _formats(arguments)
    tell = choose_reporter(arguments.progress)
    tell("read", 0.0)
    _check_not_replaced(arguments.labelmap, arguments.output)
    check_output(arguments.output, formats, overwrite=arguments.overwrite)
    source = _choose_source(arguments)
    _check_same_series(arguments, source)
    check_output(arguments.output, formats, source=source, overwrite=arguments.overwrite)
    # The label map lies on the slices as they are, so a tilted stack needs no resampling here; an uneven one does.
    volume = read_on_result_grid(source, assume_hu=arguments.assume_hu)
    segmentation = _read_segmentation(arguments, source, volume)
    tell("measure", 0.0)
    findings = measure_lesions(segmentation, volume.voxels)
    tell("write", 0.0)
    report = describe_case(source, segmentation=segmentation, findings=findings, warnings=volume.warnings)
    write_case(
        arguments.output,
        segmentation,
        formats=formats,
        findings=findings,
        report=report,
        volume=volume.voxels,
        overwrite=arguments.overwrite,
        overview=write_overview,
        keep_empty_frames=arguments.keep_empty_frames,
        stamp=Stamp.derived(segmentation) if arguments.deterministic_uids else None,
    )
    tell("write", 1.0)
    return as_written(report, arguments.output)


def _formats(arguments: argparse.Namespace) -> list[str]:
    """Names of the formats; refuses what no label map can be."""
    from ..outputs.formats import choose_formats

    names = [name.strip() for name in arguments.formats.split(",") if name.strip()]
    without = [item.name for item in choose_formats(names) if item.needs_probability]
    if without:
        raise UsageError(
            f"option --formats: found {', '.join(without)}, which a label map without probabilities cannot become.",
            hint="'lightunet segment' writes them.",
        )
    return names


def _check_not_replaced(labelmap: Path, output: Path) -> None:
    """Writing a case replaces the files of an earlier one; the edited label map must not be among them."""
    from ..outputs.case import RESULT_NAMES

    places = [output / name for name in RESULT_NAMES]
    if labelmap.exists() and any(place.exists() and place.samefile(labelmap) for place in places):
        raise UsageError(
            f"{labelmap}: lies in the output folder and would be replaced.", hint="Choose another output folder."
        )


def _choose_source(arguments: argparse.Namespace) -> ImageSource:
    """The series that is named, or that the label map itself refers to, or the one that can be meant."""
    from ..inputs import choose_series, discover_sources
    from ..transforms.read_dicom_seg import referenced_series

    wanted = [arguments.series] if arguments.series else list(referenced_series(arguments.labelmap))
    series_uid = wanted[0] if len(wanted) == 1 else None
    return choose_series(discover_sources(arguments.source), series_uid, assume_hu=arguments.assume_hu, regularize=True)


def _check_same_series(arguments: argparse.Namespace, source: ImageSource) -> None:
    """Refuse a label map of another series: where the grids are equal, nothing else would tell."""
    from ..sources import DicomSeries

    if not isinstance(source, DicomSeries):
        return
    for file, series_uids, hint in _named_series(arguments):
        if series_uids and source.series_uid not in series_uids:
            raise InputError(
                f"{file}: says that the label map was drawn on series {', '.join(series_uids)}, "
                f"found series {source.series_uid} in {arguments.source}.",
                hint=f"Give the series it was drawn on as --source. {hint}",
                reason="other-series",
            )


def _named_series(arguments: argparse.Namespace) -> Iterator[tuple[Path, tuple[str, ...], str]]:
    """Files that may say what the label map was drawn on; the series they name; what to do if they are wrong."""
    from ..transforms.read_dicom_seg import referenced_series

    labelmap: Path = arguments.labelmap
    yield (
        labelmap,
        referenced_series(labelmap),
        "Only if it is the same volume: save it as NRRD, without a series.",
    )
    way = "Only if it is the same volume, de-identified for example: "
    if arguments.report:
        yield arguments.report, _series_of_report(arguments.report), f"{way}leave --report out."
    beside = labelmap.with_name("report.json")
    yield beside, _series_of_report(beside), f"{way}copy the label map to a folder without this file."


def _series_of_report(path: Path) -> tuple[str, ...]:
    import json

    try:
        uid = json.loads(path.read_text(encoding="utf-8"))["source"]["series_uid"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()  # no report, or the run was not on a series
    return (str(uid),) if uid else ()


def _read_segmentation(arguments: argparse.Namespace, source: ImageSource, volume: Any) -> Segmentation:
    from ..inference.bundle_files import find_bundle, read_metadata, takes_pictures
    from ..labels import LabelTable, metadata_of
    from ..segmentation import Segmentation
    from ..transforms.load_label_map import holds_segments, place_label_map

    metadata = read_metadata(find_bundle(arguments.bundle))
    report = _report_of(arguments)
    model = arguments.model or _model_named((report.get("model") or {}).get("name"), metadata)
    takes_pictures(metadata, model)  # refuses a model that the bundle has not
    metadata = metadata_of(metadata, model)
    labels: LabelTable = LabelTable.from_metadata(metadata)
    if arguments.model is None and not holds_segments(arguments.labelmap):
        _check_structures(arguments, report, labels)
    kind: AlgorithmType = arguments.algorithm_type
    return Segmentation(
        label_map=place_label_map(arguments.labelmap, volume.voxels.shape, volume.affine, labels),
        affine=volume.affine,
        labels=labels,
        source=source,
        provenance=_provenance(report, metadata, kind),
    )


def _check_structures(arguments: argparse.Namespace, report: dict[str, Any], labels: LabelTable) -> None:
    """Refuse a run of a model with other structures: the values of its label map would get the names of these."""
    expected = {label.name for label in labels}
    found = set(report.get("structures") or expected)
    if found != expected:
        raise UsageError(
            f"{arguments.labelmap}: its report says that it holds {', '.join(sorted(found))}, "
            f"found a model of {', '.join(sorted(expected))}.",
            hint="Name the bundle that made it with --bundle, and its model with --model.",
        )


def _report_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Who made the label map: as the report of the run says, or the label map itself; empty if neither does."""
    from ..transforms.read_seg_nrrd import made_by

    beside = arguments.labelmap.with_name("report.json")
    own = None if arguments.report else made_by(arguments.labelmap)
    if arguments.report or (own is None and beside.is_file()):
        return _read_report(arguments.report or beside)
    return {"model": own}


def _model_named(name: str | None, metadata: dict[str, Any]) -> str | None:
    """The model of a bundle with this name in reports; None, the bundle's default, if there is none."""
    from ..labels import DEFAULT_MODEL, metadata_of

    names = {str(metadata_of(metadata, model)["name"]): model for model in (DEFAULT_MODEL, *metadata.get("models", {}))}
    return names.get(name or "")


def _provenance(report: dict[str, Any], metadata: dict[str, Any], kind: AlgorithmType) -> Any:
    from ..segmentation import Provenance

    run: dict[str, Any] = report.get("run") or {}
    model: dict[str, Any] = report.get("model") or metadata
    return Provenance(
        model_name=str(model["name"]),
        model_version=str(model["version"]),
        weights_sha256=str(model["weights_sha256"]),
        engine=str(run.get("engine", "")),
        precision=str(run.get("precision", "")),
        device=str(run.get("device", "")),
        settings=dict(run.get("settings") or {}),
        algorithm_type=kind,
    )


def _read_report(path: Path) -> dict[str, Any]:
    import json

    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        model, run = report["model"], report.get("run")
        if model is not None:
            model = {**model, **{name: str(model[name]) for name in ("name", "version", "weights_sha256")}}
        run = None if run is None else {**run, "settings": dict(run.get("settings") or {})}
        return {"model": model, "run": run, "structures": list(dict(report.get("volume_ml") or {}))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: is no report of a run ({type(error).__name__}), expected the report.json beside its label map.",
            hint="Give another one with --report.",
        ) from error
