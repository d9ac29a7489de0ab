"""What the DICOM objects of a result share: their place in the study, their maker, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom import Dataset

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


def set_character_sets(dataset: Dataset, source: SourceSeries) -> None:
    """Say in which character sets the texts of a new object are written: those of its source.

    Done when the object is complete, because highdicom refuses some that the standard allows.
    """
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
