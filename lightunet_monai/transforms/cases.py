"""Lists of cases for the bundle's datasets."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import NoImageFoundError, UnreadableFileError
from ..inputs import discover_sources
from ..inputs.image2d_pixels import IMAGE2D_SUFFIXES
from ..sources import DicomSeries

logger = logging.getLogger(__name__)

MODALITIES = ("CT", "")
"""DICOM modalities that are taken; an empty one is judged when the volume is loaded."""

SECTIONS_NAMED = 8
"""Of a datalist, in a message."""

_FORM = (
    "Write the datalist as {'training': [{'image': ..., 'label': ...}], 'validation': [...]}; "
    "for folds each case under 'training' needs 'fold': NUMBER."
)


def list_cases(dataset_dir: str | Path) -> list[dict[str, Any]]:
    """List every volume below a folder for a MONAI dataset.

    Parameters
    ----------
    dataset_dir : path
        A folder of NIfTI, NRRD or MetaImage files and DICOM studies, or one of them.

    Returns
    -------
    list of dict
        ``{"image": ImageSource}`` for each volume; series of another modality are left out with a log line.

    Raises
    ------
    NoImageFoundError
        If no volume is left.
    """
    cases: list[dict[str, Any]] = []
    for source in discover_sources(Path(dataset_dir)):
        if isinstance(source, DicomSeries) and source.modality not in MODALITIES:
            logger.warning("%s: skipped, its modality is %s, not CT", source.series_uid, source.modality)
            continue
        cases.append({"image": source})
    if not cases:
        raise NoImageFoundError(
            f"{dataset_dir}: no CT volume found.", hint="Give a folder of NIfTI files or DICOM CT studies."
        )
    return cases


def list_images(dataset_dir: str | Path) -> list[dict[str, Any]]:
    """List every 2-D image in a folder for a MONAI dataset.

    Parameters
    ----------
    dataset_dir : path
        A folder (of one level) of PNG, JPEG, TIFF and DICOM (``.dcm``) files, hidden ones left out, or one file of
        any name.

    Returns
    -------
    list of dict
        ``{"image": path}``, by name.

    Raises
    ------
    NoImageFoundError
        If there is none.
    """
    root = Path(dataset_dir)
    suffixes = (*IMAGE2D_SUFFIXES, ".dcm")
    files = [path for path in sorted(root.glob("*")) if path.name.lower().endswith(suffixes) and path.is_file()]
    # macOS writes a hidden file beside each one on a foreign disk.
    found = [root] if root.is_file() else [path for path in files if not path.name.startswith(".")]
    if not found:
        raise NoImageFoundError(f"{root}: no 2-D image found.", hint="Give a folder of PNG, JPEG, TIFF or DICOM files.")
    return [{"image": str(path)} for path in found]


def list_labelled_cases(
    datalist: str | Path, section: str, fold: int | None = None, optional: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Read one section of a Decathlon-style datalist.

    For cross-validation the cases under ``"training"`` carry a number, ``"fold"``. With a fold, that fold is the
    section ``"validation"`` and all others are ``"training"``.

    Parameters
    ----------
    datalist : path
        JSON with ``{"training": [{"image": path, "label": path}, ...], "validation": [...]}``; relative paths
        start from the folder of the file.
    section : str
        ``"training"``, ``"validation"`` or ``"test"``; where there is no ``"test"``, that is ``"testing"``, as some
        tools (`lightunet simulate` among them) call it.
    fold : int, optional
        Which fold is held out.
    optional : sequence of str
        Further keys whose paths are taken where a case has them, such as ``"tissue"``.

    Returns
    -------
    list of dict
        ``{"image": path, "label": path}`` with absolute paths as strings.

    Raises
    ------
    UnreadableFileError
        If the file is not such a datalist.
    NoImageFoundError
        If there is no such file, or the section is empty or names a file that does not exist.
    """
    path = Path(datalist)
    lists = _read_lists(path)
    if section == "test" and "test" not in lists:
        section = "testing" if "testing" in lists else section
    if section.startswith("test"):
        fold = None
    name = section if fold is None else "training"
    folds = _folds(lists)
    if folds and fold is None and name == "validation" and name not in lists:
        raise UnreadableFileError(
            f"{path}: no section {name!r}, its cases are divided into the folds {', '.join(map(str, folds))}.",
            hint="For training, name the fold to hold out (fold, --fold K); other commands take a list of their own.",
        )
    if not isinstance(lists.get(name), list):
        sections = [key for key, value in lists.items() if isinstance(value, list)]
        raise UnreadableFileError(
            f"{path}: no section {name!r}, found {', '.join(map(repr, sections[:SECTIONS_NAMED])) or 'none'}.",
            hint=f"Name one that is there, with --section where the command has it. {_FORM}",
        )
    try:
        items = lists[name] if fold is None else _of_fold(lists[name], section, fold, path)
        cases = [
            {
                key: str((path.parent / item[key]).absolute())
                for key in ("image", "label", *(name for name in optional if name in item))
            }
            for item in items
        ]
    except (KeyError, TypeError) as error:
        what = f"a case without {error}" if isinstance(error, KeyError) else "a case of another form"
        expected = "image and label" if fold is None else "image, label and fold"
        raise UnreadableFileError(
            f"{path}: section {name!r}: found {what}, expected {expected} for each case.", hint=_FORM
        ) from error
    for item in items:
        if empty := [key for key in ("image", "label", *optional) if item.get(key) == ""]:  # the datalist's own folder
            raise UnreadableFileError(
                f"{path}: section {name!r}: found a case with an empty {empty[0]}, expected a path.", hint=_FORM
            )
    names = [name for case in cases for name in case.values()]
    missing = [name for name in names if not os.path.exists(name)]  # too long a name, too
    if missing or not cases:
        found = f"{len(missing)} of {len(names)} files missing, the first is {missing[0]}" if missing else "no case"
        hint = "Check the paths in the datalist." if missing else f"List at least one case there. {_FORM}"
        if fold is not None and not missing:
            found = f"no case where fold {fold} is held out, found the folds {', '.join(map(str, folds)) or 'none'}"
            hint = "Hold out one of several folds."
        raise NoImageFoundError(f"{path}: section {section!r}: {found}.", hint=hint)
    return cases


def _folds(lists: dict[str, Any]) -> list[int]:
    """Numbers of the folds of a datalist, as far as they are numbers."""
    cases = lists.get("training")
    found: list[Any] = [case.get("fold") for case in cases if isinstance(case, dict)] if isinstance(cases, list) else []
    return sorted({int(number) for number in found if _is_whole(number)})


def _is_whole(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and float(value).is_integer()  # type: ignore[arg-type]


def _read_lists(path: Path) -> dict[str, Any]:
    try:
        lists = json.loads(path.read_text(encoding="utf-8-sig"))  # some editors of Windows begin with a mark
    except FileNotFoundError as error:
        raise NoImageFoundError(f"{path}: no such file.", hint="'lightunet datalist' writes one.") from error
    except OSError as error:
        raise UnreadableFileError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:  # whose text may hold the whole file
        raise UnreadableFileError(f"{path}: is no JSON, expected a datalist.", hint=_FORM) from error
    if not isinstance(lists, dict):
        kind = type(lists).__name__
        raise UnreadableFileError(f"{path}: is no datalist: found {kind}, expected an object.", hint=_FORM)
    return lists


def _of_fold(items: list[dict[str, Any]], section: str, fold: int, path: Path) -> list[dict[str, Any]]:
    for item in items:
        if not _is_whole(item["fold"]):  # it would be held out with no fold, and shown in every training
            raise UnreadableFileError(
                f"{path}: section 'training': found a case of fold {item['fold']!r}, expected a whole number.",
                hint=_FORM,
            )
    return [item for item in items if (item["fold"] == fold) == (section == "validation")]
