"""The planes of a multi-frame instance: enhanced CT, legacy converted CT, multi-frame secondary capture."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import replace
from typing import Any

import pydicom
import pydicom.errors
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from ..errors import UnreadableFileError
from .element_scan import EXPLICIT_BIG, IMPLICIT_LITTLE, ScannedHeader
from .planes import Plane, parse_numbers

_SHARED, _PER_FRAME = 0x52009229, 0x52009230

_KEYS = (
    ("FrameContentSequence", "FrameAcquisitionNumber", "acquisition_number"),
    ("FrameContentSequence", "FrameAcquisitionDateTime", "acquisition_time"),
    ("FrameContentSequence", "TemporalPositionIndex", "temporal_position"),
    ("FrameContentSequence", "StackID", "stack"),
    ("TemporalPositionSequence", "TemporalPositionTimeOffset", "trigger_time"),
    ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase", "cardiac_phase"),
    ("CTReconstructionSequence", "ConvolutionKernel", "kernel"),
    ("CTXRayDetailsSequence", "KVP", "kvp"),
    ("FrameAnatomySequence", "FrameLaterality", "laterality"),
    ("CTImageFrameTypeSequence", "FrameType", "image_type"),
    ("UnassignedSharedConvertedAttributesSequence", "ConvolutionKernel", "kernel"),
    ("UnassignedPerFrameConvertedAttributesSequence", "ConvolutionKernel", "kernel"),
    ("UnassignedPerFrameConvertedAttributesSequence", "AcquisitionNumber", "acquisition_number"),
)
"""Functional group, element in it, and the key of `Plane.keys` that it fills."""

PARSE_ERRORS = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    struct.error,
    pydicom.errors.BytesLengthException,
    pydicom.errors.InvalidDicomError,
)
"""What pydicom raises on damaged elements, when it reads them or when their values are asked for."""


def read_planes(scanned: ScannedHeader, top: Plane, frames: int) -> tuple[Plane, ...]:
    """Read where each frame lies and how its values are meant.

    Parameters
    ----------
    scanned : ScannedHeader
        The header; its bytes are parsed again by pydicom, for the functional groups only.
    top : Plane
        What the top level of the header says; used where the functional groups say nothing.
    frames : int
        Number of Frames.

    Returns
    -------
    tuple of Plane
        In frame order.

    Raises
    ------
    UnreadableFileError
        If the groups are damaged or do not match the number of frames.
    """
    try:
        return _planes(_functional_groups(scanned), top, frames)
    except PARSE_ERRORS as error:
        # pydicom parses lazily: a damaged value may show only when it is asked for.
        raise UnreadableFileError(f"the functional groups are damaged: {type(error).__name__}.") from None


def _planes(groups: Dataset, top: Plane, frames: int) -> tuple[Plane, ...]:
    shared = _first(groups.get(_SHARED))
    per_frame = list(groups[_PER_FRAME].value) if _PER_FRAME in groups else []
    if per_frame and len(per_frame) != frames:
        raise UnreadableFileError(f"{frames} frames, but functional groups for {len(per_frame)}.")
    if not per_frame and frames > 1:
        # Without a place for each frame, the place of the instance would be given to all of them.
        return tuple(replace(top, frame=index, position=None) for index in range(frames))
    if not per_frame:
        return (replace(top, frame=0),) if shared is None else (_plane(0, Dataset(), shared, top),)
    return tuple(_plane(index, item, shared, top) for index, item in enumerate(per_frame))


def _functional_groups(scanned: ScannedHeader) -> Dataset:
    is_implicit = scanned.transfer_syntax == IMPLICIT_LITTLE
    is_little = scanned.transfer_syntax != EXPLICIT_BIG
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = io.BytesIO(scanned.header[scanned.dataset_offset :])
        return read_dataset(stream, is_implicit, is_little, specific_tags=[_SHARED, _PER_FRAME])


def _plane(index: int, item: Dataset, shared: Dataset | None, top: Plane) -> Plane:
    sources = [item] if shared is None else [item, shared]

    def find(group: str, element: str) -> Any:
        for source in sources:
            inner = _first(source.get(group))
            if inner is not None and element in inner:
                return inner.get(element)
        return None

    def numbers(group: str, element: str, count: int) -> Any:
        return _numbers(find(group, element), count)

    keys = dict(top.keys)
    for group, element, key in _KEYS:
        value = find(group, element)
        if value not in (None, ""):
            keys[key] = (
                "\\".join(map(str, value)) if isinstance(value, (list, tuple)) or _is_multi(value) else str(value)
            )
    slope, intercept = (
        numbers("PixelValueTransformationSequence", name, 1) for name in ("RescaleSlope", "RescaleIntercept")
    )
    return Plane(
        frame=index,
        position=numbers("PlanePositionSequence", "ImagePositionPatient", 3),
        orientation=numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6) or top.orientation,
        pixel_spacing=numbers("PixelMeasuresSequence", "PixelSpacing", 2) or top.pixel_spacing,
        slope=slope[0] if slope else top.slope,
        intercept=intercept[0] if intercept else top.intercept,
        rescale_type=str(find("PixelValueTransformationSequence", "RescaleType") or top.rescale_type).upper(),
        keys=keys,
    )


def _first(element: Any) -> Dataset | None:
    """The first item of a sequence, given as element or as value."""
    value = getattr(element, "value", element)
    return value[0] if value is not None and len(value) else None


def _is_multi(value: Any) -> bool:
    return isinstance(value, pydicom.multival.MultiValue)


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    if value is None:
        return None
    parts = list(value) if _is_multi(value) else [value]
    return parse_numbers(tuple(map(str, parts)), count)
