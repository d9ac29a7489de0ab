"""``lightunet datalist``: list pairs of volumes and label maps for training."""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AmbiguousSeriesError, NoImageFoundError, OutputError, UsageError
from ..labels import LabelTable

if TYPE_CHECKING:
    from ..sources import DicomSeries

SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("images", type=Path, help="folder of volumes: files, or one DICOM folder a case")
    parser.add_argument("labels", type=Path, help="folder of label maps with the same names, or of DICOM SEG")
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
        "labels": {"0": "background", **{str(label.value): label.name for label in LabelTable.shipped()}},
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
    """Volumes with their label maps: by name, and DICOM series by the Segmentation that refers to them."""
    series = _pairs_by_series(images, labels)
    covered = {path for image, _ in series for path in (image, *image.parents)}
    found = [
        path for path in sorted(images.glob("*")) if _is_volume(path) or (path.is_dir() and not _is_same(path, labels))
    ]
    by_name = _label_maps(labels)
    named, missing = [], []
    for path in found:
        label = _label_of(path, by_name)
        if label is not None:
            named.append((path.absolute(), label.absolute()))
        elif path.absolute() not in covered:
            missing.append(path.name)
    twice = {image for image, _ in series} & {image for image, _ in named}
    if twice:
        raise UsageError(f"{min(twice)}: a DICOM Segmentation and a label map of its name, expected one of them.")
    if missing:
        raise NoImageFoundError(
            f"{labels}: no label map for {len(missing)} of {len(found)} volumes, the first is {missing[0]}.",
            hint="A label map has the name of its volume, or is a DICOM Segmentation that refers to its series; "
            "cases without a lesion need an empty one.",
        )
    pairs = sorted([*named, *series])
    if len(pairs) < 2:
        raise NoImageFoundError(f"{images}: {len(pairs)} volumes with label maps, at least 2 are needed.")
    return pairs


def _pairs_by_series(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    from ..inputs import survey
    from ..sources import DicomSeries

    segmentations = _segmentations(labels)
    if not segmentations:
        return []
    pairs = []
    for source in survey(images).sources:
        if isinstance(source, DicomSeries) and (own := segmentations.get(source.series_uid)):
            if len(own) > 1:
                raise UsageError(
                    f"series {source.series_uid}: {len(own)} DICOM Segmentations refer to it, expected one: "
                    f"{', '.join(map(str, own))}.",
                    hint="Keep the one to train on.",
                )
            pairs.append((_place_of(source).absolute(), own[0].absolute()))
    return pairs


def _segmentations(labels: Path) -> dict[str, list[Path]]:
    """DICOM Segmentations in a folder of any depth, by the series they refer to."""
    from ..transforms.read_dicom_seg import referenced_series

    found: dict[str, list[Path]] = {}
    for path in sorted(labels.rglob("*")):
        if path.is_file() and not path.name.lower().endswith(SUFFIXES):
            for uid in referenced_series(path):
                found.setdefault(uid, []).append(path)
    return found


def _place_of(source: DicomSeries) -> Path:
    """The file or folder from which the loader will choose this series, and no other."""
    from ..inputs import choose_series, discover_sources

    place = source.paths[0] if len(source.paths) == 1 else source.paths[0].parent
    try:
        chosen = choose_series(discover_sources(place))
    except AmbiguousSeriesError:
        chosen = None
    if not isinstance(chosen, type(source)) or chosen.selector != source.selector:
        raise AmbiguousSeriesError(
            f"{place}: holds more volumes than series {source.selector}, expected one in a folder for training.",
            hint="Put each series into a folder of its own.",
        )
    return place


def _label_maps(labels: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(labels.glob("*")):
        if path.is_file() and path.name.lower().endswith(SUFFIXES):
            found.setdefault(_stem(path), []).append(path)
    return found


def _label_of(image: Path, by_name: dict[str, list[Path]]) -> Path | None:
    """The label map with the name of a volume; the volume itself may lie in the same folder."""
    found = [path for path in by_name.get(_stem(image), []) if not _is_same(path, image)]
    if len(found) > 1:
        raise UsageError(f"{image}: {len(found)} label maps have its name, expected one: {', '.join(map(str, found))}.")
    return found[0] if found else None


def _is_same(path: Path, other: Path) -> bool:
    return path.absolute() == other.absolute()


def _is_volume(path: Path) -> bool:
    name = path.name.lower()
    return path.is_file() and name.endswith(SUFFIXES) and not name.endswith(".seg.nrrd")


def _stem(path: Path) -> str:
    name = path.name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
