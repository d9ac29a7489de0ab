"""Which DICOM Segmentation belongs to which series: the one that it refers to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AmbiguousSeriesError, InputError, UsageError
from .pairing import SUFFIXES

if TYPE_CHECKING:
    from ..sources import DicomSeries


def pair_series(images: Path, labels: Path) -> tuple[list[tuple[Path, Path]], list[tuple[str, Path]]]:
    """Give DICOM series with their Segmentations, and name and first file of those without one.

    Parameters
    ----------
    images, labels : Path
        Folders of any depth.

    Returns
    -------
    list of tuple
        File or folder of a series, its Segmentation; absolute paths.
    list of tuple
        Selector and first file of a series without one.

    Raises
    ------
    UsageError
        If several Segmentations refer to one series.
    AmbiguousSeriesError
        If a series lies beside others.
    """
    from ..inputs import survey
    from ..sources import DicomSeries

    segmentations = segmentations_by_series(labels)
    if not segmentations:
        return [], []
    pairs, without = [], []
    for source in survey(images).sources:
        if not isinstance(source, DicomSeries):
            continue
        if (segmentation := only_segmentation(segmentations, source.series_uid)) is not None:
            pairs.append((_place_of(source).absolute(), segmentation.absolute()))
        else:
            without.append((source.selector, source.paths[0].absolute()))
    return pairs, without


def segmentations_by_series(labels: Path) -> dict[str, list[Path]]:
    """Give the DICOM Segmentations in a folder of any depth by the series that they refer to."""
    from ..transforms.read_dicom_seg import referenced_series

    found: dict[str, list[Path]] = {}
    for path in sorted(labels.rglob("*")):
        if path.is_file() and not path.name.lower().endswith(SUFFIXES):
            for uid in referenced_series(path):
                found.setdefault(uid, []).append(path)
    return found


def only_segmentation(segmentations: dict[str, list[Path]], series_uid: str) -> Path | None:
    """Give the Segmentation of a series; None where there is none, refused where there are several."""
    own = segmentations.get(series_uid, [])
    if len(own) > 1:
        raise UsageError(
            f"series {series_uid}: {len(own)} DICOM Segmentations refer to it, expected one: "
            f"{', '.join(map(str, own))}.",
            hint="Keep the one that counts.",
        )
    return own[0] if own else None


def _place_of(source: DicomSeries) -> Path:
    """The file or folder from which the loader will choose this series, and no other."""
    from ..inputs import choose_series, discover_sources

    place = source.paths[0] if len(source.paths) == 1 else source.paths[0].parent
    try:
        chosen = choose_series(discover_sources(place))
    except InputError:
        chosen = None
    if not isinstance(chosen, type(source)) or chosen.selector != source.selector:
        raise AmbiguousSeriesError(
            f"{place}: holds more volumes than series {source.selector}, expected one in a folder for training.",
            hint="Put each series into a folder of its own.",
        )
    return place
