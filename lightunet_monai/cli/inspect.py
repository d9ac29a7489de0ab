"""``lightunet inspect``: what is in a folder or file, and what the model is."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import BundleError
from .run_options import study_path

SCHEMA = 1
"""Number of the form of the JSON document; grows when a program that reads it has to change."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument(
        "study",
        type=study_path,
        nargs="?",
        help="DICOM folder, file or zip; NIfTI, NRRD or MetaImage file; for a model of 2-D images, one of them",
    )
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="the model bundle (the one that is installed)")
    parser.add_argument("--model", metavar="NAME", help="which model of the bundle, such as tissues (the bundle's)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Describe the study, if one is given, and the model; 0 if one volume could be segmented as it is."""
    document: dict[str, Any] = {"schema": SCHEMA}
    for name, describe in SECTIONS.items():
        document[name] = describe(arguments)
    if arguments.json:
        print(json.dumps(document, indent=2))
    else:
        print("\n\n".join(filter(None, (TEXTS[name](document[name]) for name in SECTIONS))))
    study = document["study"]
    return 1 if study is not None and study["choice"]["selector"] is None else 0


def _describe_study(arguments: argparse.Namespace) -> dict[str, Any] | None:
    if arguments.study is None:
        return None
    if _takes_pictures(arguments):
        from ..inputs.image2d_describe import describe_image2d

        return {"path": str(arguments.study), **describe_image2d(arguments.study)}
    from ..inputs import survey
    from ..inputs.describe import describe_survey

    found = survey(arguments.study, progress=_progress if sys.stderr.isatty() else None)
    return {"path": str(arguments.study), **describe_survey(found, arguments.study)}


def _takes_pictures(arguments: argparse.Namespace) -> bool:
    if not arguments.model:  # what a bundle means without a name is for volumes
        return False
    from ..inference.bundle_files import find_bundle, read_metadata, takes_pictures

    try:
        return takes_pictures(read_metadata(find_bundle(arguments.bundle)), arguments.model)
    except BundleError:  # the model's own section tells it
        return False


def _describe_model(arguments: argparse.Namespace) -> dict[str, Any]:
    from ..inference.bundle_files import find_bundle, overlays_of, read_metadata
    from ..labels import LabelTable, metadata_of

    try:
        root = find_bundle(arguments.bundle)
        everything = read_metadata(root)
        overlays_of(everything, arguments.model)  # refuses a model that the bundle does not have
        metadata = metadata_of(everything, arguments.model)
    except BundleError as error:
        # A study can be looked at without a model, unless the user named one.
        if arguments.bundle is not None:
            raise
        return {"error": {"reason": error.reason, "message": error.message, "hint": error.hint}}
    image = metadata["network_data_format"]["inputs"]["image"]
    return {
        "path": str(root),
        "name": metadata.get("name", ""),
        "version": metadata.get("version", ""),
        "modality": image.get("modality", "CT"),
        "intended_use": metadata.get("intended_use", ""),
        "labels": [
            {"value": label.value, "name": label.name, "title": label.title, "color": list(label.color)}
            for label in LabelTable.from_metadata(metadata)
        ],
    }


def _progress(done: int, total: int) -> None:
    print(f"\rread {done} of {total} headers", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _study_text(study: dict[str, Any] | None) -> str:
    if study is None:
        return ""
    lines = [study["path"]]
    is_picture = any(source["kind"] == "image2d" for source in study["sources"])
    what, size = ("image", "columns x rows") if is_picture else ("volume", "columns x rows x slices")
    rows: list[tuple[str, ...]] = [("", what, "modality", size, "spacing mm", "")]
    rows += [_source_row(source, study["choice"]["selector"]) for source in study["sources"]]
    lines += _table(rows) if study["sources"] else ["  no volume"]
    for source in study["sources"]:
        name = "" if is_picture else f"{source['selector']}: "  # what is said of an image names it
        lines += [f"  {name}warning: {text}" for text in source["warnings"]]
        if source["problem"]:
            lines.append(f"  {name}cannot be used: {source['problem']['message']}")
            lines.append(f"    {source['problem']['hint']}")
    lines += _set_aside_lines(study["set_aside"])
    if study["choice"]["selector"] is not None:
        lines.append(f"segment would take {study['choice']['selector']}.")
    else:
        error = study["choice"]["error"]
        lines.append(f"segment would refuse: {error['reason']}. {error['hint']}")
    return "\n".join(lines)


def _source_row(source: dict[str, Any], chosen: str | None) -> tuple[str, ...]:
    mark = "*" if source["selector"] == chosen else "!" if source["problem"] else ""
    unknown = "-" if source["kind"] == "image2d" else f"{source['slices'] or '?'} slices"
    size = " x ".join(map(str, source["shape"])) if source["shape"] else unknown
    spacing = " x ".join(f"{value:.4g}" for value in source["spacing"]) if source["spacing"] else "-"
    return mark, source["selector"], source["modality"] or "-", size, spacing, source["description"]


def _set_aside_lines(set_aside: list[dict[str, Any]]) -> list[str]:
    """One line a reason; a study may hold thousands of files that are no image."""
    lines: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for item in set_aside:
        where = item["what"] if item["what"].startswith("Series ") else ""
        lines.setdefault((item["reason"], where), []).append(item)
    text = []
    for (reason, where), items in lines.items():
        count = sum(item["count"] for item in items)
        example = where or (items[0]["what"] if len(items) == 1 else f"{items[0]['what']}, ...")
        text.append(f"  set aside: {count} x {reason} ({example})")
    return text


def _model_text(model: dict[str, Any]) -> str:
    if "error" in model:
        return f"no model: {model['error']['message']}"
    lines = [f"model {model['name']} {model['version']}, for {model['modality']}", f"  {model['path']}"]
    lines += [f"  label {label['value']}: {label['name']} ({label['title']})" for label in model["labels"]]
    return "\n".join(lines)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


SECTIONS: dict[str, Callable[[argparse.Namespace], Any]] = {"study": _describe_study, "model": _describe_model}
"""Parts of the document, in the order they are printed."""

TEXTS: dict[str, Callable[[Any], str]] = {"study": _study_text, "model": _model_text}
