"""DICOM results without their patients: the Basic Application Level Confidentiality Profile of DICOM PS3.15, Annex E.

What is done to each attribute is the standard's table E.1-1, as the package ``dicom-anonymizer`` carries it. UIDs
become others, the same for the same UID within one output folder. The content tree of a Structured Report is kept and
cleaned item by item: the table would remove it, and our writers put nothing of the source's free text into it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from pydicom import DataElement, Dataset, Sequence, dcmread

from ..errors import UsageError
from ..outputs.atomic import COMMIT_MARKER, sync_file
from .scrub import UID

TABLE = "2026c"
"""Edition of the standard that the table is from."""

_DICOM_ROOT = "1.2.840.10008."
_CONTENT_SEQUENCE, _TEXT_VALUE = 0x0040A730, 0x0040A160
_OWN_WORDS = frozenset((_CONTENT_SEQUENCE, _TEXT_VALUE))
"""Kept: written by this package from codes and measurements, never copied from the source."""

_TRACKING_UIDS = re.compile(r"LightUNet\.TrackingUIDs:[^|\n]*")
"""Of the lesions, in the tags of a ``.seg.nrrd``."""

_DUMMIES: dict[str, Any] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), "REMOVED"),
    "DA": "19000101",
    "TM": "000000",
    "DT": "19000101000000",
    "AS": "000Y",
    "UR": "urn:removed",
    **dict.fromkeys(("DS", "IS"), "0"),
    **dict.fromkeys(("FD", "FL", "SS", "US", "SL", "UL", "SV", "UV"), 0),
    **dict.fromkeys(("OB", "OW", "UN"), b"\0\0"),
}


def check_available() -> None:
    """Check that the table is installed.

    Raises
    ------
    UsageError
        If it is not; names the extra.
    """
    _table()


def deidentify_case(folder: Path, *, secret: str) -> None:
    """De-identify every DICOM file of a case that is not published yet, and bring its report in line.

    Parameters
    ----------
    folder : Path
        Staging folder of the case.
    secret : str
        Of the UID mapping.

    Raises
    ------
    UsageError
        If the extra ``deidentify`` is not installed.
    """
    for path in sorted(folder.glob("*.dcm")):
        dataset = dcmread(path)
        deidentify(dataset, secret=secret)
        dataset.save_as(path, enforce_file_format=True)
    for path in (folder / "findings.json", folder / "findings.csv", folder / COMMIT_MARKER):
        if path.is_file():
            text = _with_new_uids(path.read_text(encoding="utf-8"), secret)
            path.write_text(text, encoding="utf-8", newline="\n")
    for path in folder.glob("*.seg.nrrd"):
        header, separator, voxels = path.read_bytes().partition(b"\n\n")
        text = _TRACKING_UIDS.sub(lambda found: _with_new_uids(found.group(), secret), header.decode("utf-8"))
        path.write_bytes(text.encode("utf-8") + separator + voxels)
    _describe_again(folder)
    for path in folder.iterdir():
        sync_file(path)


def deidentify(dataset: Dataset, *, secret: str) -> None:
    """De-identify a data set in place; private attributes, curves and overlays go."""
    _clean(dataset, secret)
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"DICOM PS3.15 {TABLE} Basic Profile, clean structured content"
    dataset.DeidentificationMethodCodeSequence = Sequence(
        [
            _code("113100", "Basic Application Confidentiality Profile"),
            _code("113104", "Clean Structured Content Option"),
        ]
    )
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.preamble = b"\0" * 128


def new_uid(uid: str, secret: str) -> str:
    """Give the UID that stands for another one; UIDs of the standard itself stay."""
    if not uid or uid.startswith(_DICOM_ROOT):
        return uid
    digest = hmac.new(secret.encode(), uid.encode(), hashlib.sha256).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


def _with_new_uids(text: str, secret: str) -> str:
    return UID.sub(lambda found: new_uid(found.group(), secret), text)


def _clean(dataset: Dataset, secret: str) -> None:
    for element in list(dataset):
        tag = int(element.tag)
        if element.tag.is_private or element.tag.group >> 8 in (0x50, 0x60):
            del dataset[element.tag]
            continue
        action = None if tag in _OWN_WORDS else _table().get(tag)
        if action is not None and action(dataset, element, secret):
            continue
        if element.VR == "SQ":
            for item in element.value:
                _clean(item, secret)


def _remove(dataset: Dataset, element: DataElement, secret: str) -> bool:
    del dataset[element.tag]
    return True


def _empty(dataset: Dataset, element: DataElement, secret: str) -> bool:
    element.value = [] if element.VR == "SQ" else None
    return True


def _replace(dataset: Dataset, element: DataElement, secret: str) -> bool:
    if element.VR == "UI":
        return _map_uid(dataset, element, secret)
    if element.VR == "SQ":
        return False  # its items are cleaned one by one
    element.value = _DUMMIES.get(element.VR)
    return True


def _map_uid(dataset: Dataset, element: DataElement, secret: str) -> bool:
    if element.VR != "UI":
        return _replace(dataset, element, secret)
    values = element.value if element.VM > 1 else [element.value] if element.value else []
    element.value = [new_uid(str(value), secret) for value in values] or None
    return True


_ACTIONS: dict[str, Callable[[Dataset, DataElement, str], bool]] = {
    "D_TAGS": _replace,
    "Z_TAGS": _empty,
    "X_TAGS": _remove,
    "U_TAGS": _map_uid,
    # Where the standard leaves a choice: the one that keeps the object valid whatever the type of the attribute is.
    "Z_D_TAGS": _replace,
    "X_Z_TAGS": _empty,
    "X_D_TAGS": _replace,
    "X_Z_D_TAGS": _replace,
    "X_Z_U_STAR_TAGS": _replace,
}


@cache
def _table() -> dict[int, Callable[[Dataset, DataElement, str], bool]]:
    try:
        module = import_module(f"dicomanonymizer.dicom_anonymization_databases.dicomfields_{TABLE}")
    except ImportError as error:
        raise UsageError(
            f"option --deidentify needs the package dicom-anonymizer with the table of {TABLE}.",
            hint="pip install 'lightunet_monai[deidentify]'",
        ) from error
    return {
        (tag[0] << 16) + tag[1]: action
        for name, action in _ACTIONS.items()
        for tag in getattr(module, name)
        if len(tag) == 2  # longer ones are masks of repeating groups, which go as a whole
    }


def _describe_again(folder: Path) -> None:
    path = folder / COMMIT_MARKER
    report = json.loads(path.read_text(encoding="utf-8"))
    for item in report["files"]:
        content = (folder / item["name"]).read_bytes()
        item |= {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code
