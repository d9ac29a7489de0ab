"""RT Structure Set: contours of each lesion, for planning systems.

A small writer of our own, because the contours must rasterise back: they run half-way between voxel centres inside
and outside, not through the centres of the outermost voxels, so that small lesions do not shrink.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage
from skimage.measure import find_contours

from lightunet_monai.labels import Label
from lightunet_monai.segmentation import Segmentation

from .dicom_object import set_name_and_character_sets, write_object
from .dicom_source import SourceSeries, read_source
from .dicom_terms import MANUFACTURER, NO_SERIAL_NUMBER, concept, package_version, processing_equipment
from .lesions import find_lesions, is_lesion
from .marking import RESEARCH_STATEMENT, RESEARCH_USE, description, statement
from .uids import Stamp

SERIES_OFFSET = 3000
"""Added to the source's series number."""

COORDINATE_DECIMALS = 4
"""A tenth of a micrometre; keeps numbers within the 16 characters of a DS."""

_SET_LABELS = {"AUTOMATIC": "AI_CONTOURS", "SEMIAUTOMATIC": "EDITED_AI", "MANUAL": "CONTOURS"}

_CONTOUR_DATA = Tag("ContourData")

_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management SOP Class, retired, which RT Referenced Study items still have to name."""


@dataclass(frozen=True)
class PlaneMask:
    """A mask in one plane of the label map.

    Parameters
    ----------
    plane : int
        ``[:, :, plane]`` of the label map.
    start : tuple of int
        Column and row of the first corner of the mask.
    mask : ndarray of bool, shape (columns, rows)
    """

    plane: int
    start: tuple[int, int]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Region:
    """One region of interest.

    Parameters
    ----------
    title, description : str
        For people.
    label : Label
        Colour and codes.
    planes : tuple of PlaneMask
        Its parts in the planes of the label map.
    """

    title: str
    description: str
    label: Label
    planes: tuple[PlaneMask, ...]


def write_rtstruct(segmentation: Segmentation, path: Path, *, stamp: Stamp | None = None) -> Path:
    """Write an RT Structure Set with closed planar contours on the slices of the source.

    One region for each lesion and for each other structure. A hole is a contour of its own inside the outer one:
    a point is inside if an odd number of contours surrounds it (XOR). An empty label map gives one region without
    contours for each label, whose description says so.

    Parameters
    ----------
    segmentation : Segmentation
        Its source must be a DICOM series.
    path : Path
        ``.dcm``.
    stamp : Stamp or None
        Time and UIDs; None takes the present time and new UIDs.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the source is no DICOM series or has another grid.
    """
    source = read_source(segmentation)
    dataset = _build(segmentation, source, _regions(segmentation), stamp or Stamp.random())
    return write_object(dataset, path)


def _regions(segmentation: Segmentation) -> list[Region]:
    regions = [
        Region(lesion.title, RESEARCH_STATEMENT, lesion.label, _plane_masks(lesion.mask, lesion.start))
        for lesion in find_lesions(segmentation)
    ]
    found = {region.label.value for region in regions}
    for label in segmentation.labels:
        if label.value not in found and not (found and is_lesion(label)):
            planes = _plane_masks(segmentation.label_map == label.value, (0, 0, 0))
            text = statement(segmentation.provenance.algorithm_type, is_empty=not planes)
            regions.append(Region(label.title, text, label, planes))
    return regions


def _plane_masks(mask: NDArray[np.bool_], start: tuple[int, int, int]) -> tuple[PlaneMask, ...]:
    column, row, plane = start
    occupied = np.flatnonzero(mask.any(axis=(0, 1)))
    return tuple(PlaneMask(plane + int(offset), (column, row), mask[:, :, offset]) for offset in occupied)


def _build(segmentation: Segmentation, source: SourceSeries, regions: list[Region], stamp: Stamp) -> Dataset:
    dataset = _frame(segmentation, source, stamp)
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame(source)]
    dataset.StructureSetROISequence = []
    dataset.ROIContourSequence = []
    dataset.RTROIObservationsSequence = []
    for number, region in enumerate(regions, start=1):
        dataset.StructureSetROISequence.append(_structure(number, region, segmentation, source))
        dataset.ROIContourSequence.append(_contours(number, region, source))
        dataset.RTROIObservationsSequence.append(_observation(number, region))
    return dataset


def _frame(segmentation: Segmentation, source: SourceSeries, stamp: Stamp) -> Dataset:
    now = stamp.clock()
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset = Dataset()
    dataset.update(source.common)
    set_name_and_character_sets(dataset, source)
    for keyword in ("PatientPosition", "StationName", "InstitutionName"):
        dataset.pop(keyword, None)
    for keyword in [element.keyword for element in dataset if element.keyword.startswith("LossyImage")]:
        del dataset[keyword]
    dataset.Modality = "RTSTRUCT"
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = segmentation.provenance.model_name[:64]
    dataset.SoftwareVersions = package_version()
    dataset.DeviceSerialNumber = NO_SERIAL_NUMBER
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = stamp.new_uid("rtstruct.instance")
    dataset.StudyInstanceUID = source.study_uid
    dataset.SeriesInstanceUID = stamp.new_uid("rtstruct.series")
    dataset.SeriesNumber = source.new_series_number(SERIES_OFFSET)
    dataset.InstanceNumber = 1
    dataset.SeriesDescription = description(segmentation.provenance.algorithm_type, "contours")
    dataset.SeriesDate = dataset.StructureSetDate = dataset.InstanceCreationDate = date
    dataset.SeriesTime = dataset.StructureSetTime = dataset.InstanceCreationTime = time
    dataset.OperatorsName = ""
    dataset.StructureSetLabel = _SET_LABELS[segmentation.provenance.algorithm_type]
    dataset.StructureSetName = RESEARCH_USE
    dataset.StructureSetDescription = RESEARCH_STATEMENT
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.FrameOfReferenceUID = source.frame_of_reference_uid
    dataset.ContributingEquipmentSequence = [processing_equipment(segmentation.provenance)]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    # With explicit VR a DS holds 64 kB, about 2,500 points; longer Contour Data would be UN, which readers pass over.
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def _referenced_frame(source: SourceSeries) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ContourImageSequence = [item.reference() for item in source.instances()]
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_COMPONENT
    study.ReferencedSOPInstanceUID = source.study_uid
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = source.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _structure(number: int, region: Region, segmentation: Segmentation, source: SourceSeries) -> Dataset:
    item = Dataset()
    item.ROINumber = number
    item.ReferencedFrameOfReferenceUID = source.frame_of_reference_uid
    item.ROIName = region.title[:64]
    item.ROIDescription = region.description
    item.ROIGenerationAlgorithm = segmentation.provenance.algorithm_type
    if segmentation.provenance.algorithm_type != "MANUAL":
        model = f"{segmentation.provenance.model_name} {segmentation.provenance.model_version}"
        item.ROIGenerationDescription = model[:64]
    return item


def _contours(number: int, region: Region, source: SourceSeries) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor = list(region.label.color)
    item.ReferencedROINumber = number
    contours: list[Dataset] = []
    for part in region.planes:
        for points in outline(part.mask):
            contours.append(_contour(len(contours) + 1, points + part.start, part.plane, source))
    if contours:
        item.ContourSequence = contours
    return item


def outline(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Closed contours of a mask at the level 0.5, in voxel indices (column, row); the first point is not repeated.

    Voxels that touch only at a corner are joined, as lesions are 26-connected.
    """
    padded = np.pad(mask, 1).astype(np.float32)
    found = find_contours(padded, 0.5, fully_connected="high")
    return [np.asarray(points[:-1] - 1, dtype=np.float64) for points in found]


def _contour(number: int, points: NDArray[np.float64], plane: int, source: SourceSeries) -> Dataset:
    voxels = np.column_stack([points, np.full(len(points), plane)])
    world = voxels @ source.voxel_to_lps[:3, :3].T + source.voxel_to_lps[:3, 3]
    item = Dataset()
    item.ContourNumber = number
    image = source.slices[plane].reference()
    if source.slices[plane].frame_number is not None:
        image.ReferencedFrameNumber = source.slices[plane].frame_number
    item.ContourImageSequence = [image]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(points)
    item[_CONTOUR_DATA] = _coordinates(world)
    return item


def _coordinates(world: NDArray[np.float64]) -> RawDataElement:
    """Contour Data as it stands in the file: pydicom would first turn every number into an object of its own."""
    numbers = world.round(COORDINATE_DECIMALS).ravel() + 0.0  # no -0.0
    text = "\\".join([f"{value:.{COORDINATE_DECIMALS}f}" for value in numbers.tolist()])
    value = (text + " " * (len(text) % 2)).encode("ascii")
    return RawDataElement(_CONTOUR_DATA, "DS", len(value), value, 0, False, True)


def _observation(number: int, region: Region) -> Dataset:
    item = Dataset()
    item.ObservationNumber = number
    item.ReferencedROINumber = number
    item.ROIObservationLabel = region.label.name[:16]
    item.RTROIInterpretedType = ""
    item.ROIInterpreter = ""
    item.RTROIIdentificationCodeSequence = [concept(region.label.type)]
    return item
