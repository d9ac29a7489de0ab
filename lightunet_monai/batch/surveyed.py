"""Which units were surveyed in which state, and which cases are out of date since.

A case is out of date from when another one has taken its place (``superseded_by``): it is not worked on, not counted
and not listed. All functions work within the caller's transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection

from . import copies, runs

SCHEMA = """
CREATE TABLE IF NOT EXISTS units (place TEXT PRIMARY KEY, signature TEXT NOT NULL, surveyed REAL NOT NULL)
"""


def is_settled(database: sqlite3.Connection, place: str, signature: str, in_flight: Collection[str]) -> bool:
    """Say whether a unit was surveyed in this very state and all its cases are at their end, or in flight."""
    query = "SELECT 1 FROM units WHERE place = ? AND signature = ?"
    if not database.execute(query, (place, signature)).fetchone():
        return False
    query = (
        "SELECT key FROM cases WHERE final = 0 AND superseded_by IS NULL AND "
        f"(place = :place OR key IN ({copies.KEYS_AT}))"
    )
    return all(key in in_flight for (key,) in database.execute(query, {"place": place}).fetchall())


def remember(database: sqlite3.Connection, place: str, signature: str) -> None:
    """Remember that all cases of a unit in this state are in the ledger."""
    database.execute("INSERT OR REPLACE INTO units VALUES (?, ?, ?)", (place, signature, time.time()))


def leave_out_former(database: sqlite3.Connection, place: str, keys: Collection[str]) -> None:
    """Leave out what is not among the cases that a unit has now: `keys`.

    That is an archive that was refused earlier, a case of a series that gives other cases now, such as one phase of
    those that there are, and one that was never done and has no copy elsewhere.
    """
    query = "SELECT whole FROM cases WHERE key = ?"
    heirs = {whole: key for key in sorted(keys) for (whole,) in database.execute(query, (key,)).fetchall()}
    query = "SELECT key, series, whole, state FROM cases WHERE place = ? AND superseded_by IS NULL"
    for key, series, whole, state in database.execute(query, (place,)).fetchall():
        is_lost = state == "found" and copies.other_place(database, key, place) is None
        # An archive that was refused is a series of its own: nobody knows which ones are in it.
        heir = place if series == key or is_lost else heirs.get(whole)
        if key not in keys and heir is not None:
            replace(database, key, place, heir)


def replace(database: sqlite3.Connection, key: str, place: str, heir: str) -> None:
    """Leave out a case that a unit holds no more, in favour of its heir; one with a copy elsewhere is of that unit."""
    copies.remove(database, key, place)
    other = copies.other_place(database, key, place)
    if other is None:
        database.execute("UPDATE cases SET superseded_by = ? WHERE key = ?", (heir, key))
    else:
        database.execute("UPDATE cases SET place = ? WHERE key = ?", (other, key))


def leave_out_lost(database: sqlite3.Connection, places: Collection[str], holds: Callable[[str], bool]) -> list[str]:
    """Leave out the cases that wait and lie in no unit any more; nothing while another run may be at them.

    One whose unit comes back is in again once that was surveyed, which it is then.

    Parameters
    ----------
    database : sqlite3.Connection
    places : collection of str
        Of all units that there are.
    holds : callable
        Whether a place is one of this run's part of the work.

    Returns
    -------
    list of str
        Their keys.
    """
    if len(runs.living(database)) > 1:
        return []
    lost = []
    query = "SELECT key, place FROM cases WHERE state = 'found' AND superseded_by IS NULL"
    for key, place in database.execute(query).fetchall():
        own = {place, *copies.places(database, key)}
        if own.isdisjoint(places) and all(map(holds, own)):
            database.execute("UPDATE cases SET superseded_by = ? WHERE key = ?", (place, key))
            database.executemany("DELETE FROM units WHERE place = ?", [(one,) for one in own])
            lost.append(key)
    return lost
