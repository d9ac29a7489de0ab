"""``lightunet datalist``: list pairs of volumes and label maps for training."""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path

from ..errors import NoImageFoundError, OutputError, UsageError

SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("images", type=Path, help="folder of volumes: files, or one DICOM folder a case")
    parser.add_argument("labels", type=Path, help="folder of label maps with the same names")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the datalist to write")
    parser.add_argument(
        "--validation", type=float, default=0.2, metavar="SHARE", help="share kept for validation (0.2)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the division (0)")


def run(arguments: argparse.Namespace) -> int:
    """Write the datalist."""
    if not 0 <= arguments.validation < 1:
        raise UsageError(f"option --validation: found {arguments.validation}, expected 0 or more and below 1.")
    pairs = _pairs(arguments.images, arguments.labels)
    random.Random(arguments.seed).shuffle(pairs)
    held_out = round(len(pairs) * arguments.validation)
    if arguments.validation > 0:
        held_out = min(max(1, held_out), len(pairs) - 1)
    folder = arguments.output.absolute().parent
    entries = [
        {"image": os.path.relpath(image, folder), "label": os.path.relpath(label, folder)} for image, label in pairs
    ]
    content = {
        "labels": {"0": "background", "1": "tumor"},
        "training": entries[held_out:],
        "validation": entries[:held_out],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = arguments.output.with_name(arguments.output.name + ".part")
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        part.replace(arguments.output)
    except OSError as error:
        raise OutputError(f"{arguments.output}: cannot be written: {error.strerror}.") from error
    print(f"{arguments.output}: {len(pairs) - held_out} training, {held_out} validation cases")
    return 0


def _pairs(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    by_name = {_stem(path): path for path in sorted(labels.glob("*")) if _is_volume(path)}
    found = [path for path in sorted(images.glob("*")) if path.is_dir() or _is_volume(path)]
    pairs = [(path.absolute(), by_name[_stem(path)].absolute()) for path in found if _stem(path) in by_name]
    missing = [path.name for path in found if _stem(path) not in by_name]
    if missing:
        raise NoImageFoundError(
            f"{labels}: no label map for {len(missing)} of {len(found)} volumes, the first is {missing[0]}.",
            hint="A label map has the name of its volume; cases without a lesion need an empty one.",
        )
    if len(pairs) < 2:
        raise NoImageFoundError(f"{images}: {len(pairs)} volumes with label maps, at least 2 are needed.")
    return pairs


def _is_volume(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def _stem(path: Path) -> str:
    name = path.name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
