"""Flags for `RunOptions`, the same in every subcommand that runs the model."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from ..options import ENGINES, PRECISIONS, RunOptions


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add one flag for each field of `RunOptions`, and those that choose the model of a bundle."""
    model = parser.add_argument_group("model")
    model.add_argument("--bundle", type=Path, metavar="FOLDER", help="model bundle (default: the shipped one)")
    model.add_argument(
        "--model",
        metavar="NAME",
        help="breast-ct, tissues for tissue labels too, or ultrasound for one 2-D image: PNG, JPEG, TIFF, DICOM US "
        "(the bundle's)",
    )
    model.add_argument(
        "--threshold", type=_probability, metavar="P", help="probability from which on a voxel is tumour (the bundle's)"
    )
    run = parser.add_argument_group("how it runs; the result stays the same")
    run.add_argument("--device", help="cpu, cuda, cuda:1 or mps (default: cuda if there is one)")
    run.add_argument("--engine", choices=ENGINES, help="what runs the network (default: the fastest that is installed)")
    run.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="arithmetic of the network (default: what the engine does best); int8 draws some voxels otherwise",
    )
    run.add_argument("--sw-batch-size", type=int, metavar="N", help="slices computed at once; fewer need less memory")
    run.add_argument("--overlap", type=float, metavar="F", help="blend windows that overlap by F, for comparison only")
    run.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")


def run_options(arguments: argparse.Namespace) -> RunOptions:
    """Make the options of a run from parsed flags.

    Raises
    ------
    UsageError
        If a value is out of range.
    """
    return RunOptions(**{field.name: getattr(arguments, field.name) for field in fields(RunOptions)})


def _probability(text: str) -> float:
    value = number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def study_path(text: str) -> Path:
    """Parse where a study is; an empty text, as of a variable that is not set, is not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path, expected a file or folder; '.' is the current folder")
    return Path(text)


def number(text: str) -> float:
    """Read a number, for the type of an option; argparse would name the function in its message."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
