"""What is known about every case, in one SQLite file that survives a crash at any moment.

States: ``found`` (to do) -> ``running`` (a living run has it) -> ``done``, ``failed`` (with its cause) or ``skipped``
(not meant to be processed). A case that was running when its run died is ``found`` again. Each change is one
transaction, flushed to the disk. The file holds no path, no name and no UID, only hashes and scrubbed causes.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OutputError, UsageError
from . import audit, copies, runs, surveyed
from .causes import OF_THE_FILE, Cause
from .lease import Owner
from .network_path import is_network_path
from .tables import STATES, make_tables

FILE_NAME = "ledger.sqlite"
FINAL = ("done", "failed", "skipped")

BUSY_SECONDS = 60.0
"""How long to wait for another run's transaction; each takes milliseconds."""

RETRY_SECONDS = 0.02
"""Between two tries where SQLite does not wait by itself."""

ROWS_AT_ONCE = 1000
"""Of cases that are listed: without a write-ahead log nobody can write while one of several rows is being read."""

_WAITS = (
    "(superseded_by IS NULL AND "
    "(state = 'found' OR (state IN ('failed', 'done') AND final = 0 AND attempts <= :retries)))"
)
"""Condition on a case that may be claimed."""


@dataclass(frozen=True)
class CaseRow:
    """One case as the ledger knows it."""

    key: str
    place: str
    series: str
    state: str
    attempts: int
    interruptions: int
    run: str | None
    final: bool
    kind: str
    reason: str
    message: str
    hint: str
    facts: dict[str, Any]
    updated: float
    superseded_by: str | None


_COLUMNS = ", ".join(CaseRow.__dataclass_fields__)


class Ledger:
    """The ledger of an output folder.

    >>> with Ledger(out) as ledger:
    ...     ledger.add(key, place, series)
    ...     if ledger.claim(key, retries=2):
    ...         ledger.finish(key, facts)

    Parameters
    ----------
    out : Path
        The output folder; made if missing.
    owner : Owner or None
        This run; None opens an existing ledger to look at it.
    name : str
        File name of the ledger.

    Raises
    ------
    OutputError
        If the file cannot be made, or is no ledger.
    """

    def __init__(self, out: Path, owner: Owner | None = None, *, name: str = FILE_NAME) -> None:
        self.path, self.owner = Path(out) / name, owner
        with _own_errors(self.path):
            if owner is None and not self.path.is_file():
                raise OutputError(f"{out}: no {name}, expected the output folder of a batch.", hint="Check the path.")
            if owner is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _connect(self.path, only_reads=owner is None)
            try:
                self._open(owner)
                self._file = os.stat(self.path)
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say that this run has ended, and close the file."""
        try:
            if self.owner is not None:
                with _own_errors(self.path), self._transaction():
                    runs.end(self._db, self.owner)
        finally:
            self._db.close()

    def _open(self, owner: Owner | None) -> None:
        if owner is None:
            self._db.execute("PRAGMA query_only=ON")
            return
        # WAL needs memory that all its readers share: on a network file system a journal is the safe way.
        self._set_journal("TRUNCATE" if is_network_path(self.path.parent) else "WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._begin(owner)

    def _set_journal(self, mode: str) -> None:
        # SQLite does not wait here as it does elsewhere: of two that change the mode of a new file at once, one is
        # told at once that the file is locked.
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute(f"PRAGMA journal_mode={mode}")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(RETRY_SECONDS)

    def _begin(self, owner: Owner) -> None:
        with self._transaction():
            make_tables(self._db)
            runs.begin(self._db, owner)
        self.recover()

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Remember what the first run was asked for, and refuse a run that asks for something else.

        A run that entered no case and has ended, because of a wrong option for example, is none. Without an owner
        nothing is remembered.

        Raises
        ------
        UsageError
            If a setting differs; names it.
        """
        with _own_errors(self.path), self._transaction() if self.owner else nullcontext():
            known = {} if self._is_unused() else dict(self._db.execute("SELECT name, value FROM meta"))
            for name, value in settings.items():
                text = json.dumps(value, sort_keys=True)
                if known.get(f"setting:{name}", text) != text:
                    raise UsageError(
                        f"{self.path.parent}: was made with {name} {known[f'setting:{name}']}, found {text}.",
                        hint="Use the same settings and model, or another output folder.",
                    )
                if self.owner:
                    self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"setting:{name}", text))

    def _is_unused(self) -> bool:
        query = "SELECT NOT EXISTS (SELECT 1 FROM cases) AND (SELECT COUNT(*) FROM runs WHERE ended IS NULL) <= ?"
        return bool(self._db.execute(query, (1 if self.owner else 0,)).fetchone()[0])

    def setting(self, name: str, default: str) -> str:
        """Give a remembered value, after remembering the default if there was none."""
        with _own_errors(self.path), self._transaction():
            self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, default))
            return str(self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0])

    def heartbeat(self) -> None:
        """Say that this run lives, for runs on other machines."""
        assert self.owner is not None
        with _own_errors(self.path), self._transaction():
            runs.set_alive(self._db, self.owner)

    def check_in_place(self) -> None:
        """Check that the output folder is still the one that was opened.

        Raises
        ------
        OutputError
            If it was removed or renamed: results would appear where no ledger knows of them.
        """
        with suppress(OSError):
            if os.path.samestat(os.stat(self.path), self._file):
                return
        out = self.path.parent
        raise OutputError(
            f"{out}: was removed or renamed while the run was working, expected its {self.path.name} to stay there.",
            hint="Run again with -o where the folder is now; a new one begins from the start.",
            reason="output-gone",
        )

    def recover(self) -> list[str]:
        """Take the cases of dead runs back; give the names of the runs that died."""
        with _own_errors(self.path), self._transaction():
            return runs.recover(self._db)

    def dead_runs(self) -> list[str]:
        """Names of the runs that died and whose cases nobody has taken back yet: these are ``running`` still."""
        with _own_errors(self.path):
            return runs.dead(self._db)

    def living_runs(self) -> set[str]:
        """Names of the runs that have not ended, this one included."""
        with _own_errors(self.path):
            return runs.living(self._db)

    def give_back(self) -> None:
        """Give back the cases that this run has: nobody works on them any more."""
        assert self.owner is not None
        with _own_errors(self.path), self._transaction():
            runs.give_back(self._db, self.owner.run)

    def is_settled(self, place: str, signature: str, in_flight: Collection[str] = ()) -> bool:
        """Say whether a unit was surveyed in this very state and all its cases are at their end, or in flight."""
        with _own_errors(self.path):
            return surveyed.is_settled(self._db, place, signature, in_flight)

    def set_surveyed(self, place: str, signature: str, keys: Collection[str] | None = None) -> None:
        """Remember that all cases of a unit in this state are in the ledger.

        Parameters
        ----------
        place, signature : str
        keys : collection of str or None
            Of its cases; what is not among them is out of date (`surveyed.leave_out_former`). None asks nothing.
        """
        with _own_errors(self.path), self._transaction():
            surveyed.remember(self._db, place, signature)
            if keys is not None:
                surveyed.leave_out_former(self._db, place, keys)

    def leave_out_lost(self, places: Collection[str], holds: Callable[[str], bool] = lambda place: True) -> list[str]:
        """Leave out the cases that wait and lie in none of all units any more (`surveyed.leave_out_lost`)."""
        with _own_errors(self.path), self._transaction():
            return surveyed.leave_out_lost(self._db, places, holds)

    def add(
        self,
        key: str,
        place: str,
        series: str,
        cause: Cause | None = None,
        *,
        whole: str = "",
        former: str = "",
        skipped: bool = False,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        """Enter a case that is not known yet, as found, or with a cause as failed or skipped.

        Parameters
        ----------
        key, place, series : str
        cause : Cause, optional
            Why it cannot be done.
        whole : str
            Names the series without telling its volumes apart; by default it is `series`.
        former : str
            What an earlier version called the series.
        skipped : bool
            The cause is no failure.
        record : mapping, optional
            Its line in the audit log, where it has failed and had not before.
        """
        state = "skipped" if skipped else "failed" if cause else "found"
        with _own_errors(self.path), self._transaction():
            query = "SELECT 1 FROM cases WHERE key = ? AND state = 'failed' AND final = 1 AND superseded_by IS NULL"
            has_failed = self._db.execute(query, (key,)).fetchone() is not None
            self._db.execute(
                "INSERT OR IGNORE INTO cases (key, place, series, whole, state, final, updated) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (key, place, series, whole or series, state, state != "found", time.time()),
            )
            self._db.execute(  # cases of an earlier version
                "UPDATE cases SET series = :series, whole = :whole "
                "WHERE place = :place AND (key = :key OR series = :former)",
                {"series": series, "whole": whole or series, "place": place, "key": key, "former": former},
            )
            if copies.add(self._db, key, place):  # not known yet: it may be whole where another one was not
                kinds = ", ".join(map(repr, OF_THE_FILE))
                self._db.execute(
                    "UPDATE cases SET place = :place, final = 0, attempts = 0 "
                    f"WHERE key = :key AND place != :place AND state = 'failed' AND final = 1 AND kind IN ({kinds})",
                    {"key": key, "place": place},
                )
            if cause and self._set_cause(key, cause, state) and state == "failed" and record and not has_failed:
                audit.append(self._db, record)
            # The same series with other content, or a folder that held no volume before: out of date.
            self._db.execute("UPDATE cases SET superseded_by = NULL WHERE key = ?", (key,))
            query = "SELECT key FROM cases WHERE series IN (?, ?) AND place = ? AND key != ?"
            for (former_key,) in self._db.execute(query, (series, place, place, key)).fetchall():
                surveyed.replace(self._db, former_key, place, key)

    def has_failed_at(self, key: str, place: str) -> bool:
        """Say whether the files of a case could not be read at this place."""
        with _own_errors(self.path):
            return copies.has_failed(self._db, key, place)

    def has_waiting(self, *, retries: int) -> bool:
        """Say whether there is a case to do that could be claimed."""
        with _own_errors(self.path):
            query = f"SELECT 1 FROM cases WHERE state != 'done' AND {_WAITS} LIMIT 1"
            return self._db.execute(query, {"retries": retries}).fetchone() is not None

    def claim(self, key: str, *, retries: int, place: str | None = None) -> bool:
        """Take a case for this run.

        Parameters
        ----------
        key : str
        retries : int
            Attempts after the first.
        place : str, optional
            The unit where it is tried, if it lies in several.

        Returns
        -------
        bool
            False if it is done, skipped, failed for good or out of date, or another living run has it.
        """
        assert self.owner is not None
        with _own_errors(self.path), self._transaction():
            done = self._db.execute(
                "UPDATE cases SET state = 'running', run = :run, final = 0, updated = :now, "
                f"place = COALESCE(:place, place) WHERE key = :key AND {_WAITS}",
                {"run": self.owner.run, "now": time.time(), "key": key, "retries": retries, "place": place},
            )
            if done.rowcount:
                runs.set_alive(self._db, self.owner)
            return done.rowcount == 1

    def release(self, key: str) -> None:
        """Give a case back that was not this run's fault or the case's: it counts as no attempt."""
        self._update(key, "state = 'found', run = NULL, interruptions = interruptions + 1", ())

    def finish(self, key: str, facts: Mapping[str, Any], record: Mapping[str, Any] | None = None) -> bool:
        """Enter a case as done, with its line in the audit log.

        Returns
        -------
        bool
            False if this run did not have the case any more.
        """
        text = json.dumps(dict(facts), sort_keys=True)
        change = "state = 'done', final = 1, attempts = attempts + 1, facts = ?, kind = '', reason = '', message = '',"
        return self._update(key, f"{change} hint = ''", (text,), record)

    def fail(self, key: str, cause: Cause, *, retries: int, record: Mapping[str, Any] | None = None) -> bool:
        """Count an attempt that failed; returns whether this run will try the case again.

        A case whose files cannot be read here, and that has a copy in another unit, waits to be tried there.
        """
        row = self.case(key)
        if row is None:
            return False
        again = cause.may_pass and row.attempts < retries
        is_bad_copy = not again and cause.kind in OF_THE_FILE
        other = self._other_place(row) if is_bad_copy else None
        attempts, place = (row.attempts + 1, row.place) if other is None else (0, other)
        is_final = not again and other is None
        change = "state = 'failed', final = ?, attempts = ?, place = ?, kind = ?, reason = ?, message = ?, hint = ?"
        values = (is_final, attempts, place, cause.kind, cause.reason, cause.message, cause.hint)
        if not self._update(key, change, values, record if is_final else None):
            return False
        if is_bad_copy:
            with _own_errors(self.path), self._transaction():
                copies.set_failed(self._db, key, row.place)
        return again

    def _other_place(self, row: CaseRow) -> str | None:
        with _own_errors(self.path):
            return copies.other_place(self._db, row.key, row.place)

    def reopen(self, key: str, *, is_gone: bool = False) -> None:
        """Let a case that is done be surveyed and done again, because its result is incomplete.

        Parameters
        ----------
        key : str
        is_gone : bool
            Nothing is left of the result, as if it was moved to an archive: the case stays done until it is claimed,
            which its source must be there for.
        """
        change = f"state = '{'done' if is_gone else 'found'}', run = NULL, final = 0, attempts = 0"
        with _own_errors(self.path), self._transaction():
            self._db.execute(f"UPDATE cases SET {change} WHERE key = ? AND state = 'done'", (key,))

    def close_done(self, key: str) -> None:
        """Take back that a case that is done may be done again: its result is there."""
        with _own_errors(self.path), self._transaction():
            self._db.execute("UPDATE cases SET final = 1 WHERE key = ? AND state = 'done'", (key,))

    def reopen_failed(self) -> None:
        """Let cases that were given up be surveyed and tried again, as often as new ones."""
        given_up = "state = 'failed' AND final = 1 AND superseded_by IS NULL"
        with _own_errors(self.path), self._transaction():
            keys = [key for (key,) in self._db.execute(f"SELECT key FROM cases WHERE {given_up}").fetchall()]
            copies.reopen(self._db, keys)
            self._db.execute(f"UPDATE cases SET final = 0, attempts = 0 WHERE {given_up}")

    def case(self, key: str) -> CaseRow | None:
        """Give one case."""
        with _own_errors(self.path):
            row = self._db.execute(f"SELECT {_COLUMNS} FROM cases WHERE key = ?", (key,)).fetchone()
        return _to_row(row) if row else None

    def cases(self) -> Iterator[CaseRow]:
        """Give every case, by key; the ledger is not locked while one is looked at."""
        rows = self._cases_after("")
        while rows:
            yield from rows
            rows = self._cases_after(rows[-1].key)

    def _cases_after(self, key: str) -> list[CaseRow]:
        with _own_errors(self.path):
            query = f"SELECT {_COLUMNS} FROM cases WHERE key > ? ORDER BY key LIMIT {ROWS_AT_ONCE}"
            return [_to_row(row) for row in self._db.execute(query, (key,)).fetchall()]

    def counts(self) -> dict[str, int]:
        """Count the cases by state, without those that newer content has taken the place of; every state is there."""
        with _own_errors(self.path):
            found = dict(
                self._db.execute("SELECT state, COUNT(*) FROM cases WHERE superseded_by IS NULL GROUP BY state")
            )
        return {state: int(found.get(state, 0)) for state in STATES}

    def audit_lines(self) -> Iterator[str]:
        """Give the audit log, a JSON object a line."""
        with _own_errors(self.path):
            yield from (line for (line,) in self._db.execute("SELECT line FROM audit ORDER BY number"))

    def record(self, record: Mapping[str, Any]) -> None:
        """Add a line to the audit log."""
        with _own_errors(self.path), self._transaction():
            audit.append(self._db, record)

    def _update(self, key: str, change: str, values: tuple[Any, ...], record: Mapping[str, Any] | None = None) -> bool:
        assert self.owner is not None
        with _own_errors(self.path), self._transaction():
            done = self._db.execute(
                f"UPDATE cases SET {change}, updated = ? WHERE key = ? AND state = 'running' AND run = ?",
                (*values, time.time(), key, self.owner.run),
            )
            if done.rowcount and record is not None:
                audit.append(self._db, record)
            return done.rowcount == 1

    def _set_cause(self, key: str, cause: Cause, state: str) -> bool:
        done = self._db.execute(
            "UPDATE cases SET state = ?, final = 1, kind = ?, reason = ?, message = ?, hint = ? "
            "WHERE key = ? AND state NOT IN ('running', 'done')",
            (state, cause.kind, cause.reason, cause.message, cause.hint, key),
        )
        return done.rowcount == 1

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite ends some transactions by itself, on a full disk for one
                self._db.execute("ROLLBACK")
            raise


def _connect(path: Path, *, only_reads: bool) -> sqlite3.Connection:
    """Open a ledger; one to look at that nothing can be written beside is read as it lies."""
    # SQLite makes files beside a ledger with a write-ahead log even for a look, unless those of a run are there.
    if only_reads and not os.path.exists(f"{path}-wal") and not os.access(path.parent, os.W_OK):
        return sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", isolation_level=None, uri=True)
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)


def _to_row(row: tuple[Any, ...]) -> CaseRow:
    values = dict(zip(CaseRow.__dataclass_fields__, row, strict=True))
    return CaseRow(**{**values, "final": bool(values["final"]), "facts": json.loads(values["facts"])})


@contextmanager
def _own_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise OutputError(
            f"{path}: the ledger cannot be used: {error}.",
            hint="Check free space and permissions; what is finished stays finished.",
            reason="ledger",
        ) from error
