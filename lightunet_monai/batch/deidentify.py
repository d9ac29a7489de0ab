"""DICOM results without their patients: the Basic Application Level Confidentiality Profile of DICOM PS3.15, Annex E.

What is done to each attribute is the standard's table E.1-1, as the package ``dicom-anonymizer`` carries it. UIDs
become others, the same for the same UID within one output folder, and so does the Patient ID, so that archives keep
patients apart. The content tree of a Structured Report is kept and cleaned item by item, and so are the descriptions
and names that our writers make: the table would remove them, and nothing of the source's free text is in them.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
import re
import uuid
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from pydicom import DataElement, Dataset, Sequence, dcmread
from pydicom.tag import BaseTag, Tag

from ..errors import UsageError
from ..outputs.atomic import COMMIT_MARKER, sync_file
from ..outputs.file_hash import file_sha256
from ..outputs.marking import RESEARCH_USE
from .scrub import UID

TABLE = "2026c"
"""Edition of the standard that the table is from."""

_OF_THE_STANDARD = re.compile(r"1\.2\.840\.10008\.[0-9.]+")

# fmt: off
_OWN_WORDS = frozenset(map(Tag, (
    "ContentSequence", "TextValue", "SeriesDescription", "ContributionDescription",
    "StructureSetLabel", "StructureSetName", "StructureSetDescription",
    "ROIName", "ROIDescription", "ROIGenerationDescription", "ROIObservationLabel",
)))
# fmt: on
"""Kept in objects of this package: written from codes, labels and measurements, never copied from the source."""

_CONTOUR_DATA = Tag("ContourData")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")

PSEUDONYM_DIGITS = 16
"""Hexadecimal: two of a million patients share a pseudonym with a probability of 3e-8."""

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
    report = _read_json(folder / COMMIT_MARKER)
    rename = _renamer([report["source"].get(name) for name in ("study_uid", "series_uid")], secret)
    for path in folder.glob("*.json"):
        _write_json(_with_new_uids(_read_json(path), rename, secret), path)
    for path in folder.glob("*.csv"):
        path.write_text(_renamed_cells(path.read_text(encoding="utf-8"), rename), encoding="utf-8", newline="\n")
    for path in folder.glob("*.seg.nrrd"):
        header, separator, voxels = path.read_bytes().partition(b"\n\n")
        text = _TRACKING_UIDS.sub(lambda found: rename(found.group()), header.decode("utf-8"))
        path.write_bytes(text.encode("utf-8") + separator + voxels)
    _describe_again(folder)
    for path in folder.iterdir():
        sync_file(path)


def deidentify(dataset: Dataset, *, secret: str) -> None:
    """De-identify a data set in place; private attributes, curves and overlays go."""
    patient = _pseudonym(dataset, secret)
    is_own = str(dataset.get("SeriesDescription", "")).startswith(RESEARCH_USE)
    _clean(dataset, secret, _OWN_WORDS if is_own else frozenset())
    dataset.PatientID = patient
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"DICOM PS3.15 {TABLE} Basic Profile, clean descriptors and content"
    dataset.DeidentificationMethodCodeSequence = Sequence(
        [
            _code("113100", "Basic Application Confidentiality Profile"),
            _code("113104", "Clean Structured Content Option"),
            _code("113105", "Clean Descriptors Option"),
        ]
    )
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.preamble = b"\0" * 128


def new_uid(uid: str, secret: str) -> str:
    """Give the UID that stands for another one; UIDs of the standard itself stay."""
    if not uid or _OF_THE_STANDARD.fullmatch(uid):
        return uid
    return f"2.25.{uuid.UUID(bytes=_keyed_hash(uid, secret)[:16], version=4).int}"


def _pseudonym(dataset: Dataset, secret: str) -> str:
    """The Patient ID that stands for the one of a data set; without one, each study is a patient."""
    patient = str(dataset.get("PatientID") or "") or str(dataset.get("StudyInstanceUID") or "")
    text = "\n".join((str(dataset.get("IssuerOfPatientID") or ""), patient))
    return f"DEID-{_keyed_hash(text, secret).hex()[:PSEUDONYM_DIGITS]}"


def _keyed_hash(text: str, secret: str) -> bytes:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()


def _renamer(uids: Iterable[str | None], secret: str) -> Callable[[str], str]:
    """Give what maps UIDs in a text: these, whatever they look like, and all that look like one."""
    # In one pass: a UID that is new already would be mapped again.
    known = "".join(rf"(?<![^\W_]){re.escape(uid)}(?![^\W_])|" for uid in sorted(filter(None, uids), key=len)[::-1])
    pattern = re.compile(known + UID.pattern)
    return lambda text: pattern.sub(lambda found: new_uid(found.group(), secret), text)


def _with_new_uids(value: Any, rename: Callable[[str], str], secret: str) -> Any:
    """JSON values with other UIDs: whole where a key says so, within all other texts."""
    if isinstance(value, dict):
        return {
            key: new_uid(item, secret)
            if key.endswith("_uid") and isinstance(item, str)
            else _with_new_uids(item, rename, secret)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_with_new_uids(item, rename, secret) for item in value]
    return rename(value) if isinstance(value, str) else value


def _renamed_cells(text: str, rename: Callable[[str], str]) -> str:
    """A CSV table with other UIDs; numbers stay, also one that reads like a UID of the source."""
    result = io.StringIO()
    writer = csv.writer(result, lineterminator="\n")
    for row in csv.reader(io.StringIO(text)):
        writer.writerow([cell if _NUMBER.fullmatch(cell) else rename(cell) for cell in row])
    return result.getvalue()


def _clean(dataset: Dataset, secret: str, own_words: frozenset[int]) -> None:
    for tag in list(dataset.keys()):
        if tag.is_private or tag.group >> 8 in (0x50, 0x60):
            del dataset[tag]
        elif tag != _CONTOUR_DATA:  # reading it makes an object of every number
            _clean_element(dataset, tag, secret, own_words)


def _clean_element(dataset: Dataset, tag: BaseTag, secret: str, own_words: frozenset[int]) -> None:
    element = dataset[tag]
    action = None if tag in own_words else _table().get(tag)
    if action is not None and action(dataset, element, secret):
        return
    if element.VR == "SQ":
        for item in element.value:
            _clean(item, secret, own_words)


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
    report = _read_json(path)
    for item in report["files"]:
        file = folder / item["name"]
        item |= {"size_bytes": file.stat().st_size, "sha256": file_sha256(file)}
    _write_json(report, path)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(values: Any, path: Path) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code
