"""Choosing one source, or refusing a choice that would be a guess.

The rule for the obvious candidate, in this order:

1. what can be a CT volume before what is none (another modality, a single image);
2. volumes with at least a tenth of the slices of the largest one (a bolus check has a few);
3. original volumes before those that Image Type calls derived.

A volume that cannot be loaded takes part like the others: were it passed over, a broken main series would silently be
replaced by whatever lies beside it. If one is left it is chosen, or its problem is raised where others would load. If
several are left, nothing is chosen and they are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import AmbiguousSeriesError, InputError, NoImageFoundError, SeriesNotFoundError
from ..sources import DicomSeries, ImageSource
from .hounsfield import remaining_problem

_SHORT_FRACTION = 0.1
"""A volume with fewer slices than this part of the largest one is a by-product of the examination."""

_NO_VOLUME = frozenset(("modality", "single-slice"))
"""Reasons of problems that say what a source is, not what is wrong with it."""

_LISTED = 20
"""How many sources a message names."""


def choose_series(
    sources: Sequence[ImageSource],
    series_uid: str | None = None,
    *,
    assume_hu: bool = False,
    regularize: bool = False,
) -> ImageSource:
    """Choose one source.

    Parameters
    ----------
    sources : sequence of ImageSource
        From `discover_sources`.
    series_uid : str, optional
        Series Instance UID; with ``:key`` behind it where one series holds several volumes, as the list in
        the message of `AmbiguousSeriesError` gives it; or the name or path of a file.
    assume_hu, regularize : bool
        As `load_volume` will be told; what they take care of is no problem.

    Returns
    -------
    ImageSource
        The only candidate, or the one asked for; if no source can be loaded, one that `load_volume` refuses.

    Raises
    ------
    SeriesNotFoundError
        If no source has this UID.
    AmbiguousSeriesError
        If several could be meant.
    NoImageFoundError
        If there are no sources.
    InputError
        The problem of the one that is meant, if it has one and others would load: they are named.
    """
    if not sources:
        raise NoImageFoundError("no image found, expected at least one.", hint="Check the path.")
    if series_uid is not None:
        sources = _matching(sources, series_uid)
    problems = {
        id(source): remaining_problem(source, assume_hu=assume_hu, allow_shear=regularize) for source in sources
    }
    candidates = list(sources)
    for is_better in (_is_volume, _is_long_enough(sources), _is_original):
        if len(candidates) > 1:
            candidates = [source for source in candidates if is_better(source)] or candidates
    usable = [source for source in sources if problems[id(source)] is None]
    if len(candidates) > 1 and any(problems[id(source)] is None for source in candidates):
        lines = [_line(source, problems[id(source)]) for source in candidates]
        raise AmbiguousSeriesError(
            f"{len(candidates)} volumes could be meant, expected 1:\n" + ";\n".join(lines),
            hint="Choose one with --series, or all with --all.",
        )
    # If there is nothing to choose from, the longest one explains best what is wrong.
    chosen = max(candidates, key=_slice_count)
    problem = problems[id(chosen)]
    if problem is not None and usable:
        raise _with_others(problem, usable)
    return chosen


def _with_others(problem: InputError, usable: Sequence[ImageSource]) -> InputError:
    """The problem of the source that is meant, with those that could be taken instead."""
    listed = ", ".join([*map(_selector, usable[:_LISTED]), *(["..."] if len(usable) > _LISTED else [])])
    hint = f"{problem.hint} To take another volume, name it with --series; these would load: {listed}."
    error: InputError = type(problem)(problem.message, hint=hint.strip(), reason=problem.reason)
    return error


def _matching(sources: Sequence[ImageSource], series_uid: str) -> list[ImageSource]:
    exact = [source for source in sources if _selector(source) == series_uid]
    found = exact or [source for source in sources if _uid(source) == series_uid]
    if not found:
        listed = ", ".join(map(_selector, sources[:_LISTED]))
        raise SeriesNotFoundError(f"series {series_uid} is not here, found: {listed}.", hint="Give one of these UIDs.")
    return found


def _selector(source: ImageSource) -> str:
    return source.selector if isinstance(source, DicomSeries) else source.name


def _uid(source: ImageSource) -> str:
    return source.series_uid if isinstance(source, DicomSeries) else str(source.path)


def _is_volume(source: ImageSource) -> bool:
    problem = source.problem if isinstance(source, DicomSeries) else None
    return problem is None or problem.reason not in _NO_VOLUME


def _is_original(source: ImageSource) -> bool:
    return not isinstance(source, DicomSeries) or not source.is_derived


def _is_long_enough(sources: Sequence[ImageSource]) -> Callable[[ImageSource], bool]:
    """Images without places of their own are as many at one place, as of a bolus check, unless nothing is longer."""
    longest = max(
        (_slice_count(source) for source in sources if _is_volume(source) and not _is_without_places(source)), default=0
    )

    def is_long_enough(source: ImageSource) -> bool:
        if not isinstance(source, DicomSeries):
            return True
        return _slice_count(source) >= (1.0 if _is_without_places(source) else _SHORT_FRACTION) * longest

    return is_long_enough


def _is_without_places(source: ImageSource) -> bool:
    """All images lie at one position, or have none, and are refused for it."""
    return isinstance(source, DicomSeries) and source.problem is not None and _position_count(source) < 2


def _slice_count(source: ImageSource) -> int:
    """Slices of a volume; several images at one position, which nothing tells apart, are one."""
    if not isinstance(source, DicomSeries):
        return 0
    count = _position_count(source)
    return count if count > 1 else len(source.slices)


def _position_count(source: DicomSeries) -> int:
    return len({item.position for item in source.slices})


def _line(source: ImageSource, problem: InputError | None) -> str:
    if not isinstance(source, DicomSeries):
        return f"  {source.path}"
    pixels = source.slices[0].pixels if source.slices else None
    columns, rows = source.shape[:2] if source.shape else (pixels.columns, pixels.rows) if pixels else (0, 0)
    size = f"{columns} x {rows} x {len(source.slices)}"
    refusal = f"  cannot be loaded: {problem.reason}" if problem else ""
    return f"  {source.selector}  {source.modality}  {size}  {source.description}{refusal}"
