"""`lightunet simulate`: labelled breast CT volumes from a seed, for training and demonstration."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    parser.add_argument("-n", "--count", type=_positive, default=1, help="number of cases (default: 1)")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the data set (default: 0); sets of one seed share breasts and lesions, whatever the recipe",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--format", choices=["nifti", "dicom"], default="nifti", help="file format (default: nifti)")
    parser.add_argument(
        "--recipe",
        choices=["train", "noisy", "forms", "validation", "test", "noisy_test", "hard"],
        default="train",
        help="ranges to draw from (default: train); noisy: from few photons, and forms: gland of other forms, are for "
        "training, too; validation, test, noisy_test and hard hold what training never shows",
    )
    parser.add_argument(
        "--spacing", type=float, nargs="+", metavar="MM", help="voxel edge in mm, one value or a range of two"
    )
    parser.add_argument("--size", type=_positive, metavar="N", help="most voxels along an axis")
    parser.add_argument(
        "--projection", action="store_true", help="cone-beam projections and FDK: slower; extra: projection"
    )
    parser.add_argument("--jobs", type=_positive, default=1, help="processes (default: 1)")
    parser.add_argument("--quiet", action="store_true", help="print no line per case")


def run(arguments: argparse.Namespace) -> int:
    """Write the data set; return the exit code."""
    from ..errors import UsageError
    from ..outputs.atomic import as_output_error
    from ..outputs.folder_lock import locked_folder
    from ..simulation.dataset import DatasetPlan, simulate_dataset
    from ..simulation.recipes import RECIPES, SPLITS
    from ..simulation.settings import MAX_VOXELS, MIN_VOXELS

    settings = RECIPES[arguments.recipe]
    if arguments.spacing:
        if len(arguments.spacing) > 2:
            raise UsageError(f"--spacing: {len(arguments.spacing)} values found, one or two expected.")
        settings = settings.changed(spacing=(arguments.spacing[0], arguments.spacing[-1]))
    if arguments.size:
        if not MIN_VOXELS <= arguments.size <= MAX_VOXELS:
            raise UsageError(f"--size: {arguments.size} found, {MIN_VOXELS} to {MAX_VOXELS} expected.")
        settings = settings.changed(max_voxels=arguments.size)
    if arguments.projection:
        settings = settings.changed(acquisition="projection", families=("pendant",), family_weights=(1.0,))
    plan = DatasetPlan(
        arguments.output,
        arguments.count,
        arguments.seed,
        settings,
        split=SPLITS[arguments.recipe],
        file_format=arguments.format,
    )

    def print_case(name: str, is_new: bool) -> None:
        if not arguments.quiet:
            print(f"{name} {'written' if is_new else 'already there'}", flush=True)

    with as_output_error(arguments.output):
        arguments.output.mkdir(parents=True, exist_ok=True)
    with locked_folder(arguments.output, wait=False):  # two would write the same files
        print(simulate_dataset(plan, jobs=arguments.jobs, on_case=print_case))
    return 0


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} found, at least 1 expected")
    return value
