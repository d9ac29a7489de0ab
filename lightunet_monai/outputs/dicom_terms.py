"""Codes and standing statements that all DICOM results share."""

from __future__ import annotations

from datetime import datetime
from importlib import metadata

from highdicom import AlgorithmIdentificationSequence, ContributingEquipment
from highdicom.sr import CodedConcept
from pydicom import Dataset

from lightunet_monai.labels import Code, Label
from lightunet_monai.segmentation import Provenance

from .marking import RESEARCH_STATEMENT

MANUFACTURER = "lightunet_monai"
NO_SERIAL_NUMBER = "none"

ARTIFICIAL_INTELLIGENCE = CodedConcept("123110", "DCM", "Artificial Intelligence")
PROCESSING_EQUIPMENT = CodedConcept("109102", "DCM", "Processing Equipment")
ABSENT = CodedConcept("2667000", "SCT", "Absent")

_SIDES = {"R": CodedConcept("24028007", "SCT", "Right"), "L": CodedConcept("7771000", "SCT", "Left")}


def concept(code: Code) -> CodedConcept:
    """Turn a code of the label table into highdicom's type."""
    return CodedConcept(code.value, code.scheme, code.meaning)


def side(laterality: str) -> CodedConcept | None:
    """Code of ``"R"`` or ``"L"``; None if the side is unknown."""
    return _SIDES.get(laterality)


def region_item(label: Label, laterality: str) -> Dataset | None:
    """Item of an Anatomic Region Sequence, with the side as its modifier where it is known."""
    if label.region is None:
        return None
    item = Dataset()
    item.update(concept(label.region))
    modifier = side(laterality)
    if modifier is not None:
        item.AnatomicRegionModifierSequence = [modifier]
    return item


def package_version() -> str:
    """Version of this package."""
    return metadata.version(MANUFACTURER)


def algorithm(provenance: Provenance) -> AlgorithmIdentificationSequence | None:
    """Identify the model: name, version, and what makes a run repeatable; None if no model had a part in it."""
    if provenance.algorithm_type == "MANUAL":
        return None
    settings = {"weights_sha256": provenance.weights_sha256, "engine": provenance.engine}
    settings |= {"precision": provenance.precision, **{key: str(value) for key, value in provenance.settings.items()}}
    settings = {key: value for key, value in settings.items() if value}
    return AlgorithmIdentificationSequence(
        name=provenance.model_name[:64],
        family=ARTIFICIAL_INTELLIGENCE,
        version=provenance.model_version[:64],
        source=MANUFACTURER,
        parameters=settings,
    )


def processing_equipment(provenance: Provenance) -> ContributingEquipment:
    """State that this software made the object."""
    return ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=PROCESSING_EQUIPMENT,
        manufacturer_model_name=provenance.model_name[:64],
        software_versions=package_version(),
        contribution_description=RESEARCH_STATEMENT,
    )


def set_creation_time(dataset: Dataset, now: datetime) -> None:
    """Give an object made by highdicom the time of the injected clock; highdicom takes the system's."""
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    for item in dataset.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in item:
            item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
