"""What the DICOM objects of a result share: their place in the study, their maker, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom import DataElement, Dataset

from lightunet_monai.segmentation import Provenance

from .atomic import atomic_file
from .dicom_source import SourceSeries
from .dicom_terms import MANUFACTURER, package_version, processing_equipment
from .marking import description
from .uids import Stamp


def write_object(dataset: Dataset, path: Path) -> Path:
    """Write a DICOM file, atomically.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with atomic_file(Path(path)) as part:
        dataset.save_as(part, enforce_file_format=True)
    return Path(path)


def nameless_header(source: SourceSeries) -> Dataset:
    """Give what the objects of a result have in common for highdicom, with the patient's name left empty.

    highdicom quotes a name without a caret in a warning, which would bring it into logs, and refuses one with a
    backslash, as names in some Chinese and Japanese encodings have that state none.
    """
    header = Dataset()
    header.update(source.common)
    header["PatientName"] = DataElement("PatientName", "PN", "")  # not by attribute: the element is shared
    return header


def set_name_and_character_sets(dataset: Dataset, source: SourceSeries) -> None:
    """Write the patient's name into a new object, and in which character sets its texts are: as in its source.

    Done when the object is complete, because highdicom refuses some that the standard allows.
    """
    dataset["PatientName"] = source.common["PatientName"]
    if source.character_sets:
        dataset.SpecificCharacterSet = list(source.character_sets)


def object_header(
    source: SourceSeries, provenance: Provenance, stamp: Stamp, *, role: str, kind: str, series_offset: int
) -> dict[str, Any]:
    """Give series, instance, maker and times of a new object, under the names that highdicom takes them.

    Parameters
    ----------
    source : SourceSeries
        Whose study the object joins.
    provenance : Provenance
        Who drew the result.
    stamp : Stamp
        Time and UIDs.
    role : str
        Of the UIDs, such as ``"binary"``.
    kind : str
        Of the object, for people, such as ``"segmentation"``.
    series_offset : int
        Added to the source's series number.

    Returns
    -------
    dict
        Keyword arguments of highdicom's `Segmentation` and `Comprehensive3DSR`.
    """
    now = stamp.clock()
    return {
        "series_instance_uid": stamp.new_uid(f"{role}.series"),
        "series_number": source.new_series_number(series_offset),
        "sop_instance_uid": stamp.new_uid(f"{role}.instance"),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": provenance.model_name[:64],
        "software_versions": package_version(),
        "contributing_equipment": [processing_equipment(provenance)],
        "series_description": description(provenance.algorithm_type, kind),
        "content_date": now.date(),
        "content_time": now.time(),
        "series_date": now.date(),
        "series_time": now.time(),
    }
