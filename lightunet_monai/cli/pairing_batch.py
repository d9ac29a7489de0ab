"""Which result of a batch belongs to which reference: the one of the same volume, which names it by its content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..batch.keys import case_key
from ..batch.ledger import FILE_NAME
from ..batch.publish import CASES
from ..errors import NoImageFoundError, UsageError
from ..inputs import discover_sources, survey
from ..sources import DicomSeries, ImageSource
from .pairing import Pair, label_maps_by_name, only_once, predictions_by_name, volume_of
from .pairing_series import only_segmentation, segmentations_by_series

NO_PARTNER = (
    "With --images VOLUMES the references are named like the volumes, or are DICOM Segmentations of their series; "
    "without it they are named like the folders of the results."
)


def cases_of_batch(folder: Path) -> Path | None:
    """Give the folder of the cases where `folder` is it, or the output folder of `lightunet batch` itself."""
    if (folder / FILE_NAME).is_file():
        return folder / CASES
    return folder if folder.name == CASES and (folder.parent / FILE_NAME).is_file() else None


def pair_results(cases: Path, references: Path, images: Path) -> list[Pair]:
    """Pair the results of a batch with references. Results of other volumes are left out; a line says how many.

    Parameters
    ----------
    cases : Path
        As `cases_of_batch` gives it.
    references : Path
        Folder of label maps with the names of the volumes, and, at any depth, of DICOM Segmentations.
    images : Path
        Folder of the volumes.

    Returns
    -------
    list of Pair
        With their volumes, by whose names, or folders from `images` on, they are called; in the order of these.

    Raises
    ------
    NoImageFoundError
        If there is no label map, or a reference has no volume or no result.
    UsageError
        If two references are of one volume, or a volume has two results.
    """
    results = predictions_by_name(cases)
    by_key: dict[str, Pair] = {}
    for name, place, volumes, reference in _references(references, images):
        key, volume = _result_of(place, volumes, results, cases)
        pair = Pair(name, results[key], reference, volume)
        if (other := by_key.setdefault(key, pair)) is not pair:
            raise UsageError(f"{other.reference} and {reference}: references of one volume, {place}, expected one.")
    if len(by_key) < len(results):
        print(f"{len(results) - len(by_key)} of {len(results)} results of the batch have no reference: not counted.")
    return sorted(by_key.values(), key=lambda pair: pair.name)


def _references(references: Path, images: Path) -> Iterator[tuple[str, Path, list[ImageSource], Path]]:
    """Name of a case, where its volume lies, what is there, and its reference."""
    found = list(_by_series(references, images))
    yield from found
    by_name = label_maps_by_name(references)
    if by_name or not found:
        for name, reference in only_once(references, by_name).items():
            place = volume_of(name, images)
            yield name, place, discover_sources(place), reference


def _by_series(references: Path, images: Path) -> Iterator[tuple[str, Path, list[ImageSource], Path]]:
    segmentations = segmentations_by_series(references)
    if not segmentations:
        return
    series: dict[str, list[DicomSeries]] = {}
    for source in survey(images).sources:
        if isinstance(source, DicomSeries) and source.series_uid in segmentations:
            series.setdefault(source.series_uid, []).append(source)
    drawn_on_found = {path for uid in series for path in segmentations[uid]}
    without = sorted({path for paths in segmentations.values() for path in paths} - drawn_on_found)
    if without:
        raise NoImageFoundError(
            f"{images}: no series that {without[0]} refers to; {len(without)} of the references have none.",
            hint="Add the series, or take these references away.",
        )
    folders = {uid: volumes[0].paths[0].parent for uid, volumes in series.items()}
    for uid, folder in folders.items():
        reference = only_segmentation(segmentations, uid)
        assert reference is not None
        name = folder.absolute().relative_to(images.absolute()).as_posix()
        is_shared = name == "." or list(folders.values()).count(folder) > 1
        yield f"{name}/{uid}" if is_shared else name, folder, list(series[uid]), reference


def _result_of(
    place: Path, volumes: list[ImageSource], results: dict[str, Path], cases: Path
) -> tuple[str, ImageSource]:
    """Key and source of the one volume in a place that has a result."""
    found = {key: source for source in volumes if (key := case_key(source)) in results}
    if not found:
        raise NoImageFoundError(
            f"{cases}: no result of {place}, as it is now.", hint="Run the batch on this volume, with the same -o."
        )
    if len(found) > 1:
        raise UsageError(
            f"{place}: {len(found)} volumes with results, {' and '.join(sorted(found))}, expected one.",
            hint="Leave out --images, and name the reference of each like the folder of its results.",
        )
    return next(iter(found.items()))
