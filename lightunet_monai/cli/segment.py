"""``lightunet segment``: one study in, its label map, report and picture out."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LightUNetError
from .progress import choose_reporter, print_event
from .run_options import add_run_options, run_options

if TYPE_CHECKING:
    from ..outputs import CaseReport
    from ..segmentation import Segmentation
    from ..sources import ImageSource


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("study", type=Path, help="DICOM folder, file or zip; NIfTI, NRRD or MetaImage file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the results go")
    parser.add_argument(
        "-f",
        "--formats",
        default="nifti",
        metavar="NAME,...",
        help="nifti, nrrd, segnrrd, seg, seg-labelmap, seg-fractional, sr, rtstruct, probability, stl, obj (nifti)",
    )
    parser.add_argument("--series", metavar="UID", help="which series, where a study has several")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are already there")
    parser.add_argument("--keep-empty-frames", action="store_true", help="DICOM SEG: keep frames without a lesion")
    parser.add_argument(
        "--deterministic-uids",
        action="store_true",
        help="DICOM objects get the same UIDs when the same run is repeated",
    )
    parser.add_argument("--assume-hu", action="store_true", help="take values as Hounsfield units without a rescale")
    parser.add_argument(
        "--regularize", action="store_true", help="resample a tilted or uneven series; the result is on its own slices"
    )
    parser.add_argument(
        "--progress", choices=("auto", "bar", "json", "none"), default="auto", help="a bar, or JSON lines for programs"
    )
    add_run_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Segment one study."""
    try:
        report, folder = _segment(arguments)
    except LightUNetError as error:
        if arguments.progress == "json":
            print_event("error", kind=type(error).__name__, reason=error.reason, message=error.message, hint=error.hint)
        raise
    if arguments.progress == "json":
        print_event("done", report=str(folder / "report.json"))
    else:
        _print_summary(report, folder)
    return 0


def _segment(arguments: argparse.Namespace) -> tuple[CaseReport, Path]:
    from ..inputs import choose_series, discover_sources, load_volume
    from ..outputs import check_output, describe_case, measure_lesions, write_case
    from ..outputs.formats import choose_formats
    from ..outputs.uids import Stamp
    from ..review.overview import write_overview

    tell = choose_reporter(arguments.progress)
    formats = [name.strip() for name in arguments.formats.split(",") if name.strip()]
    options = run_options(arguments)
    check_output(arguments.output, formats, overwrite=arguments.overwrite)
    seconds: dict[str, float] = {}

    tell("read", 0.0)
    start = time.perf_counter()
    source = choose_series(discover_sources(arguments.study), arguments.series)
    check_output(arguments.output, formats, source=source, overwrite=arguments.overwrite)
    volume = load_volume(source, assume_hu=arguments.assume_hu, regularize=arguments.regularize)
    seconds["read"] = time.perf_counter() - start

    tell("open", 0.0)
    start = time.perf_counter()
    from ..inference import Predictor

    predictor = Predictor(arguments.bundle, options, threshold=arguments.threshold)
    seconds["open"] = time.perf_counter() - start
    prediction = predictor.segment(
        volume,
        source=source,
        with_probability=any(item.needs_probability for item in choose_formats(formats)),
        progress=tell,
    )
    seconds.update(prediction.seconds)

    tell("measure", 0.0)
    start = time.perf_counter()
    segmentation, array = _on_source_slices(prediction.segmentation, volume, source, arguments)
    findings = measure_lesions(segmentation, array)
    seconds["measure"] = time.perf_counter() - start

    tell("write", 0.0)
    report = describe_case(
        source,
        segmentation=segmentation,
        findings=findings,
        seconds=seconds,
        warnings=prediction.warnings,
    )
    write_case(
        arguments.output,
        segmentation,
        formats=formats,
        findings=findings,
        report=report,
        volume=array,
        overwrite=arguments.overwrite,
        overview=write_overview,
        keep_empty_frames=arguments.keep_empty_frames,
        stamp=Stamp.derived(segmentation) if arguments.deterministic_uids else None,
    )
    tell("write", 1.0)
    return report, arguments.output


def _on_source_slices(
    segmentation: Segmentation, volume: Any, source: ImageSource, arguments: argparse.Namespace
) -> tuple[Segmentation, Any]:
    """Give segmentation and Hounsfield units on the source's own slices, whatever grid the model saw."""
    if arguments.regularize:
        from dataclasses import replace

        from ..inputs import plan_regularization, read_hu

        regularization = plan_regularization(source)
        if regularization is not None:
            original = read_hu(source, dtype="float32", assume_hu=arguments.assume_hu, allow_shear=True)
            label_map = regularization.to_source_slices(segmentation.label_map)
            # Probabilities are not carried over: interpolating them twice would no longer match the labels.
            moved = replace(segmentation, label_map=label_map, affine=original.affine, probability=None)
            return moved, original.voxels
    return segmentation, volume.as_tensor()[0].numpy()


def _print_summary(report: CaseReport, folder: Path) -> None:
    from . import DISCLAIMER

    for warning in report.warnings:
        print(f"warning: {warning}")
    volumes = ", ".join(f"{name} {volume:.2f} ml" for name, volume in report.volume_ml.items())
    lesions = _lesions(report.findings)
    print(f"{len(lesions)} lesion{'' if len(lesions) == 1 else 's'}; {volumes}")
    print(f"results: {folder}")
    print(DISCLAIMER)


def _lesions(findings: dict[str, Any] | None) -> list[Any]:
    return list((findings or {}).get("lesions", []))
