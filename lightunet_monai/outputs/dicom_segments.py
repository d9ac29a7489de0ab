"""Which segments a DICOM Segmentation has, and how each is described."""

from __future__ import annotations

from dataclasses import dataclass

from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription

from lightunet_monai.labels import Code, Label
from lightunet_monai.segmentation import Segmentation

from .dicom_source import SourceSeries
from .dicom_terms import algorithm, concept, region_item
from .lesions import LesionMask, is_lesion
from .marking import RESEARCH_STATEMENT, statement
from .uids import lesion_tracking_uid

_LESION_TYPE = Code("SCT", "52988006", "Lesion")


@dataclass(frozen=True)
class Segment:
    """One segment to be written.

    Parameters
    ----------
    number : int
        Counted from 1.
    title, description : str
        For people.
    label : Label
        Codes and colour.
    tracking_id, tracking_uid : str
        Empty if the segment is not a lesion.
    """

    number: int
    title: str
    description: str
    label: Label
    tracking_id: str = ""
    tracking_uid: str = ""


def segment_of_lesion(lesion_number: int) -> int:
    """Segment number of a lesion: lesions come first, in the order of their numbers."""
    return lesion_number


def list_segments(segmentation: Segmentation, lesions: tuple[LesionMask, ...]) -> list[Segment]:
    """Give one segment for each lesion, then one for each other structure; without lesions one for each label."""
    segments = [
        Segment(
            number=segment_of_lesion(lesion.number),
            title=lesion.title,
            description=RESEARCH_STATEMENT,
            label=lesion.label,
            tracking_id=lesion.title,
            tracking_uid=lesion_tracking_uid(segmentation, lesion),
        )
        for lesion in lesions
    ]
    others = [label for label in segmentation.labels if not is_lesion(label)]
    if not lesions:
        others = list(segmentation.labels)
    for label in others:
        is_empty = not (segmentation.label_map == label.value).any()
        text = statement(segmentation.provenance.algorithm_type, is_empty=is_empty)
        segments.append(Segment(len(segments) + 1, label.title, text, label))
    return segments


def probability_segment(segmentation: Segmentation) -> Segment:
    """Give the one segment of a probability map: the lesion label, or "any lesion" if there are several."""
    labels = [label for label in segmentation.labels if is_lesion(label)] or list(segmentation.labels)
    label = labels[0]
    if len(labels) > 1:
        label = Label(label.value, "any", "Any lesion", label.color, label.category, _LESION_TYPE, label.region)
    return Segment(1, f"{label.title} probability"[:64], f"Probability, 0 to 1. {RESEARCH_STATEMENT}", label)


def describe_segment(segment: Segment, segmentation: Segmentation, source: SourceSeries) -> SegmentDescription:
    """Turn a segment into highdicom's description: codes, side, algorithm, colour and tracking."""
    provenance = segmentation.provenance
    description = SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.title[:64],
        segmented_property_category=concept(segment.label.category),
        segmented_property_type=concept(segment.label.type),
        algorithm_type=SegmentAlgorithmTypeValues(provenance.algorithm_type),
        algorithm_identification=algorithm(provenance),
        tracking_uid=segment.tracking_uid or None,
        tracking_id=segment.tracking_id or None,
        display_color=CIELabColor.from_rgb(*segment.label.color),
    )
    description.SegmentDescription = segment.description
    region = region_item(segment.label, source.laterality)
    if region is not None:
        description.AnatomicRegionSequence = [region]
    return description
