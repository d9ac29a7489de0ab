"""Write a datalist of 2-D images with folds, from an index that names the group and the fold of each image.

    python scripts/ultrasound_datalist.py DATA -o datalist.json
    lightunet train --model ultrasound --data datalist.json --fold 0 -o OUT

DATA holds ``index.csv`` (columns id, class, group, fold), ``images/ID.png`` and ``masks/ID.png``. Images of one group
(near-duplicates) must share a fold, else the figures on the held-out fold would be too good: this is checked. Cases of
the held-out fold are listed a second time under "test", for the evaluation. `--all` makes the list of the shipped
weights.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from pathlib import Path

SEEN_AGAIN = 8
"""Images of `--all` that are validated on although training shows them: it wants some, and they choose nothing."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Datalist of 2-D images with folds.")
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--held-out", type=int, default=0, help="fold listed under 'test' (0)")
    kind.add_argument(
        "--all", action="store_true", help=f"no folds: all for training, {SEEN_AGAIN} of them under 'validation', too"
    )
    arguments = parser.parse_args()
    try:
        rows = _rows(arguments.data)
    except (OSError, ValueError) as error:
        print(f"error: {arguments.data / 'index.csv'}: {error}", file=sys.stderr)
        return 1
    folds_of_group: dict[str, set[str]] = {}
    for row in rows:
        folds_of_group.setdefault(row["group"], set()).add(row["fold"])
    torn = sorted(group for group, folds in folds_of_group.items() if len(folds) > 1)
    if torn:
        print(f"error: {len(torn)} groups lie in several folds, the first is {torn[0]}.", file=sys.stderr)
        return 1
    cases = [_case(arguments.data, row, arguments.output.parent) for row in rows]
    if arguments.all:
        cases = [{key: value for key, value in case.items() if key != "fold"} for case in cases]
        sections, said = {"training": cases, "validation": cases[:SEEN_AGAIN]}, "all for training"
    else:
        test = [case for case in cases if case["fold"] == arguments.held_out]
        if not test:
            print(f"error: no image is in fold {arguments.held_out}, expected some to hold out.", file=sys.stderr)
            return 1
        sections, said = {"training": cases, "test": test}, f"{len(test)} of them in fold {arguments.held_out}"
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(sections, indent=1) + "\n", encoding="utf-8")
    print(f"{arguments.output}: {len(cases)} images, {said}")
    return 0


def _rows(data: Path) -> list[dict[str, str]]:
    """Read the index; each image once, with whole numbers for folds and files that exist."""
    with open(data / "index.csv", encoding="utf-8-sig", newline="") as stream:
        rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in csv.DictReader(stream)]
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        if missing := [name for name in COLUMNS if not row.get(name)]:
            raise ValueError(f"line {number} has no {', '.join(missing)}; expected the columns {', '.join(COLUMNS)}.")
        if not row["fold"].isdigit():
            raise ValueError(f"line {number}: fold {row['fold']!r}, expected a whole number.")
        row["fold"] = str(int(row["fold"]))
        if row["id"] in seen:
            raise ValueError(f"line {number}: image {row['id']} is listed twice.")
        seen.add(row["id"])
        for folder in KEYS.values():
            if not (data / folder / f"{row['id']}.png").is_file():
                raise ValueError(f"line {number}: {folder}/{row['id']}.png is missing.")
    return rows


def _case(data: Path, row: dict[str, str], start: Path) -> dict[str, object]:
    paths = {key: (data / folder).resolve() / f"{row['id']}.png" for key, folder in KEYS.items()}
    return {
        # As the system goes a path: `..` behind a link leaves where the link leads.
        **{key: os.path.relpath(path, start.resolve()) for key, path in paths.items()},
        "fold": int(row["fold"]),
        "group": row["group"],
        "class": row["class"],
    }


KEYS = {"image": "images", "label": "masks"}
COLUMNS = ("id", "class", "group", "fold")

if __name__ == "__main__":
    raise SystemExit(main())
