"""Which label map belongs to which volume, or to which other label map: by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import NoImageFoundError, UsageError

SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".seg.nhdr", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Of files that may hold a label map; longer ones before those they end with."""

_NO_PARTNER = "Every case needs a prediction and a reference; one without a lesion needs an empty label map."
_NO_PARTNER_IN_BATCH = (
    "Name the references like the folders of the results, or like their volumes and name the folder of these with "
    "--images."
)


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


def pair_label_maps(predictions: Path, references: Path, images: Path | None = None) -> list[tuple[str, Path, Path]]:
    """Pair predicted label maps with their references.

    Parameters
    ----------
    predictions, references : Path
        Two files, or two folders of files with the same names (their endings may differ). A folder of predictions may
        also hold what this package writes: a folder of the case's name with ``labelmap`` or ``NAME_seg`` in it. It may
        be the output folder of a batch, whose cases bear keys.
    images : Path or None
        Folder of the volumes with the names of the references. With the results of a batch a case is found by its
        volume, whatever that is called; results of other volumes are left out, and a line says how many.

    Returns
    -------
    list of tuple
        Name of the case, prediction, reference; in the order of the names.

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
        return [(stem(references), predictions, references)]
    if predictions.is_file() or references.is_file():
        raise UsageError(f"{predictions} and {references}: a file and a folder, expected two of a kind.")
    cases = _cases_of_batch(predictions)
    predictions = cases or predictions
    predicted = _results(predictions)
    for name, paths in label_maps_by_name(predictions).items():
        predicted.setdefault(name, []).extend(paths)
    expected = label_maps_by_name(references)
    for folder, found in ((predictions, predicted), (references, expected)):
        if not found:
            raise NoImageFoundError(f"{folder}: no label map, expected files that end with {', '.join(SUFFIXES)}.")
        twice = next((paths for paths in found.values() if len(paths) > 1), None)
        if twice:
            names = ", ".join(str(path.relative_to(folder)) for path in twice)
            raise UsageError(f"{folder}: {len(twice)} label maps of one name: {names}.")
    if cases is not None and images is not None and not expected.keys() <= predicted.keys():
        predicted = _by_volume(predicted, expected, images, cases)
    for folder, missing in ((predictions, expected.keys() - predicted), (references, predicted.keys() - expected)):
        if missing:
            raise NoImageFoundError(
                f"{folder}: no label map for {len(missing)} of {len(expected | predicted)} cases, "
                f"the first is {min(missing)}.",
                hint=_NO_PARTNER if cases is None else _NO_PARTNER_IN_BATCH,
            )
    return [(name, predicted[name][0], expected[name][0]) for name in sorted(expected)]


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


def _cases_of_batch(folder: Path) -> Path | None:
    """The folder of the cases where `folder` is it, or the output folder of `lightunet batch` itself."""
    from ..batch.ledger import FILE_NAME
    from ..batch.publish import CASES

    if (folder / FILE_NAME).is_file():
        return folder / CASES
    return folder if folder.name == CASES and (folder.parent / FILE_NAME).is_file() else None


def _by_volume(
    results: dict[str, list[Path]], names: Iterable[str], images: Path, cases: Path
) -> dict[str, list[Path]]:
    """Name the results of a batch like the volumes they are of, by the keys of these."""
    from ..batch.keys import case_key
    from ..inputs import discover_sources

    named, used = {}, set()
    for name in sorted(names):
        volume = volume_of(name, images)
        keys = sorted({case_key(source) for source in discover_sources(volume)} & results.keys())
        if not keys:
            raise NoImageFoundError(
                f"{cases}: no result of {volume}, as it is now.", hint="Run the batch on this folder again."
            )
        if len(keys) > 1:
            raise UsageError(
                f"{volume}: {len(keys)} volumes with results, {' and '.join(keys)}, expected one.",
                hint="Name the reference of each like the folder of its results.",
            )
        named[name] = results[keys[0]]
        used.add(keys[0])
    if len(used) < len(results):
        print(f"{len(results) - len(used)} of {len(results)} results of the batch have no reference: not counted.")
    return named


def _results(folder: Path) -> dict[str, list[Path]]:
    """One label map for each folder of results; its formats hold the same, so the first will do."""
    from ..batch.publish import CHANGED

    found = {}
    for case in sorted(path for path in folder.glob("*") if path.is_dir() and CHANGED not in path.name):
        inside = [path for path in sorted(case.glob("*")) if _is_label_map(path)]
        own = [path for path in inside if stem(path) in ("labelmap", f"{case.name}_seg")]
        if own:
            found[case.name] = own[:1]
    return found
