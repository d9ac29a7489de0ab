"""What an earlier run wrote: a label map that lies in a study is no CT volume of it.

result_names(Path("study/out"))     # {"labelmap.nii.gz", "findings.csv", ...}
"""

from __future__ import annotations

import json
from pathlib import Path

from .limits import MAX_REPORT_BYTES

REPORT = "report.json"
"""Written last into the folder of each result; it lists the other files."""


def result_names(folder: Path) -> frozenset[str]:
    """Give the names of the files that a run of this package has written into a folder.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    frozenset of str
        As ``report.json`` in the folder lists them, with its own name; empty if there is none, or it is not ours.
    """
    try:
        if not (folder / REPORT).is_file():  # a pipe would be waited for
            return frozenset()
        with (folder / REPORT).open("rb") as stream:
            report = json.loads(stream.read(MAX_REPORT_BYTES))
        if not {"schema", "statement", "status"} <= report.keys():
            return frozenset()
        return frozenset((REPORT, *(str(item["name"]) for item in report["files"] if item["sha256"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return frozenset()
