"""``lightunet datalist``: list pairs of volumes and label maps for training."""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import struct
from pathlib import Path

from ..errors import InputError, NoImageFoundError, OutputError, UsageError
from ..labels import LabelTable
from .pairing import is_same, is_volume, label_map_of, label_maps_by_name
from .pairing_series import pair_series

Pair = tuple[Path, Path]
"""A volume and its label map."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("images", type=Path, help="folder of volumes: files, or one DICOM folder a case")
    parser.add_argument("labels", type=Path, help="folder of label maps with the same names, or of DICOM SEG")
    parser.add_argument(
        "--tissues", type=Path, metavar="FOLDER", help="folder of tissue maps with the same names, for --model tissues"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the datalist to write")
    parser.add_argument("--validation", type=float, metavar="SHARE", help="share kept for validation (0.2)")
    parser.add_argument("--folds", type=int, metavar="N", help="cross-validation: number the cases 0 to N - 1 instead")
    parser.add_argument(
        "--group",
        metavar="REGEX",
        help="cases whose paths below IMAGES agree in what this matches (its first group, if it has one) are never "
        "divided; for several studies of one patient (DICOM cases: those of one Patient ID)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the division (0)")


def run(arguments: argparse.Namespace) -> int:
    """Write the datalist."""
    from ..outputs.atomic import atomic_file

    if arguments.output.is_dir():
        raise OutputError(f"{arguments.output}: is a folder, expected a file.", hint="Name the datalist to write.")
    share = 0.2 if arguments.validation is None else arguments.validation
    if not 0 <= share < 1:
        raise UsageError(f"option --validation: found {share}, expected 0 or more and below 1.")
    if arguments.folds is not None and arguments.validation is not None:
        raise UsageError("found --folds and --validation, expected one of them: each fold is held out in its turn.")
    for place in (arguments.images, arguments.labels, *([arguments.tissues] if arguments.tissues else [])):
        if not place.is_dir():
            raise NoImageFoundError(f"{place}: no such folder.", hint="lightunet datalist IMAGES LABELS -o FILE.")
    pairs, left_out = _pairs(arguments.images, arguments.labels)
    tissues = _tissues(pairs, arguments.tissues) if arguments.tissues else {}
    _check_grids(pairs, tissues)
    groups = _shuffled_groups(pairs, arguments.images, arguments.group, arguments.seed)
    folder = arguments.output.absolute().parent
    sections = _held_out(groups, share) if arguments.folds is None else _in_folds(groups, arguments.folds)
    entries = {
        name: [
            {
                "image": _relative(image, folder),
                "label": _relative(label, folder),
                **({"tissue": _relative(tissues[image], folder)} if tissues else {}),
                **more,
            }
            for (image, label), more in items
        ]
        for name, items in sections.items()
    }
    labels = {"0": "background", **{str(label.value): label.name for label in LabelTable.shipped()}}
    content = {"labels": labels, **entries}
    with atomic_file(arguments.output) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    counts = ", ".join(f"{len(items)} {name}" for name, items in entries.items())
    print(f"{arguments.output}: {counts} cases" + (f" in {arguments.folds} folds" if arguments.folds else ""))
    for line in left_out:
        print(f"left out: {line}")
    return 0


def _relative(path: Path, folder: Path) -> str:
    """A path from a folder on, as the system goes it: `..` behind a link leaves where the link leads."""
    place = path.parent.resolve() / path.name
    try:
        return os.path.relpath(place, folder.resolve())
    except ValueError:  # no way leads from one drive of Windows to another
        return str(place)


def _tissues(pairs: list[Pair], folder: Path) -> dict[Path, Path]:
    """The tissue map of each volume: the file of its name."""
    by_name = label_maps_by_name(folder)
    found = {image: label_map_of(image, by_name) for image, _ in pairs}
    missing = [image.name for image, tissue in found.items() if tissue is None]
    if missing:
        raise NoImageFoundError(
            f"{folder}: no tissue map for {len(missing)} of {len(pairs)} volumes, the first is {missing[0]}.",
            hint="A tissue map has the name of its volume.",
        )
    return {image: tissue.absolute() for image, tissue in found.items() if tissue is not None}


def _check_grids(pairs: list[Pair], tissues: dict[Path, Path]) -> None:
    """Refuse what training would refuse: label maps and tissue maps that do not lie on the grid of their volume."""
    from ..transforms import LoadImageVolumed
    from ..transforms.check_label_grids import check_label_grids

    # Hounsfield units without a rescale are a matter of training; here only where voxels lie counts.
    loader = LoadImageVolumed("image", label_keys=("label", "tissue"), assume_hu=True)
    cases = [
        {"image": image, "label": label, **({"tissue": tissues[image]} if tissues else {})} for image, label in pairs
    ]
    check_label_grids(cases, loader)


def _shuffled_groups(pairs: list[Pair], images: Path, pattern: str | None, seed: int) -> list[list[Pair]]:
    """Put cases that belong together, by their paths in a folder, into one group; the groups are in random order."""
    try:
        regex = re.compile(pattern) if pattern else None
    except re.error as error:
        raise UsageError(f"option --group: {pattern!r} is no regular expression: {error}.") from error
    groups: dict[object, list[Pair]] = {}
    root = images.absolute()
    patients = {} if regex else _patients(pairs)
    for pair in pairs:
        # A folder above tells no patients apart.
        name = (pair[0].relative_to(root) if pair[0].is_relative_to(root) else pair[0]).as_posix()
        found = regex.search(name) if regex else None
        if regex and not found:
            raise UsageError(
                f"option --group: {pattern!r} matches nothing in {name}.", hint="Match every path below IMAGES."
            )
        own = found[1 if found.re.groups else 0] if found else patients.get(pair[0], name)
        if regex and not own:  # all such cases would be one group
            raise UsageError(
                f"option --group: what {pattern!r} matches in {name} is empty, expected what tells its group.",
                hint="Let its first group, if it has one, match a part of every path below IMAGES.",
            )
        groups.setdefault(own, []).append(pair)
    ordered = list(groups.values())
    random.Random(seed).shuffle(ordered)
    return ordered


def _patients(pairs: list[Pair]) -> dict[Path, tuple[str, str]]:
    """Patient ID and its issuer of DICOM cases that have one; of none if all have the same, as after anonymisation.

    An identity that some of its studies name without an issuer may be that of any.
    """
    found = {image: patient for image, _ in pairs if (patient := _patient_of(image))}
    bare = {own for own, issuer in found.values() if not issuer}
    found = {image: (own, "" if own in bare else issuer) for image, (own, issuer) in found.items()}
    return found if len(set(found.values())) > 1 else {}


def _patient_of(image: Path) -> tuple[str, str] | None:
    from pydicom.uid import MediaStorageDirectoryStorage

    from ..inputs.dicom_file import is_dicom, read_dicom

    if is_volume(image):
        return None
    for path in sorted(image.rglob("*")) if image.is_dir() else [image]:
        try:
            if not path.is_file() or not is_dicom(path):
                continue
            header = read_dicom(path, specific_tags=["PatientID", "IssuerOfPatientID"], stop_before_pixels=True)
            own, issuer = (str(header.get(name) or "").strip() for name in ("PatientID", "IssuerOfPatientID"))
        except (InputError, OSError, EOFError, ValueError, NotImplementedError, struct.error):
            continue  # a damaged one; the loader tells of it
        if header.file_meta.get("MediaStorageSOPClassUID") != MediaStorageDirectoryStorage:  # which names no patient
            return (own, issuer) if own else None
    return None


def _held_out(groups: list[list[Pair]], share: float) -> dict[str, list[tuple[Pair, dict[str, int]]]]:
    """Divide into training and validation; a share above 0 leaves something in both."""
    total = sum(map(len, groups))
    wanted = min(max(1, round(total * share)), total - 1) if share > 0 else 0
    if wanted and len(groups) < 2:
        raise UsageError("option --group: all cases are in one group, which cannot be divided.")
    held_out: list[Pair] = []
    rest: list[list[Pair]] = []
    for group in groups:
        fits = len(held_out) + len(group) <= wanted
        held_out, rest = (held_out + group, rest) if fits else (held_out, [*rest, group])
    if wanted and not held_out:  # every group is larger than what was asked for
        held_out = min(rest, key=len)
        rest.remove(held_out)
    kept = [pair for group in rest for pair in group]
    return {"training": [(pair, {}) for pair in kept], "validation": [(pair, {}) for pair in held_out]}


def _in_folds(groups: list[list[Pair]], count: int) -> dict[str, list[tuple[Pair, dict[str, int]]]]:
    """Number the cases by fold: the largest groups first, each into the fold that is smallest so far."""
    if not 2 <= count <= len(groups):
        raise UsageError(f"option --folds: found {count}, expected 2 to {len(groups)}, the number of groups of cases.")
    sizes = [0] * count
    items = []
    for group in sorted(groups, key=len, reverse=True):
        fold = sizes.index(min(sizes))
        sizes[fold] += len(group)
        items += [(pair, {"fold": fold}) for pair in group]
    return {"training": items}


def _pairs(images: Path, labels: Path) -> tuple[list[Pair], list[str]]:
    """Volumes with their label maps: by name, and DICOM series by the Segmentation that refers to them.

    With it, in words, what is in neither way part of a pair.
    """
    series, without = pair_series(images, labels)
    covered = {path for image, _ in series for path in (image, *image.parents)}
    found = [
        path
        for path in sorted(images.glob("*"))
        if not path.name.startswith(".") and (is_volume(path) or (path.is_dir() and not is_same(path, labels)))
    ]
    by_name = label_maps_by_name(labels)
    named, missing = [], []
    for path in found:
        label = label_map_of(path, by_name)
        if label is not None:
            named.append((path.absolute(), label.absolute()))
        elif path.absolute() not in covered:
            missing.append(path.name)
    twice = {image for image, _ in series} & {image for image, _ in named}
    if twice:
        raise UsageError(f"{min(twice)}: a DICOM Segmentation and a label map of its name, expected one of them.")
    _check_distinct_labels([*named, *series])
    if missing:
        raise NoImageFoundError(
            f"{labels}: no label map for {len(missing)} of {len(found)} volumes, the first is {missing[0]}.",
            hint="A label map has the name of its volume, or is a DICOM Segmentation that refers to its series; "
            "cases without a lesion need an empty one.",
        )
    pairs = sorted([*named, *series])
    if len(pairs) < 2:
        raise NoImageFoundError(f"{images}: volumes with label maps: found {len(pairs)}, expected 2 or more.")
    used = {path for pair in pairs for path in pair}
    unused = [path for paths in by_name.values() for path in paths if path.absolute() not in used]
    alone = [name for name, place in without if not ({place, *place.parents} & used)]
    left_out = [
        f"{len(names)} {what}, the first is {names[0]}"
        for names, what in (
            (sorted(path.name for path in unused), f"label map{'' if len(unused) == 1 else 's'} of no volume"),
            (alone, "DICOM series without a Segmentation"),
        )
        if names
    ]
    return pairs, left_out


def _check_distinct_labels(pairs: list[Pair]) -> None:
    """Refuse two volumes with one label map, and two files of which each would be the label map of the other.

    The case would count twice, in training and in validation.
    """
    volume_by_label: dict[Path, Path] = {}
    images = {image for image, _ in pairs}
    for image, label in pairs:
        if label in images:
            raise UsageError(
                f"{image} and {label}: two files of one name, expected to know which is the volume.",
                hint="Put volumes and label maps into folders of their own.",
            )
        other = volume_by_label.setdefault(label, image)
        if other != image:
            raise UsageError(
                f"{label}: the label map of two volumes, {other} and {image}, expected one.",
                hint="Keep one of them, or give each a name and a label map of its own.",
            )
