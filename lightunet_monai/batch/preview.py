"""What a run would do with each case, by headers and by the ledger: nothing is segmented or written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..inputs.hounsfield import remaining_problem
from ..inputs.image_files import read_image_header
from ..sources import ImageFile, ImageSource
from .feed import find_cases
from .ledger import FILE_NAME, Ledger
from .publish import read_result
from .units import Unit

STATES = ("to do", "done", "failed", "refused", "skipped", "copy")


@dataclass(frozen=True)
class Preview:
    """A case and what would become of it.

    Parameters
    ----------
    state : str
        One of `STATES`; "done" and "failed" are left as they are, a "copy" is of a case that was told of before.
    key : str
    path : Path
        Of the unit.
    why : str
        What speaks against it; may be empty.
    """

    state: str
    key: str
    path: Path
    why: str


def preview(
    units: Iterable[Unit],
    out: Path | None,
    settings: Callable[[], Mapping[str, Any]],
    *,
    retry_failed: bool,
    assume_hu: bool,
    regularize: bool,
) -> Iterator[Preview]:
    """Tell of each case what a run into `out` would do.

    Parameters
    ----------
    units : iterable of Unit
    out : Path or None
        Folder of results, whose ledger is asked if there is one.
    settings : callable
        Gives those of the run; asked if there is a ledger.
    retry_failed, assume_hu, regularize : bool
        As the run would be told.

    Raises
    ------
    UsageError
        If the folder was made with other settings, so that the run would be refused.
    """
    settled = _settled(out, settings(), retry_failed) if out is not None and (out / FILE_NAME).is_file() else {}
    told: set[str] = set()
    for unit in units:
        for case in find_cases(unit):
            if case.key in told:
                yield Preview("copy", case.key, unit.path, "")
                continue
            told.add(case.key)
            why = case.cause.message if case.cause else _header_problem(case.source, assume_hu, regularize)
            state = settled.get(case.key, "skipped" if case.is_skipped else "refused" if why else "to do")
            yield Preview(state, case.key, unit.path, why)


def _settled(out: Path, settings: Mapping[str, Any], retry_failed: bool) -> dict[str, str]:
    """State of the cases, by key, that a run would leave as they are."""
    with Ledger(out) as ledger:
        ledger.check_settings(settings)
        rows = [row for row in ledger.cases() if row.superseded_by is None]
    done = {row.key: row.state for row in rows if row.state == "done" and read_result(out, row.key, thorough=False)}
    given_up = {row.key: row.state for row in rows if row.state == "failed" and row.final and not retry_failed}
    return done | given_up


def _header_problem(source: ImageSource | None, assume_hu: bool, regularize: bool) -> str:
    """Why a volume will be refused by its headers; empty if they say nothing against it."""
    if source is None:
        return ""
    if not isinstance(source, ImageFile):
        problem = remaining_problem(source, assume_hu=assume_hu, allow_shear=regularize)
        return problem.message if problem else ""
    try:
        read_image_header(source.path, allow_shear=regularize)
    except InputError as error:
        return error.message
    return ""
