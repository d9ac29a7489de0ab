"""Units become cases, in a thread of its own: while the network works, the next folders are being looked into."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Full, Queue

from ..errors import LightUNetError, SeriesNotFoundError, UnreadableFileError, UnsupportedImageError
from ..inputs import Survey, survey
from ..sources import DicomSeries, ImageSource
from .causes import Cause, cause_of, unexpected
from .keys import case_key, former_series_hash, place_hash, series_hash, whole_series_hash
from .ledger import Ledger
from .scrub import scrub, secrets_of
from .units import Unit, signature

AHEAD = 4
"""Units that may be surveyed before the first of them has been taken over."""

_LINK = "a symbolic link that is broken or leaves the root, expected files and folders below it."


@dataclass(frozen=True)
class Watch:
    """How a folder is watched.

    Parameters
    ----------
    interval : float
        Seconds from one look to the next.
    quiet : float
        A unit is complete when it was seen in the same state for so many seconds. Times of files tell nothing: the
        clock of a file server may be another one, and a copy may have the times of its original.
    """

    interval: float = 10.0
    quiet: float = 60.0


@dataclass(frozen=True)
class FoundCase:
    """A volume of a unit: to be done, or with the cause why not.

    Parameters
    ----------
    key : str
    series : str
        Hash that names the series and which volume of it.
    source : ImageSource or None
    cause : Cause or None
    is_skipped : bool
        The cause is no failure.
    whole : str
        Hash that names the series alone; empty if `series` does.
    former : str
        What an earlier version called the series; empty if the same.
    """

    key: str
    series: str
    source: ImageSource | None = None
    cause: Cause | None = None
    is_skipped: bool = False
    whole: str = ""
    former: str = ""

    def __repr__(self) -> str:
        return f"FoundCase({self.key})"


@dataclass(frozen=True)
class Surveyed:
    """A unit in the state it was surveyed in, with its cases."""

    unit: Unit
    signature: str
    cases: tuple[FoundCase, ...]


@dataclass(frozen=True)
class EndOfPass:
    """All units have been looked at once.

    Parameters
    ----------
    waiting : int
        Units that are still changing.
    places : frozenset of str
        Of all units that there are.
    """

    waiting: int = 0
    places: frozenset[str] = frozenset()


class Feed(threading.Thread):
    """Looks at all units, again whenever it is asked to; what is settled is passed over.

    Parameters
    ----------
    look : callable
        Lists the units.
    out : Path
        Output folder, with its ledger.
    watch : Watch or None
        How long to wait before another pass, and before a unit counts as complete. None takes every unit as it is.
    """

    def __init__(self, look: Callable[[], Iterator[Unit]], out: Path, watch: Watch | None = None) -> None:
        super().__init__(name="survey", daemon=True)
        self.queue: Queue[Surveyed | EndOfPass | LightUNetError] = Queue(AHEAD)
        self._look, self._out, self._watch = look, out, watch
        self._stop, self._again = threading.Event(), threading.Event()
        self._in_flight: frozenset[str] = frozenset()
        # By place: the state of a unit that is not settled, and since when it is in it; now, and in the pass before.
        self._states: dict[str, tuple[str, float]] = {}
        self._states_before: dict[str, tuple[str, float]] = {}

    def run(self) -> None:
        """Survey until stopped; an error that ends it goes into the queue, so that nobody waits for more."""
        try:
            with Ledger(self._out) as ledger:
                while not self._stop.is_set():
                    waiting, places = 0, set()
                    for unit in self._look():
                        if self._stop.is_set():
                            break
                        places.add(unit.place)
                        waiting += not self._take(unit, ledger)
                    self._states_before, self._states = self._states, {}
                    self._put(EndOfPass(waiting, frozenset(places)))
                    self._again.wait()
                    self._again.clear()
                    self._stop.wait(self._watch.interval if self._watch else 0.0)
        except LightUNetError as error:
            self._put(error)
        except Exception as error:
            failed = LightUNetError(
                f"the survey of the studies ended: {unexpected(error).message}",
                hint="Run it again: finished cases stay finished. If it ends again, please report it.",
                reason="survey",
            )
            failed.__cause__ = error
            self._put(failed)

    def again(self, in_flight: Collection[str] = ()) -> None:
        """Ask for another pass, once the end of the last one has been taken over.

        Parameters
        ----------
        in_flight : collection of str
            Keys of cases that have been taken over and are not at their end. A unit that has not changed, and has no
            other open cases, is not surveyed again.
        """
        self._in_flight = frozenset(in_flight)
        self._again.set()

    def stop(self) -> None:
        """Let the thread end after the unit it is at."""
        self._stop.set()
        self._again.set()

    def _take(self, unit: Unit, ledger: Ledger) -> bool:
        state, count = signature(unit.path, self._out)
        if ledger.is_settled(unit.place, state, self._in_flight):
            return True
        if self._watch and (not count or self._seconds_in(unit.place, state) < self._watch.quiet):
            return False
        found = Surveyed(unit, state, _cases_of(unit))
        if self._watch and signature(unit.path, self._out)[0] != state:
            return False  # it changed while it was read
        self._put(found)
        return True

    def _seconds_in(self, place: str, state: str) -> float:
        now = time.monotonic()
        before, since = self._states_before.get(place, (state, now))
        self._states[place] = (state, since if before == state else now)
        return now - self._states[place][1]

    def _put(self, item: Surveyed | EndOfPass | LightUNetError) -> None:
        while not self._stop.is_set():
            with suppress(Full):
                self.queue.put(item, timeout=0.5)
                return


def _cases_of(unit: Unit) -> tuple[FoundCase, ...]:
    try:
        return tuple(find_cases(unit))
    except Exception as error:  # one study does not end the run
        return (FoundCase(unit.place, unit.place, cause=unexpected(error)),)


def find_cases(unit: Unit) -> Iterator[FoundCase]:
    """Survey a unit.

    Yields
    ------
    FoundCase
        At least one: a unit without a volume is a case of its own, with the cause; so is an archive that is refused.
    """
    if unit.is_link_outside:
        yield _link(unit)
        return
    try:
        found = survey(unit.path)
    except LightUNetError as error:
        yield _refused(unit, error)
        return
    sources = [source for source in found.sources if not unit.series_uid or _is_asked_for(source, unit.series_uid)]
    for source in sources:
        yield _case(_without_names(source, found), unit)
    if not sources:
        yield _without_volume(unit, found)
    if not unit.series_uid:
        yield from _refused_archives(unit, found)


def _is_asked_for(source: ImageSource, series_uid: str) -> bool:
    return isinstance(source, DicomSeries) and series_uid in (source.series_uid, source.selector)


def _without_names(source: ImageSource, found: Survey) -> ImageSource:
    """Warnings name refused archives, and end up in the report of the case."""
    archives = {str(path) for path in found.refused_archives}
    if not archives or not isinstance(source, DicomSeries):
        return source
    return replace(source, warnings=tuple(scrub(text, archives) for text in source.warnings))


def _case(source: ImageSource, unit: Unit) -> FoundCase:
    problem = source.problem if isinstance(source, DicomSeries) else None
    found = FoundCase(
        case_key(source),
        series_hash(source, unit.path, unit.place),
        source,
        whole=whole_series_hash(source, unit.path, unit.place),
        former=former_series_hash(source),
    )
    if problem is None:
        return found
    is_other = isinstance(problem, UnsupportedImageError) and problem.reason == "modality"
    # Refused for its geometry, or resampled when asked for: the loader decides.
    if not is_other:
        return found
    return replace(found, source=None, cause=cause_of(problem, secrets_of(source)), is_skipped=True)


def _without_volume(unit: Unit, found: Survey) -> FoundCase:
    if unit.series_uid:
        return _refused(unit, SeriesNotFoundError("the series that the list asks for is not here."))
    if found.errors:
        return _refused(unit, found.errors[0])
    if any(item.code == "link-outside" for item in found.set_aside):
        return _link(unit)
    kinds = sorted({item.code for item in found.set_aside})
    message = f"no volume; found {', '.join(kinds)}." if kinds else "no volume."
    return FoundCase(unit.place, unit.place, cause=Cause("NoImageFoundError", "no-volume", message), is_skipped=True)


def _refused_archives(unit: Unit, found: Survey) -> Iterator[FoundCase]:
    """What is in them is lost without a word where the unit holds a volume, too."""
    for path, error in found.refused_archives.items():
        if found.sources or error is not found.errors[0]:  # that one says already why there is no volume
            key = place_hash(f"{unit.place}/{os.path.relpath(path, unit.path)}")
            secrets = {str(unit.path), unit.path.name, str(path), path.name, path.stem}
            yield FoundCase(key, key, cause=cause_of(error, secrets))


def _link(unit: Unit) -> FoundCase:
    return _refused(unit, UnreadableFileError(_LINK, hint="Name it in a list.", reason="link-outside"))


def _refused(unit: Unit, error: LightUNetError) -> FoundCase:
    return FoundCase(unit.place, unit.place, cause=cause_of(error, {str(unit.path), unit.path.name}))
