"""Why a case failed, in words that name no patient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import BundleError, GeometryError, LightUNetError, OutputError, UnsupportedImageError, UsageError
from .scrub import scrub

_FINAL_ERRORS = (GeometryError, UnsupportedImageError, UsageError, BundleError)
_FINAL_REASONS = ("needs-dicom", "no-reference", "no-probability", "no-position", "other-grid")
"""Of an `OutputError`: the source cannot be expressed in a format, at no time."""

OF_THE_FILE = ("UnreadableFileError", "NoImageFoundError")
"""Kinds that say that a file is damaged or gone: a copy of it elsewhere may be whole."""


@dataclass(frozen=True)
class Cause:
    """Why a case failed or was skipped; scrubbed text.

    Parameters
    ----------
    kind : str
        Class of the error, or what befell the worker.
    reason : str
        A short stable word for programs.
    message, hint : str
    may_pass : bool
        Another attempt may succeed.
    """

    kind: str
    reason: str
    message: str
    hint: str = ""
    may_pass: bool = False


def cause_of(error: LightUNetError, secrets: Iterable[str] = ()) -> Cause:
    """Say why a case failed, without paths or identifiers, and whether another attempt may succeed."""
    final = isinstance(error, _FINAL_ERRORS) or (isinstance(error, OutputError) and error.reason in _FINAL_REASONS)
    return Cause(
        kind=type(error).__name__,
        reason=error.reason,
        message=scrub(error.message, secrets),
        hint=scrub(error.hint, secrets),
        may_pass=not final,
    )


def unexpected(error: BaseException) -> Cause:
    """Describe an error that nobody foresaw."""
    # The text of a foreign exception may quote a header, and so a patient; the place where it was raised cannot.
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = f" in {Path(last.tb_frame.f_code.co_filename).name}, line {last.tb_lineno}" if last else ""
    return Cause(type(error).__name__, "unexpected", f"unexpected {type(error).__name__}{place}.", may_pass=True)
