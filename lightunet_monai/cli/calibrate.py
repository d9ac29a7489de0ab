"""``lightunet calibrate``: fit the temperature and choose the operating threshold on labelled cases."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import Any

from ..errors import BundleError
from .progress import choose_reporter
from .run_options import add_run_options, run_options

CUTS = tuple(c / 2 for c in range(-8, 9))
"""Logits, before the temperature, at which the free-response curve is measured."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("--data", type=Path, required=True, metavar="DATALIST", help="datalist.json with references")
    parser.add_argument("--section", default="validation", help="section of the datalist (validation)")
    parser.add_argument(
        "--false-positives", type=float, default=0.5, metavar="N", help="most false positives per volume (0.5)"
    )
    parser.add_argument(
        "--write", action="store_true", help="write both numbers into the configuration of the bundle given by --bundle"
    )
    parser.add_argument(
        "--progress", choices=("auto", "bar", "json", "none"), default="auto", help="a bar, or JSON lines"
    )
    add_run_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, and write if asked."""
    from ..errors import UsageError
    from ..evaluation.calibration import OperatingPoint, choose_point
    from ..evaluation.summary import summarize
    from ..inference import Predictor
    from ..inference.bundle import find_bundle

    if arguments.write and arguments.bundle is None:
        raise UsageError("option --write: needs --bundle FOLDER, the bundle to change.")
    predictor = Predictor(arguments.bundle, run_options(arguments))
    calibration, scores = _measure(arguments, predictor)
    before = float(predictor.parts.settings["temperature"])  # type: ignore[arg-type]
    factor = calibration.fit_temperature()
    temperature = before * factor
    print(f"temperature {before:.3f} -> {temperature:.3f}; of the voxels with a probability of 0.1 and more:")
    print(f"calibration error {calibration.calibration_error(1.0):.3f} -> {calibration.calibration_error(factor):.3f}")
    points = [
        OperatingPoint.from_summary(1.0 / (1.0 + math.exp(-cut / temperature)), summarize(found))
        for cut, found in scores.items()
    ]
    chosen = choose_point(points, arguments.false_positives)
    print("\n| threshold | sensitivity, 5 mm and more | mean Dice, 5 mm and more | false positives per volume |")
    print("|---|---|---|---|")
    for point in points:
        mark = " *" if point is chosen else ""
        print(
            f"| {point.threshold:.3f}{mark} | {point.sensitivity:.3f} | {point.dice:.3f} | "
            f"{point.false_positives:.2f} |"
        )
    threshold = round(chosen.threshold, 3)
    print(f"\nthreshold {threshold:g}, temperature {temperature:.3f}")
    if arguments.write:
        config = find_bundle(arguments.bundle) / "configs" / "inference.json"
        write_numbers(config, threshold=threshold, temperature=round(temperature, 3))
        print(f"written to {config}")
    return 0


def _measure(arguments: argparse.Namespace, predictor: Any) -> tuple[Any, dict[float, list[Any]]]:
    from ..evaluation import score_case
    from ..evaluation.calibration import Calibration
    from ..transforms import list_labelled_cases
    from .evaluate import cut_at, read_case

    tell = choose_reporter(arguments.progress)
    cases = list_labelled_cases(arguments.data, arguments.section)
    calibration = Calibration()
    scores: dict[float, list[Any]] = {cut: [] for cut in CUTS}
    temperature = float(predictor.parts.settings["temperature"])
    for index, case in enumerate(cases):
        tell("infer", index / len(cases))
        volume, reference = read_case(case)
        result = predictor.segment(volume, with_probability=True).segmentation
        calibration.add(result.probability, reference)
        for cut in CUTS:
            mask = cut_at(predictor, result, 1.0 / (1.0 + math.exp(-cut / temperature)))
            scores[cut].append(score_case(Path(case["image"]).name, mask, reference, result.voxel_volume_ml))
    tell("write", 1.0)
    return calibration, scores


def write_numbers(config: Path, **numbers: float) -> None:
    """Replace top-level numbers of a configuration, leaving every other character as it is.

    Parameters
    ----------
    config : Path
        ``inference.json``; replaced in one step.
    **numbers : float
        New value by id.

    Raises
    ------
    BundleError
        If an id is not there exactly once as a number.
    """
    text = config.read_text(encoding="utf-8")
    for name, value in numbers.items():
        text, count = re.subn(rf'("{name}":\s*)-?[0-9.]+(?:e-?[0-9]+)?', rf"\g<1>{value:g}", text)
        if count != 1:
            raise BundleError(
                f"{config}: {name} found {count} times as a number, expected once.",
                hint=f"Write {name} = {value:g} by hand.",
            )
    part = config.with_name(config.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(config)
