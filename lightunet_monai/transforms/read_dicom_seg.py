"""DICOM Segmentation objects as label maps: BINARY, LABELMAP and FRACTIONAL, from any writer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ..errors import UnreadableFileError, UnsupportedImageError
from ..inputs.dicom_file import is_dicom, read_dicom
from ..labels import LabelTable
from .label_grid import Grid, LabelGrid
from .segment_labels import NamedSegment, label_of

SEGMENTATION_STORAGES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation and Label Map Segmentation."""

FRACTION_THRESHOLD = 0.5
"""From this part of the largest value on, a voxel of a FRACTIONAL object belongs to the segment."""

_BACKGROUND = 0
"""Pixel value of a LABELMAP that is no structure, also where it is listed as a segment."""

_DAMAGE = (
    AttributeError, KeyError, IndexError, ValueError, TypeError, RuntimeError, NotImplementedError, OSError, EOFError,
)  # fmt: skip
"""What pydicom and its decoders raise on a damaged object."""


def referenced_series(path: Path) -> tuple[str, ...]:
    """Series Instance UIDs that a DICOM Segmentation says it was drawn on; empty if the file is none.

    Raises
    ------
    UnreadableFileError
        If the object is damaged, or cannot be opened.
    """
    if not is_dicom(path):
        return ()
    try:
        dataset = read_dicom(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "ReferencedSeriesSequence"])
        if str(dataset.get("SOPClassUID", "")) not in SEGMENTATION_STORAGES:
            return ()
        return tuple(str(item.SeriesInstanceUID) for item in dataset.get("ReferencedSeriesSequence") or [])
    except _DAMAGE as error:
        raise UnreadableFileError(f"{path}: cannot be read as DICOM: {type(error).__name__}.") from error


def dicom_seg_grids(path: Path) -> list[Grid]:
    """Give the grid of every frame of a DICOM Segmentation from its header.

    Raises
    ------
    UnreadableFileError
        If the object is damaged.
    """
    try:
        dataset = read_dicom(path, stop_before_pixels=True)
        shape = (int(dataset.Columns), int(dataset.Rows), 1)
        shared = dataset.SharedFunctionalGroupsSequence[0]
        return [(shape, _frame_affine((group, shared))) for group in dataset.PerFrameFunctionalGroupsSequence]
    except _DAMAGE as error:
        raise UnreadableFileError(f"{path}: damaged segmentation: {type(error).__name__}.") from error


def paint_dicom_seg(path: Path, grid: LabelGrid, labels: LabelTable) -> None:
    """Put the segments of a DICOM Segmentation on a grid.

    Parameters
    ----------
    path : Path
        The object.
    grid : LabelGrid
        Of the volume.
    labels : LabelTable
        What the segments may be.

    Raises
    ------
    UnreadableFileError
        If the object is damaged.
    UnsupportedImageError
        If it is no segmentation, a segment is not one label, or labels overlap.
    GeometryError
        If it does not lie on the grid.
    """
    try:
        dataset = read_dicom(path)
    except _DAMAGE as error:
        raise UnreadableFileError(f"{path}: cannot be read as DICOM: {type(error).__name__}.") from error
    if str(dataset.get("SOPClassUID", "")) not in SEGMENTATION_STORAGES:
        raise UnsupportedImageError(
            f"{path}: a DICOM object of modality {dataset.get('Modality', '')}, expected a Segmentation.",
            hint="Give the DICOM SEG, NIfTI or NRRD label map of this volume.",
            reason="no-segmentation",
        )
    try:
        segments = {int(item.SegmentNumber): _named(item) for item in dataset.SegmentSequence}
        frames = list(_frames(dataset))
    except _DAMAGE as error:
        raise UnreadableFileError(
            f"{path}: damaged segmentation: {type(error).__name__}.", hint="Export the segmentation again."
        ) from error
    for number, mask, affine in frames:
        grid.check_lattice(mask.shape, affine)  # of empty frames too: they tell whose segmentation it is
        if mask.any():
            segment = segments.get(number, NamedSegment(f"number {number}"))
            grid.paint(mask, affine, label_of(segment, labels, str(path)).value)


def _named(item: Dataset) -> NamedSegment:
    codes = item.get("SegmentedPropertyTypeCodeSequence") or []
    # A value of more than 16 characters, or that is a URN, has an attribute of its own.
    values = [codes[0].get(name) for name in ("CodeValue", "LongCodeValue", "URNCodeValue")] if codes else []
    code = next(((str(codes[0].get("CodingSchemeDesignator", "")), str(value)) for value in values if value), None)
    return NamedSegment(str(item.get("SegmentLabel", "")), code)


def _frames(dataset: Dataset) -> Iterator[tuple[int, NDArray[np.bool_], NDArray[np.float64]]]:
    """Segment number, mask (columns, rows, 1) and affine of every frame."""
    kind = str(dataset.SegmentationType)
    pixels: NDArray[Any] = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    per_frame = dataset.PerFrameFunctionalGroupsSequence
    if len(per_frame) != len(pixels):
        raise ValueError("frames without position")
    for group, plane in zip(per_frame, pixels, strict=True):
        groups = (group, dataset.SharedFunctionalGroupsSequence[0])
        affine, values = _frame_affine(groups), plane.T[:, :, None]
        if kind == "LABELMAP":
            for number in np.unique(values):
                yield int(number), (values == number) & (number != _BACKGROUND), affine
        else:
            number = int(_group(groups, "SegmentIdentificationSequence").ReferencedSegmentNumber)
            lowest = FRACTION_THRESHOLD * int(dataset.MaximumFractionalValue) if kind == "FRACTIONAL" else 1
            yield number, values >= lowest, affine


def _frame_affine(groups: tuple[Dataset, ...]) -> NDArray[np.float64]:
    """Pixel (column, row, 0) to RAS+ mm."""
    rows_mm, columns_mm = (float(value) for value in _group(groups, "PixelMeasuresSequence").PixelSpacing)
    cosines = np.array(_group(groups, "PlaneOrientationSequence").ImageOrientationPatient, dtype=np.float64)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = cosines[:3] * columns_mm, cosines[3:] * rows_mm
    affine[:3, 2] = np.cross(cosines[:3], cosines[3:])
    affine[:3, 3] = np.array(_group(groups, "PlanePositionSequence").ImagePositionPatient, dtype=np.float64)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _group(groups: tuple[Dataset, ...], keyword: str) -> Dataset:
    """A functional group of the frame, or the one that all frames share."""
    for group in groups:
        if group.get(keyword):
            return group[keyword][0]
    raise KeyError(keyword)
