"""``lightunet segment``: one study (or one 2-D image) in, its label map, report and picture out."""

from __future__ import annotations

import argparse
import gc
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LightUNetError, UsageError
from ..sources import ImageFile
from . import DISCLAIMER, RESEARCH_ONLY, print_error
from .progress import choose_reporter, print_event
from .run_options import add_run_options, run_options, study_path

if TYPE_CHECKING:
    from ..batch.settings import CaseSettings
    from ..inference import Predictor
    from ..outputs import CaseReport
    from ..sources import ImageSource

HASH_DIGITS = 8
"""Of the name of a folder: two series whose UIDs end alike share it with a probability of 2e-10."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument(
        "study", type=study_path, help="DICOM folder, file or zip; NIfTI, NRRD or MetaImage file; 2-D image"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the results go")
    parser.add_argument(
        "-f",
        "--formats",
        metavar="NAME,...",
        help="nifti, nrrd, segnrrd, seg, seg-labelmap, seg-fractional, sr, rtstruct, probability, stl, obj (nifti); "
        "for a 2-D image mask, nifti, probability (mask)",
    )
    parser.add_argument("--series", metavar="UID", help="which series, where a study has several")
    parser.add_argument("--all", action="store_true", help="every volume of the study, each into a folder of its own")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are already there")
    parser.add_argument("--keep-empty-frames", action="store_true", help="DICOM SEG: keep frames without a lesion")
    parser.add_argument(
        "--deterministic-uids",
        action="store_true",
        help="DICOM objects get the same UIDs when the same run is repeated",
    )
    parser.add_argument("--assume-hu", action="store_true", help="take values as Hounsfield units without a rescale")
    parser.add_argument(
        "--regularize",
        action="store_true",
        help="resample a tilted or uneven series; the result is on its own slices, unless they are uneven",
    )
    parser.add_argument(
        "--progress", choices=("auto", "bar", "json", "none"), default="auto", help="a bar, or JSON lines for programs"
    )
    add_run_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Segment one study: the volume that is meant, or with ``--all`` each of its volumes."""
    if arguments.all and arguments.series:
        raise UsageError("options --all and --series: found both, expected one of them.")
    session = _Session(arguments)
    if session.is_picture:
        return _segment_picture(session)
    failed = 0
    for source, folder in session.volumes():
        try:
            report = session.segment(source, folder)
        except LightUNetError as error:
            session.tell_error(error)
            if not arguments.all:
                raise
            failed += 1
            print_error(error)
            continue
        if arguments.progress == "json":
            print_event("done", report=str(folder / "report.json"))
        else:
            _print_summary(report, folder)
    return 1 if failed else 0


def _segment_picture(session: _Session) -> int:
    """Segment one 2-D image."""
    from ..batch.picture import segment_picture

    arguments = session.arguments
    for option, is_given in (
        ("--all", arguments.all),
        ("--series", arguments.series),
        ("--assume-hu", arguments.assume_hu),
        ("--regularize", arguments.regularize),
        ("--keep-empty-frames", arguments.keep_empty_frames),
        ("--deterministic-uids", arguments.deterministic_uids),
    ):
        if is_given:
            raise UsageError(f"option {option}: is for CT volumes, found it with --model {arguments.model}.")
    try:
        session.tell("read", 0.0)
        session.check_picture()
        report = segment_picture(
            arguments.study, arguments.output, session.settings(), session.open_model, session.tell
        )
    except LightUNetError as error:
        session.tell_error(error)
        raise
    if arguments.progress == "json":
        print_event("done", report=str(arguments.output / "report.json"))
    else:
        _print_areas(report, arguments.output)
    return 0


class _Session:
    """One call of the command: what was asked for, and the model once it is open."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.model: str | None = arguments.model
        self.is_picture = _takes_pictures(arguments)
        formats = ("mask" if self.is_picture else "nifti") if arguments.formats is None else arguments.formats
        self.formats = [name.strip() for name in formats.split(",") if name.strip()]
        self.options = run_options(arguments)
        self.tell = choose_reporter(arguments.progress)
        self.predictor: Predictor | None = None

    def tell_error(self, error: LightUNetError) -> None:
        if self.arguments.progress == "json":
            print_event("error", kind=type(error).__name__, reason=error.reason, message=error.message, hint=error.hint)

    def volumes(self) -> list[tuple[ImageSource, Path]]:
        """Find what is to be segmented, and the folder of each result."""
        from ..inputs import choose_series, discover_sources
        from ..outputs import check_output
        from ..outputs.formats import choose_formats

        try:
            self.tell("read", 0.0)
            choose_formats(self.formats)  # wrong use, whatever the volumes are
            if not self.arguments.all:  # before anything is read: a folder that cannot be written ends it here
                check_output(self.arguments.output, self.formats, overwrite=self.arguments.overwrite)
            sources = discover_sources(self.arguments.study)
            if self.arguments.all:
                return list(_folders(sources, self.arguments.study, self.arguments.output))
            asked = {"assume_hu": self.arguments.assume_hu, "regularize": self.arguments.regularize}
            return [(choose_series(sources, self.arguments.series, **asked), self.arguments.output)]
        except LightUNetError as error:
            self.tell_error(error)
            raise

    def segment(self, source: ImageSource, folder: Path) -> CaseReport:
        """Take one volume from its source to the files of its result."""
        from ..batch.case import segment_case

        return segment_case(source, folder, self.settings(), self.open_model, self.tell)

    def check_picture(self) -> None:
        """Refuse what is no 2-D image before the model is opened."""
        from ..inputs.image2d_read import read_image2d

        read_image2d(self.arguments.study)

    def settings(self) -> CaseSettings:
        """What is asked of the case."""
        from ..batch.settings import CaseSettings

        return CaseSettings(
            formats=tuple(self.formats),
            overwrite=self.arguments.overwrite,
            keep_empty_frames=self.arguments.keep_empty_frames,
            deterministic_uids=self.arguments.deterministic_uids,
            assume_hu=self.arguments.assume_hu,
            regularize=self.arguments.regularize,
        )

    def open_model(self) -> Predictor:
        """Open the model once."""
        if self.predictor is None:
            from ..inference import Predictor

            self.predictor = Predictor(
                self.arguments.bundle, self.options, threshold=self.arguments.threshold, model=self.model
            )
            if not gc.isenabled():  # it was off for a quick start; what is loaded now stays
                gc.freeze()
                gc.enable()
        return self.predictor


def _takes_pictures(arguments: argparse.Namespace) -> bool:
    if not arguments.model:  # what a bundle means without a name is for volumes; importing takes a second
        return False
    from ..inference.bundle_files import find_bundle, read_metadata, takes_pictures

    return takes_pictures(read_metadata(find_bundle(arguments.bundle)), arguments.model)


def _folders(sources: Sequence[ImageSource], study: Path, output: Path) -> Iterator[tuple[ImageSource, Path]]:
    """Give each source a folder of its own, and the one that holds its result already, whatever joined the study since.

    It is called like the source; with a hash, where several are called so or the folder holds the result of another.
    """
    count = Counter(source.name.casefold() for source in sources)  # some file systems do not tell upper from lower case
    for source in sources:
        plain = output / source.name
        hashed = output / f"{source.name}_{_short_hash(source, study)}"
        own = [folder for folder in (plain, hashed) if _holds_result_of(folder, source)]
        is_free = count[source.name.casefold()] == 1 and _holds_result_of(plain, source) is None
        yield source, own[0] if own else plain if is_free else hashed


def _short_hash(source: ImageSource, study: Path) -> str:
    from ..batch.keys import place_hash, series_hash

    if isinstance(source, ImageFile):  # wherever the study lies
        return place_hash(os.path.relpath(source.path, study))[:HASH_DIGITS]
    return series_hash(source, study)[:HASH_DIGITS]


def _holds_result_of(folder: Path, source: ImageSource) -> bool | None:
    """Whether the report in a folder is of this source; None if nothing says so: a path is no name for good."""
    try:
        found = json.loads((folder / "report.json").read_text(encoding="utf-8"))["source"]
        if isinstance(source, ImageFile):
            return os.path.abspath(found["path"]) == os.path.abspath(source.path) or None
        if not source.series_uid:
            return None
        return (found["series_uid"], found["volume_key"]) == (source.series_uid, source.volume_key)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _print_summary(report: CaseReport, folder: Path) -> None:
    for warning in report.warnings:
        print(f"warning: {warning}")
    volumes = ", ".join(f"{name} {volume:.2f} ml" for name, volume in report.volume_ml.items())
    lesions = _lesions(report.findings)
    print(f"{len(lesions)} lesion{'' if len(lesions) == 1 else 's'}; {volumes}")
    density = (report.findings or {}).get("breast_density")
    if density is not None:
        print(f"breast density: {100 * density:.0f} % of the volume without skin is fibroglandular tissue")
    if report.doubtful:
        print(_doubtful(report))
    print(f"results: {folder}")
    print(DISCLAIMER)


def _doubtful(report: CaseReport) -> str:
    """Say what was drawn and left out, and where the surest of it is."""
    count, surest = len(report.doubtful), report.doubtful[0]
    right, anterior, superior = surest["place_ras_mm"]
    drawn = (report.run or {}).get("settings", {}).get("piece_threshold")
    lower = f"; --threshold below {drawn:g} draws them" if drawn else ""
    where = f"R {right:g}, A {anterior:g}, S {superior:g} mm"
    places = "place" if count == 1 else "places, the surest"
    return f"doubtful, not drawn: {count} {places} at {where} with a probability of {surest['probability']:.2f}{lower}"


def _print_areas(report: CaseReport, folder: Path) -> None:
    for warning in report.warnings:
        print(f"warning: {warning}")
    area = report.area or {}
    unit = "mm²" if area.get("unit") == "mm2" else "pixels"
    count = len(area.get("pieces", []))
    areas = ", ".join(f"{name} {value:.6g} {unit}" for name, value in area.get("labels", {}).items())
    print(f"{count} lesion{'' if count == 1 else 's'}; {areas}")
    print(f"results: {folder}")
    print(RESEARCH_ONLY)


def _lesions(findings: dict[str, Any] | None) -> list[Any]:
    return list((findings or {}).get("lesions", []))
