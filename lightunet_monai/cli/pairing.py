"""Which label map belongs to which volume, or to which other label map: by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import NoImageFoundError, UsageError
from ..sources import ImageSource

SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".seg.nhdr", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Of files that may hold a label map; longer ones before those they end with."""

DICOM_SEGMENTATIONS = ("segmentation.dcm", "segmentation_labelmap.dcm")
"""What a folder of results may hold in place of a label map."""

NO_PARTNER = "Every case needs a prediction and a reference; one without a lesion needs an empty label map."


def label_maps_by_name(labels: Path) -> dict[str, list[Path]]:
    """List the label map files of a folder by their name without its ending."""
    found: dict[str, list[Path]] = {}
    for path in sorted(labels.glob("*")):
        if _is_label_map(path):
            found.setdefault(stem(path), []).append(path)
    return found


def label_map_of(image: Path, by_name: dict[str, list[Path]]) -> Path | None:
    """Give the label map with the name of a volume; the volume itself may lie in the same folder."""
    found = [path for path in by_name.get(stem(image), []) if not is_same(path, image)]
    if len(found) > 1:
        raise UsageError(f"{image}: {len(found)} label maps have its name, expected one: {', '.join(map(str, found))}.")
    return found[0] if found else None


@dataclass(frozen=True)
class Pair:
    """A predicted label map and its reference.

    Parameters
    ----------
    name : str
        Of the case.
    prediction, reference : Path
        Files.
    volume : ImageSource or None
        Where the pair was found by it.
    """

    name: str
    prediction: Path
    reference: Path
    volume: ImageSource | None = None


def pair_label_maps(predictions: Path, references: Path, hint: str = NO_PARTNER) -> list[Pair]:
    """Pair predicted label maps with their references.

    Parameters
    ----------
    predictions, references : Path
        Two files, or two folders of files with the same names (their endings may differ). A folder of predictions may
        also hold what this package writes: a folder of the case's name with ``labelmap`` or ``NAME_seg`` in it, or a
        DICOM Segmentation.
    hint : str
        What to do about one without a partner.

    Returns
    -------
    list of Pair
        In the order of the names.

    Raises
    ------
    NoImageFoundError
        If there is no label map, or one is without its partner on either side.
    UsageError
        If one is a file and the other a folder, or two files have one name.
    """
    for path in (predictions, references):
        if not path.exists():
            raise NoImageFoundError(f"{path}: not there.", hint="Name a folder of label maps, or one label map.")
    if predictions.is_file() and references.is_file():
        return [Pair(stem(references), predictions, references)]
    if predictions.is_file() or references.is_file():
        raise UsageError(f"{predictions} and {references}: a file and a folder, expected two of a kind.")
    predicted = predictions_by_name(predictions)
    expected = only_once(references, label_maps_by_name(references))
    for folder, missing in ((predictions, expected.keys() - predicted), (references, predicted.keys() - expected)):
        if missing:
            raise NoImageFoundError(
                f"{folder}: no label map for {len(missing)} of {len(expected | predicted)} cases, "
                f"the first is {min(missing)}.",
                hint=hint,
            )
    return [Pair(name, predicted[name], expected[name]) for name in sorted(expected)]


def predictions_by_name(folder: Path) -> dict[str, Path]:
    """Give the label maps of a folder, and those of the folders of results in it, by name."""
    predicted = _results(folder)
    for name, paths in label_maps_by_name(folder).items():
        predicted.setdefault(name, []).extend(paths)
    return only_once(folder, predicted)


def only_once(folder: Path, found: dict[str, list[Path]]) -> dict[str, Path]:
    """Refuse a folder without label maps, or with two of one name."""
    if not found:
        raise NoImageFoundError(f"{folder}: no label map, expected files that end with {', '.join(SUFFIXES)}.")
    twice = next((paths for paths in found.values() if len(paths) > 1), None)
    if twice:
        names = ", ".join(str(path.relative_to(folder)) for path in twice)
        raise UsageError(f"{folder}: {len(twice)} label maps of one name: {names}.")
    return {name: paths[0] for name, paths in found.items()}


def volume_of(name: str, images: Path) -> Path:
    """Find the volume of a case in a folder: a file, or a folder of DICOM files, with its name.

    Raises
    ------
    NoImageFoundError
        If there is none.
    """
    for path in sorted(images.glob("*")):
        if stem(path) == name and not path.name.startswith(".") and (is_volume(path) or path.is_dir()):
            return path
    raise NoImageFoundError(f"{images}: no volume of the name {name}.", hint="Leave out --images, or add the volume.")


def is_same(path: Path, other: Path) -> bool:
    """Whether two paths name one file."""
    return path.absolute() == other.absolute()


def is_volume(path: Path) -> bool:
    """Whether a path looks like a volume in one file, by its name."""
    name = path.name.lower()
    return path.is_file() and name.endswith(SUFFIXES) and not name.endswith((".seg.nrrd", ".seg.nhdr"))


def stem(path: Path) -> str:
    """Name of a file without the endings of label maps and volumes."""
    name = path.name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _is_label_map(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def _results(folder: Path) -> dict[str, list[Path]]:
    """One label map for each folder of results; its formats hold the same, so the first will do."""
    from ..batch.publish import CHANGED

    found = {}
    for case in sorted(path for path in folder.glob("*") if path.is_dir() and CHANGED not in path.name):
        files = [path for path in sorted(case.glob("*")) if path.is_file()]
        own = [path for path in files if _is_label_map(path) and stem(path) in ("labelmap", f"{case.name}_seg")]
        own = own or [path for path in files if path.name in DICOM_SEGMENTATIONS]
        if own:
            found[case.name] = own[:1]
    return found
