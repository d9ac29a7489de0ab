"""The runs that work on an output folder: which of them live, and the cases of those that died.

A run lives until it says that it has ended, or its process is gone. All functions work within the caller's transaction.
"""

from __future__ import annotations

import sqlite3
import time

from .lease import Owner

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
  run TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, started TEXT NOT NULL,
  heartbeat REAL NOT NULL, began REAL NOT NULL, ended REAL)
"""


def begin(database: sqlite3.Connection, owner: Owner) -> None:
    """Enter a run."""
    now = time.time()
    row = (owner.run, owner.host, owner.pid, owner.started, now, now)
    database.execute("INSERT INTO runs (run, host, pid, started, heartbeat, began) VALUES (?,?,?,?,?,?)", row)


def end(database: sqlite3.Connection, owner: Owner) -> None:
    """Say that a run has ended; the cases that it had wait again."""
    give_back(database, owner.run)
    database.execute("UPDATE runs SET ended = ? WHERE run = ?", (time.time(), owner.run))


def set_alive(database: sqlite3.Connection, owner: Owner) -> None:
    """Say that a run lives.

    One that slept longer than its lease was taken for dead: what it does from now on is its own again.
    """
    database.execute("UPDATE runs SET heartbeat = ?, ended = NULL WHERE run = ?", (time.time(), owner.run))


def living(database: sqlite3.Connection) -> set[str]:
    """Names of the runs that have not ended, those that died and were not told of among them."""
    return {run for (run,) in database.execute("SELECT run FROM runs WHERE ended IS NULL")}


def dead(database: sqlite3.Connection) -> list[str]:
    """Names of the runs that died and whose cases nobody has taken back yet: these are ``running`` still."""
    query = "SELECT run, host, pid, started, heartbeat FROM runs WHERE ended IS NULL"
    return [
        run
        for run, host, pid, started, heartbeat in database.execute(query).fetchall()
        if not Owner(run, host, pid, started).is_alive(time.time() - heartbeat)
    ]


def recover(database: sqlite3.Connection) -> list[str]:
    """Take the cases of dead runs back; give the names of the runs that died."""
    names = dead(database)
    for run in names:
        give_back(database, run)
        database.execute("UPDATE runs SET ended = heartbeat WHERE run = ?", (run,))
    return names


def give_back(database: sqlite3.Connection, run: str) -> None:
    """Let the cases that a run has wait again: nobody works on them any more."""
    database.execute(
        "UPDATE cases SET state = 'found', run = NULL, interruptions = interruptions + 1 "
        "WHERE state = 'running' AND run = ?",
        (run,),
    )
