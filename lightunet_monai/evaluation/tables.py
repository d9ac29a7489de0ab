"""Tables as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any


def csv_text(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Give rows as CSV with a header; without `columns`, those of the first row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0] if rows else ["case"]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def csv_cell(value: float | None) -> str:
    """Give a number with six digits; an empty cell for None, NaN and infinity."""
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"
