"""DICOM Structured Report of the measurements: TID 1500 as a Comprehensive 3D SR, preliminary and unverified."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset, dcmread

from lightunet_monai.errors import OutputError
from lightunet_monai.labels import Label
from lightunet_monai.segmentation import Provenance, Segmentation

from .dicom_object import nameless_header, object_header, set_name_and_character_sets, write_object
from .dicom_segments import segment_of_lesion
from .dicom_source import SourceSeries, read_source
from .dicom_terms import ABSENT, MANUFACTURER, concept, set_creation_time, side
from .findings import Findings, Lesion, round_volume
from .lesions import is_lesion
from .marking import statement
from .uids import Stamp, derived_uid

SERIES_OFFSET = 2000
"""Added to the source's series number."""

_DIGITS = 3
"""Decimals of a measured value other than a volume: a micrometre, a thousandth of an HU."""

_CM3 = CodedConcept("cm3", "UCUM", "cubic centimeter")
_MM = CodedConcept("mm", "UCUM", "millimeter")
_MM2 = CodedConcept("mm2", "UCUM", "square millimeter")
_HU = CodedConcept("[hnsf'U]", "UCUM", "Hounsfield unit")
_ONE = CodedConcept("1", "UCUM", "no units")
_MEAN = CodedConcept("373098007", "SCT", "Mean")
_STANDARD_DEVIATION = CodedConcept("386136009", "SCT", "Standard Deviation")
_ATTENUATION = CodedConcept("112031", "DCM", "Attenuation Coefficient")

_MEASUREMENTS = (
    ("volume_ml", CodedConcept("118565006", "SCT", "Volume"), _CM3, None),
    ("axial_long_axis_mm", CodedConcept("103339001", "SCT", "Long Axis"), _MM, None),
    ("axial_short_axis_mm", CodedConcept("103340004", "SCT", "Short Axis"), _MM, None),
    ("feret_diameter_mm", CodedConcept("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh"), _MM, None),
    ("surface_area_mm2", CodedConcept("C0JK", "IBSI", "Surface Area of Mesh"), _MM2, None),
    ("sphericity", CodedConcept("QCFX", "IBSI", "Sphericity"), _ONE, None),
    ("mean_hu", _ATTENUATION, _HU, _MEAN),
    ("sd_hu", _ATTENUATION, _HU, _STANDARD_DEVIATION),
)
"""Field of `Lesion`, concept, unit, derivation."""


def write_dicom_sr(
    segmentation: Segmentation,
    findings: Findings,
    seg: Path | Dataset,
    path: Path,
    *,
    stamp: Stamp | None = None,
) -> Path:
    """Write the measurements of every lesion as a structured report that refers to the segments of a DICOM SEG.

    A case without lesions gives a report that states for each lesion label that it is absent, and says what that
    means.

    Parameters
    ----------
    segmentation : Segmentation
        Its source must be a DICOM series.
    findings : Findings
        From `measure_lesions` on the same segmentation.
    seg : Path or Dataset
        The object that `write_dicom_seg` made, ``kind="binary"`` or ``"labelmap"``.
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
        If the source is no DICOM series, or the findings and the SEG are not about the same lesions.
    """
    seg = seg if isinstance(seg, Dataset) else dcmread(seg, stop_before_pixels=True)
    _check_same_lesions(findings, seg)
    report = _build(segmentation, findings, seg, read_source(segmentation), stamp or Stamp.random())
    return write_object(report, path)


def _check_same_lesions(findings: Findings, seg: Dataset) -> None:
    in_seg = [str(item.TrackingUID) for item in seg.SegmentSequence if "TrackingUID" in item]
    in_findings = [lesion.tracking_uid for lesion in findings]
    if in_seg != in_findings:
        raise OutputError(
            f"structured report: found {len(in_seg)} tracked lesions in the segmentation object, "
            f"expected the {len(in_findings)} of the findings.",
            hint="Write the report and the segmentation object from the same segmentation.",
        )


def _build(
    segmentation: Segmentation, findings: Findings, seg: Dataset, source: SourceSeries, stamp: Stamp
) -> Comprehensive3DSR:
    provenance = segmentation.provenance
    labels = {label.name: label for label in segmentation.labels}
    groups = [_lesion_group(item, labels[item.label], seg, source, provenance) for item in findings]
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(provenance)),
        procedure_reported=CodedConcept("77477000", "SCT", "Computed tomography"),
        imaging_measurements=groups or [_absence_group(label, source) for label in labels.values() if is_lesion(label)],
        title=CodedConcept("126000", "DCM", "Imaging Measurement Report"),
    )
    _add_comment(content, statement(provenance.algorithm_type, is_empty=not groups))
    role = f"sr.{seg.SOPInstanceUID}"  # a report that refers to another object is another report
    report = Comprehensive3DSR(
        evidence=_evidence(seg, source),
        content=content[0],
        is_complete=True,
        is_final=False,
        is_verified=False,
        **object_header(source, provenance, stamp, role=role, kind="findings", series_offset=SERIES_OFFSET),
    )
    set_name_and_character_sets(report, source)
    set_creation_time(report, stamp.clock())
    return report


def _lesion_group(
    lesion: Lesion, label: Label, seg: Dataset, source: SourceSeries, provenance: Provenance
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=lesion.tracking_uid, identifier=f"{label.title} {lesion.number}"),
        referenced_segment=ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=segment_of_lesion(lesion.number),
            source_series=SourceSeriesForSegmentation(source.series_uid),
        ),
        finding_type=concept(label.type),
        finding_category=concept(label.category),
        finding_sites=_sites(label, source),
        algorithm_id=_algorithm(provenance),
        measurements=_measurements(lesion),
    )


def _algorithm(provenance: Provenance) -> AlgorithmIdentification | None:
    if provenance.algorithm_type == "MANUAL":
        return None
    return AlgorithmIdentification(
        name=provenance.model_name,
        version=provenance.model_version,
        parameters=[f"weights_sha256={provenance.weights_sha256}"],
    )


def _measurements(lesion: Lesion) -> list[Measurement]:
    return [
        Measurement(name=name, value=_written(field, getattr(lesion, field)), unit=unit, derivation=derivation)
        for field, name, unit, derivation in _MEASUREMENTS
        if getattr(lesion, field) is not None
    ]


def _written(field: str, value: float) -> float:
    return round_volume(value) if field == "volume_ml" else round(float(value), _DIGITS)


def _absence_group(label: Label, source: SourceSeries) -> MeasurementsAndQualitativeEvaluations:
    # Of this volume: one series may hold both breasts, or two phases.
    slices = (f"{item.sop_instance_uid} {item.frame_number or ''}" for item in source.slices)
    uid = derived_uid(source.series_uid, *slices, "absent", label.name)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid, identifier=f"{label.title}: none found"),
        finding_sites=_sites(label, source),
        qualitative_evaluations=[QualitativeEvaluation(name=concept(label.type), value=ABSENT)],
    )


def _sites(label: Label, source: SourceSeries) -> list[FindingSite] | None:
    if label.region is None:
        return None
    return [FindingSite(anatomic_location=concept(label.region), laterality=side(source.laterality))]


def _observer(provenance: Provenance) -> ObserverContext:
    return ObserverContext(
        observer_type=CodedConcept("121007", "DCM", "Device"),
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=derived_uid(provenance.model_name, provenance.model_version, provenance.weights_sha256, "observer"),
            name=provenance.model_name,
            manufacturer_name=MANUFACTURER,
            model_name=provenance.model_version,
        ),
    )


def _add_comment(content: MeasurementReport, text: str) -> None:
    """TID 1500 is extensible; a comment at its end is what viewers show as text."""
    comment = TextContentItem(
        name=CodedConcept("121106", "DCM", "Comment"), value=text, relationship_type=RelationshipTypeValues.CONTAINS
    )
    content[0].ContentSequence.append(comment)


def _evidence(seg: Dataset, source: SourceSeries) -> Sequence[Dataset]:
    """The segmentation, with patient and study as every other result of this source states them, the name aside."""
    evidence = nameless_header(source)
    evidence.StudyInstanceUID = source.study_uid
    evidence.SeriesInstanceUID = seg.SeriesInstanceUID
    evidence.SOPClassUID = seg.SOPClassUID
    evidence.SOPInstanceUID = seg.SOPInstanceUID
    return [evidence]
