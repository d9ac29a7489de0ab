"""Where copies of a case lie: the same study may be in several folders, and its files be damaged in some of them.

The place of a case in the ledger is where it was found first, was tried last, or is to be tried next. All functions
work within the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

SCHEMA = """
CREATE TABLE IF NOT EXISTS copies (
  key TEXT NOT NULL, place TEXT NOT NULL, failed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (key, place)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS copies_by_place ON copies (place)
"""

KEYS_AT = "SELECT key FROM copies WHERE place = :place AND failed = 0"
"""Query for the cases of a unit, without those whose files could not be read there."""


def is_known(database: sqlite3.Connection) -> bool:
    """Say whether a ledger has this table; ledgers of early versions have not."""
    return database.execute("SELECT 1 FROM sqlite_master WHERE name = 'copies'").fetchone() is not None


def add(database: sqlite3.Connection, key: str, place: str) -> bool:
    """Remember that a case lies in a unit; say whether this is new."""
    added = database.execute("INSERT OR IGNORE INTO copies (key, place) VALUES (?, ?)", (key, place))
    return added.rowcount == 1


def remove(database: sqlite3.Connection, key: str, place: str) -> None:
    """Forget that a case lies in a unit: it holds other content now."""
    database.execute("DELETE FROM copies WHERE key = ? AND place = ?", (key, place))


def has_failed(database: sqlite3.Connection, key: str, place: str) -> bool:
    """Say whether the files of a case could not be read in a unit."""
    row = database.execute("SELECT failed FROM copies WHERE key = ? AND place = ?", (key, place)).fetchone()
    return row is not None and bool(row[0])


def set_failed(database: sqlite3.Connection, key: str, place: str) -> None:
    """Remember that the files of a case cannot be read in a unit."""
    database.execute("UPDATE copies SET failed = 1 WHERE key = ? AND place = ?", (key, place))


def other_place(database: sqlite3.Connection, key: str, place: str) -> str | None:
    """Give another unit where a case can be tried; None if there is none."""
    query = "SELECT place FROM copies WHERE key = ? AND place != ? AND failed = 0 ORDER BY place LIMIT 1"
    found = database.execute(query, (key, place)).fetchone()
    return str(found[0]) if found else None


def places(database: sqlite3.Connection, key: str) -> list[str]:
    """Give the units in which a case lies."""
    return [place for (place,) in database.execute("SELECT place FROM copies WHERE key = ?", (key,)).fetchall()]


def reopen(database: sqlite3.Connection, keys: Iterable[str]) -> None:
    """Let these cases be tried in all their units again."""
    database.executemany("UPDATE copies SET failed = 0 WHERE key = ?", [(key,) for key in keys])
