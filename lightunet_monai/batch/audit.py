"""Who had what done, when and with which model; no patient names, only hashes of UIDs.

Each line holds the hash of the line before it, so that a line that is changed or taken out later shows. Lines are
written in the transaction that changes the case: there is exactly one for each result, whatever crashes when.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (number INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS audit_keeps BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit lines stay'); END;
CREATE TRIGGER IF NOT EXISTS audit_stays BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit lines stay'); END
"""

FIRST = "0" * 64
"""Stands for the hash of the line before the first."""


def append(database: sqlite3.Connection, record: Mapping[str, Any]) -> None:
    """Add a line within the caller's transaction."""
    last = database.execute("SELECT line FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    values = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "user": user_name(),
        **record,
        "previous": _hash(last[0]) if last else FIRST,
    }
    database.execute("INSERT INTO audit (line) VALUES (?)", (json.dumps(values, sort_keys=True),))


def first_broken_line(lines: Iterable[str]) -> int | None:
    """Number (from 1) of the first line that does not follow from the one before it; None if all do.

    A change of the very last line shows once another follows it.
    """
    previous = FIRST
    for number, line in enumerate(lines, start=1):
        try:
            if json.loads(line)["previous"] != previous:
                return number
        except (ValueError, KeyError, TypeError):
            return number
        previous = _hash(line)
    return None


def user_name() -> str:
    """Name of the account that runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _hash(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()
