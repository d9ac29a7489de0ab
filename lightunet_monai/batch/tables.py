"""The tables of a ledger, and how those of an earlier version become those of now."""

from __future__ import annotations

import sqlite3

from . import audit, copies, runs, surveyed

VERSION = 1
"""Of what is in the tables, kept as SQLite's user version. From 1 on, files and series without a UID are named by
their path in the unit, however it is typed."""

STATES = ("found", "running", "done", "failed", "skipped")

# `series` names a series and which volume of it, `whole` the series alone: all its volumes have the same.
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
{runs.SCHEMA.strip()};
{surveyed.SCHEMA.strip()};
CREATE TABLE IF NOT EXISTS cases (
  key TEXT PRIMARY KEY, place TEXT NOT NULL, series TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ({", ".join(repr(state) for state in STATES)})),
  attempts INTEGER NOT NULL DEFAULT 0, interruptions INTEGER NOT NULL DEFAULT 0, run TEXT, final INTEGER NOT NULL
  DEFAULT 0, kind TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
  hint TEXT NOT NULL DEFAULT '', facts TEXT NOT NULL DEFAULT '{{}}', updated REAL NOT NULL, superseded_by TEXT,
  whole TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS cases_by_state ON cases (state);
CREATE INDEX IF NOT EXISTS cases_by_place ON cases (place);
CREATE INDEX IF NOT EXISTS cases_to_count ON cases (superseded_by, state);
{copies.SCHEMA};
{audit.SCHEMA}
"""


def make_tables(database: sqlite3.Connection) -> None:
    """Make the tables that are missing, within the caller's transaction.

    In a ledger of an earlier version all units count as not surveyed: only a new look at them tells the keys and
    the names of series that their cases have now, and where copies lie.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    is_up_to_date = copies.is_known(database) and version >= VERSION
    for statement in _SCHEMA.split(";\n"):
        database.execute(statement)
    if "whole" not in {name for _, name, *_ in database.execute("PRAGMA table_info(cases)").fetchall()}:
        is_up_to_date = False
        database.execute("ALTER TABLE cases ADD COLUMN whole TEXT NOT NULL DEFAULT ''")
        database.execute("UPDATE cases SET whole = series")  # right where the series holds one volume
    if not is_up_to_date:
        database.execute("DELETE FROM units")
        database.execute(f"PRAGMA user_version = {VERSION}")
