"""All cases of an output folder in one table: CSV for spreadsheets, JSON for programs, HTML for people.

Cases are named by their keys: no path, UID or name of a patient is in any of the three.
"""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from ..outputs.atomic import atomic_file
from .ledger import CaseRow, Ledger
from .publish import CASES, kept_folders

SCHEMA = 1
COLUMNS = (
    *("case", "state", "attempts", "seconds", "lesions", "volume_ml", "doubtful", "warnings"),
    *("reason", "message", "hint"),
)

STATEMENT = "Research use only, not for diagnosis."

_GONE = "its result was taken away."
_KEPT = f"an earlier result that was changed is kept in {CASES}/{{}}."

_NUMBERS = {
    "attempts": "attempts",
    "seconds": "seconds",
    "lesions": "lesions",
    "volume_ml": "volume, mL",
    "doubtful": "doubtful",
    "warnings": "warnings",
}
"""Columns of numbers and their heads on the page."""

_STYLE = (
    "body{font-family:system-ui,sans-serif;margin:2em;color:#222}table{border-collapse:collapse;width:100%}"
    "th,td{padding:.3em .5em;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}"
    "thead th{font-size:.9em}.number{text-align:right}"
    "th.case{font-weight:normal;font-family:monospace;word-break:break-all;min-width:7em}"
    "td.words{overflow-wrap:anywhere;width:40%;min-width:10em}img{height:80px}"
    ".failed>*{background:#fdecea}.skipped>*{color:#666}"
)


def write_summary(ledger: Ledger) -> Path:
    """Write ``summary.csv``, ``summary.json`` and ``summary.html`` into the output folder; give the path of the page.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    out = ledger.path.parent
    with atomic_file(out / "summary.csv") as part, part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_rows(ledger))
    with atomic_file(out / "summary.json") as part, part.open("w", encoding="utf-8", newline="\n") as stream:
        _write_json(stream, ledger)
    with atomic_file(out / "summary.html") as part, part.open("w", encoding="utf-8", newline="\n") as stream:
        _write_page(stream, ledger, out)
    return out / "summary.html"


def _rows(ledger: Ledger) -> Iterator[dict[str, Any]]:
    kept = kept_folders(ledger.path.parent)
    for case in ledger.cases():
        if case.superseded_by is None:
            yield _row(case, kept.get(case.key, ()))


def _row(case: CaseRow, kept: Sequence[str]) -> dict[str, Any]:
    is_done = case.state == "done"
    is_gone = is_done and not case.final
    return {
        "case": case.key,
        "state": case.state,
        "attempts": case.attempts,
        "seconds": case.facts.get("seconds", "") if is_done else "",
        "lesions": case.facts.get("lesions", "") if is_done else "",
        "volume_ml": _lesions_ml(case.facts) if is_done else "",
        "doubtful": case.facts.get("doubtful", "") if is_done else "",
        "warnings": case.facts.get("warnings", "") if is_done else "",
        "reason": case.reason,
        "message": " ".join(filter(None, (case.message, _GONE if is_gone else "", *map(_KEPT.format, kept)))),
        "hint": case.hint,
    }


def _lesions_ml(facts: dict[str, Any]) -> float:
    """Volume of all lesions; ledgers of earlier versions have it by label, and no label but lesions."""
    return float(facts.get("lesions_ml", round(sum(facts.get("volume_ml", {}).values()), 6)))


def _write_json(stream: TextIO, ledger: Ledger) -> None:
    # Row by row: there may be a hundred thousand.
    head = json.dumps({"schema": SCHEMA, "statement": STATEMENT, "counts": ledger.counts()})
    stream.write(head[:-1] + ', "cases": [')
    for number, row in enumerate(_rows(ledger)):
        stream.write(("," if number else "") + "\n" + json.dumps(row, ensure_ascii=False))
    stream.write("\n]}\n")


def _write_page(stream: TextIO, ledger: Ledger, out: Path) -> None:
    total = ", ".join(f"{count} {state}" for state, count in ledger.counts().items() if count)
    numbers = "".join(f'<th scope="col" class="number">{name}</th>' for name in _NUMBERS.values())
    first = "".join(f'<th scope="col">{name}</th>' for name in ("picture", "case", "state"))
    head = f'{first}{numbers}<th scope="col">what happened</th>'
    stream.write(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Batch</title><style>{_STYLE}</style></head><body><h1>Batch</h1>"
        f"<p>{total or 'no case'}. {STATEMENT}</p><table><thead><tr>{head}</tr></thead><tbody>\n"
    )
    for row in _rows(ledger):
        stream.write(_line(row, out))
    stream.write("</tbody></table></body></html>\n")


def _line(row: dict[str, Any], out: Path) -> str:
    name, picture = html.escape(row["case"]), ""
    report, overview = (f"{CASES}/{row['case']}/{file}" for file in ("report.json", "overview.png"))
    if row["state"] == "done":
        if (out / overview).exists():
            alt = f"overview of case {name}"
            picture = f'<a href="{overview}"><img src="{overview}" alt="{alt}" loading="lazy"></a>'
        if (out / report).exists():
            name = f'<a href="{report}">{name}</a>'
    numbers = "".join(f'<td class="number">{html.escape(_short(row[column]))}</td>' for column in _NUMBERS)
    reason = f"<b>{html.escape(row['reason'])}</b>" if row["reason"] else ""
    words = " ".join(filter(None, (reason, html.escape(row["message"] or ""), html.escape(row["hint"] or ""))))
    return (
        f'<tr class="{row["state"]}"><td>{picture}</td><th scope="row" class="case">{name}</th>'
        f'<td>{row["state"]}</td>{numbers}<td class="words">{words}</td></tr>\n'
    )


def _short(value: Any) -> str:
    """Return a number with the digits that a reader needs; the tables have all of them."""
    if not isinstance(value, float):
        return str(value)
    # Not 1e+03 or 4e-05; volumes have six decimals.
    return f"{float(f'{value:.3g}'):.6f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:.0f}"
