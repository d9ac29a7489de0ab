"""DICOM Segmentation: one segment for each lesion, and one for each other structure.

Written with highdicom on one header for each plane of the label map. The headers lie exactly on the affine and carry
placeholder UIDs; references are put in their place afterwards. So single-frame and multi-frame sources, tilted and
left-handed ones, and sources with defective headers go the same way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from highdicom.seg import Segmentation as DicomSegmentation
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import RLELossless
from pydicom.valuerep import DSfloat

from lightunet_monai.errors import OutputError, UsageError
from lightunet_monai.segmentation import Segmentation

from .dicom_object import nameless_header, object_header, set_name_and_character_sets, write_object
from .dicom_segments import Segment, describe_segment, list_segments, probability_segment, segment_of_lesion
from .dicom_source import CT_IMAGE_STORAGE, SourceSeries, read_source
from .dicom_terms import NO_SERIAL_NUMBER, set_creation_time
from .lesions import LesionMask, find_lesions
from .marking import RESEARCH_USE
from .uids import Stamp

KINDS = ("binary", "labelmap", "fractional")

SERIES_OFFSET = {"binary": 1000, "labelmap": 1001, "fractional": 1002}
"""Added to the source's series number."""

_CONTENT_LABELS = {"AUTOMATIC": "AI_SEGMENTATION", "SEMIAUTOMATIC": "EDITED_AI_SEG", "MANUAL": "SEGMENTATION"}

_PLACEHOLDER = "2.25.1."
"""Root of the UIDs that stand for planes while highdicom builds the object."""


def write_dicom_seg(
    segmentation: Segmentation,
    path: Path,
    *,
    kind: str = "binary",
    keep_empty_frames: bool = False,
    stamp: Stamp | None = None,
) -> Path:
    """Write a DICOM Segmentation object that refers to every instance of the source.

    An empty label map gives a valid object: one segment for each lesion label, with one frame in which no pixel
    is set, and a description that says so.

    Parameters
    ----------
    segmentation : Segmentation
        Its source must be a DICOM series.
    path : Path
        ``.dcm``.
    kind : str
        ``"binary"``: one bit a voxel, uncompressed; every tool reads it. ``"labelmap"``: one integer a voxel; new in
        the standard. ``"fractional"``: the probability map in 255 steps, RLE.
    keep_empty_frames : bool
        Store planes in which nothing is marked as well, for viewers that expect them.
    stamp : Stamp or None
        Time and UIDs; None takes the present time and new UIDs.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        If `kind` is unknown.
    OutputError
        If the source is no DICOM series or has another grid, or ``"fractional"`` lacks a probability map.
    """
    if kind not in KINDS:
        raise UsageError(f"kind: found {kind}, expected one of {', '.join(KINDS)}.")
    dataset = make_dicom_seg(segmentation, kind=kind, keep_empty_frames=keep_empty_frames, stamp=stamp)
    return write_object(dataset, path)


def make_dicom_seg(
    segmentation: Segmentation, *, kind: str = "binary", keep_empty_frames: bool = False, stamp: Stamp | None = None
) -> Dataset:
    """Build the object of `write_dicom_seg` without writing it."""
    source = read_source(segmentation)
    stamp = stamp or Stamp.random()
    lesions = find_lesions(segmentation)
    if kind == "fractional":
        segments = [probability_segment(segmentation)]
        steps = _probability_steps(segmentation)
        planes = _planes_to_store(steps, keep_empty_frames)
        numbers = (steps[:, :, planes] > 0).astype(np.uint8)
    else:
        segments = list_segments(segmentation, lesions)
        planes = _planes_to_store(segmentation.label_map, keep_empty_frames)
        numbers = _segment_numbers(segmentation, lesions, segments, planes)
    dataset = _build(segmentation, source, segments, numbers, planes, kind, not keep_empty_frames, stamp)
    if kind == "fractional":
        _store_steps(dataset, steps)
    _refer_to_source(dataset, source)
    return dataset


def _probability_steps(segmentation: Segmentation) -> NDArray[np.uint8]:
    if segmentation.probability is None:
        raise OutputError(
            "fractional segmentation: the segmentation carries no probability map.",
            hint="Ask for probabilities when the segmentation is made.",
            reason="no-probability",
        )
    steps: NDArray[np.uint8] = np.empty(segmentation.probability.shape, dtype=np.uint8, order="F")
    for plane in range(steps.shape[2]):  # one plane at a time: no float copy of the whole map
        steps[:, :, plane] = np.rint(np.clip(segmentation.probability[:, :, plane], 0.0, 1.0) * 255.0)
    return steps


def _planes_to_store(values: NDArray[np.uint8], keep_empty_frames: bool) -> NDArray[np.intp]:
    occupied = np.asarray(values.any(axis=(0, 1)))
    if keep_empty_frames:
        return np.arange(len(occupied))
    if not occupied.any():
        return np.array([len(occupied) // 2])
    return np.flatnonzero(occupied)


def _segment_numbers(
    segmentation: Segmentation,
    lesions: tuple[LesionMask, ...],
    segments: list[Segment],
    planes: NDArray[np.intp],
) -> NDArray[Any]:
    """Segment number of every voxel of the stored planes, shape (X, Y, stored planes)."""
    columns, rows, _ = segmentation.label_map.shape
    kind = np.uint8 if len(segments) < 256 else np.uint16
    numbers: NDArray[Any] = np.zeros((len(planes), rows, columns), dtype=kind).transpose(2, 1, 0)
    stored = {int(plane): index for index, plane in enumerate(planes)}
    for lesion in lesions:
        x, y, z = lesion.box
        for offset in np.flatnonzero(lesion.mask.any(axis=(0, 1))):
            part = numbers[x, y, stored[int(z.start + offset)]]
            part[lesion.mask[:, :, offset]] = segment_of_lesion(lesion.number)
    for segment in segments:
        if not segment.tracking_uid:
            numbers[segmentation.label_map[:, :, planes] == segment.label.value] = segment.number
    return numbers


def _build(
    segmentation: Segmentation,
    source: SourceSeries,
    segments: list[Segment],
    numbers: NDArray[Any],
    planes: NDArray[np.intp],
    kind: str,
    omit_empty_frames: bool,
    stamp: Stamp,
) -> Dataset:
    provenance = segmentation.provenance
    role = kind if omit_empty_frames else f"{kind}.all-frames"  # another object, so other UIDs
    dataset = DicomSegmentation(
        source_images=_headers(source, segmentation.label_map.shape, planes),
        pixel_array=np.ascontiguousarray(numbers.transpose(2, 1, 0)),  # planes, rows, columns
        segmentation_type=kind.upper(),
        segment_descriptions=[describe_segment(segment, segmentation, source) for segment in segments],
        device_serial_number=NO_SERIAL_NUMBER,
        max_fractional_value=255,
        content_label=_CONTENT_LABELS[provenance.algorithm_type],
        content_description=RESEARCH_USE,
        omit_empty_frames=omit_empty_frames and bool(numbers.any()),
        **object_header(source, provenance, stamp, role=role, kind="segmentation", series_offset=SERIES_OFFSET[kind]),
    )
    set_name_and_character_sets(dataset, source)
    set_creation_time(dataset, stamp.clock())
    dataset.PositionReferenceIndicator = source.common.PositionReferenceIndicator
    dimensions = stamp.new_uid(f"{role}.dimensions")
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    return dataset


def _headers(source: SourceSeries, shape: tuple[int, ...], planes: NDArray[np.intp]) -> list[Dataset]:
    """One single-frame header for each stored plane of the label map, exactly on the affine."""
    columns_mm, rows_mm, slices_mm = source.spacing()
    headers = []
    for plane in planes.tolist():
        header = nameless_header(source)
        header.SOPClassUID = CT_IMAGE_STORAGE
        header.SOPInstanceUID = f"{_PLACEHOLDER}{plane + 1}"
        header.StudyInstanceUID = source.study_uid
        header.SeriesInstanceUID = source.series_uid
        header.FrameOfReferenceUID = source.frame_of_reference_uid
        header.Columns, header.Rows = shape[0], shape[1]
        header.ImagePositionPatient = source.position(plane)
        header.ImageOrientationPatient = source.orientation()
        header.PixelSpacing = [DSfloat(rows_mm, auto_format=True), DSfloat(columns_mm, auto_format=True)]
        header.SliceThickness = DSfloat(source.slice_thickness, auto_format=True)
        header.SpacingBetweenSlices = DSfloat(slices_mm, auto_format=True)
        headers.append(header)
    return headers


def _plane_of(frame: Dataset) -> int:
    """The plane of the label map that a frame shows, from its placeholder."""
    (derivation,) = frame.DerivationImageSequence
    (image,) = derivation.SourceImageSequence
    return int(image.ReferencedSOPInstanceUID.removeprefix(_PLACEHOLDER)) - 1


def _store_steps(dataset: Dataset, steps: NDArray[np.uint8]) -> None:
    """Replace the zero-or-all pixels of a fractional object by the steps of the probability map.

    highdicom looks for the distinct values of a float array, which takes half a minute for a large volume; so it is
    given a mask and the values are put in afterwards.
    """
    frames = [steps[:, :, _plane_of(frame)].T for frame in dataset.PerFrameFunctionalGroupsSequence]
    dataset.PixelData = np.stack(frames).tobytes()
    dataset["PixelData"].VR = "OB"
    dataset.compress(RLELossless, generate_instance_uid=False)


def _refer_to_source(dataset: Dataset, source: SourceSeries) -> None:
    """Put the instances and frames of the source in the place of the placeholders."""
    # Frames of one plane share their reference, so all planes are looked up before the first one is replaced.
    planes = [_plane_of(frame) for frame in dataset.PerFrameFunctionalGroupsSequence]
    for plane, frame in zip(planes, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        origin = source.slices[plane]
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        image.ReferencedSOPClassUID = origin.sop_class_uid
        image.ReferencedSOPInstanceUID = origin.sop_instance_uid
        if origin.frame_number is not None:
            image.ReferencedFrameNumber = origin.frame_number
    references = [item.reference() for item in source.instances()]
    dataset.SourceImageSequence = references
    (series,) = dataset.ReferencedSeriesSequence
    series.ReferencedInstanceSequence = references
