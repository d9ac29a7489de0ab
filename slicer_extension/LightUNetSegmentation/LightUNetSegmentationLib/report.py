"""Reads ``report.json`` and turns its lesions into a table, a text and CSV. No Slicer import."""

from __future__ import annotations

import csv
import io
import json

from .errors import ModuleError

SCHEMA = 1
"""Of the report this module understands."""

COLUMNS = (
    ("number", "No.", "{:d}"),
    ("label", "Structure", "{}"),
    ("volume_ml", "Volume (ml)", "{:.2f}"),
    ("feret_diameter_mm", "Diameter (mm)", "{:.1f}"),
    ("axial_long_axis_mm", "Axial (mm)", "{:.1f}"),
    ("axial_short_axis_mm", "Short (mm)", "{:.1f}"),
    ("mean_hu", "Mean (HU)", "{:.0f}"),
    ("location", "Location R, A, S (mm)", "{}"),
)
"""Key of a lesion, title of the column, format of the cell."""


def readReport(path):
    """Read the report of a run.

    Returns
    -------
    dict

    Raises
    ------
    ModuleError
        If it is missing, damaged, of another schema, or tells of a failure.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            report = json.load(stream)
    except (OSError, ValueError) as error:
        raise ModuleError(
            "The report of the run cannot be read.", "Copy the diagnostics and report the problem."
        ) from error
    if report.get("schema") != SCHEMA:
        raise ModuleError(
            f"The report has schema {report.get('schema')}, expected {SCHEMA}.",
            "Update the package or the extension: Setup, Install or repair.",
        )
    if report.get("status") != "done":
        error = report.get("error") or {}
        raise ModuleError(error.get("message", "The run failed."), error.get("hint", ""), kind=error.get("kind", ""))
    return report


def resultFile(report, folder, formatName):
    """Give the path of one file of the result by its format.

    Raises
    ------
    ModuleError
        If the result holds no such file.
    """
    import os

    for item in report.get("files", ()):
        if item["format"] == formatName:
            return os.path.join(folder, item["name"])
    raise ModuleError(f"The result holds no file of format {formatName}.", "Setup: Install or repair.")


def lesionRows(lesions):
    """Give the cells of the table, one tuple of str a lesion; a value that was not measured is ``"-"``."""
    return [tuple(_cell(lesion, key, form) for key, _, form in COLUMNS) for lesion in lesions]


def densityText(density):
    """Give a line about the breast density, 0 to 1; ``""`` for None."""
    return "" if density is None else f"Fibroglandular tissue: {density:.0%} of the breast's volume"


def doubtfulText(places):
    """Give a line about the places that the model drew and left out, surest first; ``""`` without any."""
    if not places:
        return ""
    number = "1 place" if len(places) == 1 else f"{len(places)} places"
    return f"Doubtful, not drawn: {number}, probability {places[0]['probability']:.2f} at most"


def lesionText(lesions, statement="", density=None):
    """Give a text for the clipboard: one line a lesion."""
    if not lesions:
        lines = ["No lesion in the segmentation. This does not mean that there is none."]
    else:
        lines = ["\t".join(title for _, title, _ in COLUMNS)] + ["\t".join(row) for row in lesionRows(lesions)]
    return "\n".join([*lines, *filter(None, (densityText(density), statement))])


def lesionCsv(lesions):
    """Give CSV with a header: every measured number, one line a lesion."""
    keys = [key for key, _, _ in COLUMNS if key != "location"] + ["right_mm", "anterior_mm", "superior_mm"]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, keys, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for lesion in lesions:
        right, anterior, superior = lesion["centroid_ras_mm"]
        writer.writerow({**lesion, "right_mm": right, "anterior_mm": anterior, "superior_mm": superior})
    return stream.getvalue()


def _cell(lesion, key, form):
    if key == "location":
        return ", ".join(f"{value:.1f}" for value in lesion["centroid_ras_mm"])
    value = lesion.get(key)
    return "-" if value is None else form.format(value)
