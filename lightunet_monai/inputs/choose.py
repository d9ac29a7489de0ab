"""Choosing one source, or refusing a choice that would be a guess.

The rule for the obvious candidate, in this order:

1. usable volumes before unusable ones (another modality, broken geometry);
2. volumes with at least a tenth of the slices of the largest one (a bolus check has a few);
3. original volumes before those that Image Type calls derived.

If one is left it is chosen. If several are left, nothing is chosen and they are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import AmbiguousSeriesError, NoImageFoundError, SeriesNotFoundError
from ..sources import DicomSeries, ImageSource

_SHORT_FRACTION = 0.1
"""A volume with fewer slices than this part of the largest one is a by-product of the examination."""


def choose_series(sources: Sequence[ImageSource], series_uid: str | None = None) -> ImageSource:
    """Choose one source.

    Parameters
    ----------
    sources : sequence of ImageSource
        From `discover_sources`.
    series_uid : str, optional
        Series Instance UID; with ``:key`` behind it where one series holds several volumes, as the list in
        the message of `AmbiguousSeriesError` gives it; or the name of a file.

    Returns
    -------
    ImageSource
        The only candidate, or the one asked for; it may be one that `load_volume` refuses.

    Raises
    ------
    SeriesNotFoundError
        If no source has this UID.
    AmbiguousSeriesError
        If several could be meant.
    NoImageFoundError
        If there are no sources.
    """
    if not sources:
        raise NoImageFoundError("no image found, expected at least one.", hint="Check the path.")
    if series_uid is not None:
        sources = _matching(sources, series_uid)
    candidates = list(sources)
    for is_better in (_is_usable, _is_long_enough(sources), _is_original):
        if len(candidates) > 1:
            candidates = [source for source in candidates if is_better(source)] or candidates
    if len(candidates) == 1:
        return candidates[0]
    if not any(map(_is_usable, candidates)):
        # Nothing to choose from: the longest one explains best what is wrong.
        return max(candidates, key=_slice_count)
    raise AmbiguousSeriesError(
        f"{len(candidates)} volumes could be meant, expected 1:\n" + "\n".join(map(_line, candidates)),
        hint="Choose one with --series, or all with --all.",
    )


def _matching(sources: Sequence[ImageSource], series_uid: str) -> list[ImageSource]:
    exact = [source for source in sources if _selector(source) == series_uid]
    found = exact or [source for source in sources if _uid(source) == series_uid]
    if not found:
        listed = ", ".join(map(_selector, sources[:20]))
        raise SeriesNotFoundError(f"series {series_uid} is not here, found: {listed}.", hint="Give one of these UIDs.")
    return found


def _selector(source: ImageSource) -> str:
    return source.selector if isinstance(source, DicomSeries) else source.name


def _uid(source: ImageSource) -> str:
    return source.series_uid if isinstance(source, DicomSeries) else str(source.path)


def _is_usable(source: ImageSource) -> bool:
    return not isinstance(source, DicomSeries) or source.problem is None


def _is_original(source: ImageSource) -> bool:
    return not isinstance(source, DicomSeries) or not source.is_derived


def _is_long_enough(sources: Sequence[ImageSource]) -> Callable[[ImageSource], bool]:
    longest = max((_slice_count(source) for source in sources if _is_usable(source)), default=0)
    return lambda source: not isinstance(source, DicomSeries) or _slice_count(source) >= _SHORT_FRACTION * longest


def _slice_count(source: ImageSource) -> int:
    return len(source.slices) if isinstance(source, DicomSeries) else 0


def _line(source: ImageSource) -> str:
    if not isinstance(source, DicomSeries):
        return f"  {source.path}"
    columns, rows, _ = source.shape or (0, 0, 0)
    return f"  {source.selector}  {source.modality}  {columns} x {rows} x {len(source.slices)}  {source.description}"
