"""Segmentations of 3D Slicer, ``.seg.nrrd``, as label maps: one layer or several, whole or cut to their segments.

Field names: https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadableFileError, UnsupportedImageError
from ..inputs.itk_files import check_name
from ..inputs.packed import check_gzip
from ..labels import LabelTable
from .label_grid import Grid, LabelGrid
from .segment_labels import NamedSegment, label_of

_TERMINOLOGY_TYPE = 2
"""Place of the property type in a terminology entry: context, category, type, modifier, ..."""


_HEADER_BYTES = 64 * 1024

_MODEL_TAGS = {
    "name": "DICOM.SegmentAlgorithmName",
    "version": "LightUNet.ModelVersion",
    "weights_sha256": "LightUNet.WeightsSHA256",
}


@dataclass(frozen=True)
class SlicerSegmentation:
    """A ``.seg.nrrd`` file in memory.

    Parameters
    ----------
    layers : ndarray of integers, shape (layers, X, Y, Z)
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ mm.
    fields : dict of str to str
        Key/value pairs of the header.
    """

    layers: NDArray[Any]
    affine: NDArray[np.float64]
    fields: dict[str, str]

    def new_grid(self, name: str) -> LabelGrid:
        """Give an empty label map on the grid of the file."""
        return LabelGrid(self.layers.shape[1:], self.affine, name)


def is_seg_nrrd(path: Path) -> bool:
    """Tell whether a file is a segmentation of 3D Slicer: by its name, or by the segments in its header."""
    name = path.name.lower()
    if not name.endswith(".nrrd"):
        return False
    if name.endswith(".seg.nrrd"):
        return True
    try:
        with path.open("rb") as stream:
            return b"\nSegment0_ID:=" in stream.read(_HEADER_BYTES).split(b"\n\n", 1)[0]
    except OSError:
        return False


def paint_seg_nrrd(segmentation: SlicerSegmentation, grid: LabelGrid, labels: LabelTable) -> None:
    """Put the segments of a file on a grid.

    Parameters
    ----------
    segmentation : SlicerSegmentation
        From `read_seg_nrrd`.
    grid : LabelGrid
        Of the volume.
    labels : LabelTable
        What the segments may be.

    Raises
    ------
    UnreadableFileError
        If a segment has no layer or label value.
    UnsupportedImageError
        If a segment is not one label, or labels overlap.
    GeometryError
        If it does not lie on the grid.
    """
    fields = segmentation.fields
    for index in _segment_numbers(fields):
        try:
            layer = segmentation.layers[int(fields.get(f"Segment{index}_Layer", "0"))]
            mask = layer == int(fields[f"Segment{index}_LabelValue"])
        except (KeyError, ValueError, IndexError):
            raise UnreadableFileError(
                f"{grid.name}: segment {index} has no layer or label value in the file.",
                hint="Save the segmentation again with a current 3D Slicer.",
            ) from None
        if mask.any():
            segment = _named(fields, index)
            grid.paint(mask, segmentation.affine, label_of(segment, labels, grid.name).value)


def seg_nrrd_grid(path: Path) -> Grid:
    """Give the grid of a file from its header; it may be a part of that of its volume.

    Raises
    ------
    UnreadableFileError
        If the header is damaged, or not that of a volume.
    """
    import SimpleITK as sitk

    check_name(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        return reader.GetSize(), itk_affine(reader)
    except (RuntimeError, ValueError) as error:
        raise UnreadableFileError(f"{path}: cannot be read as a segmentation.") from error


def read_seg_nrrd(path: Path) -> SlicerSegmentation:
    """Read layers, geometry and header.

    Raises
    ------
    UnreadableFileError
        If the file is damaged.
    UnsupportedImageError
        If it names no segments, or holds fractions.
    """
    import SimpleITK as sitk

    check_name(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise UnreadableFileError(f"{path}: cannot be read as a segmentation.") from error
    _check_packed(
        path, image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent()
    )
    fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    kinds = fields.get("Segmentation_SourceRepresentation") or fields.get("Segmentation_MasterRepresentation", "")
    if "Fractional" in kinds:
        raise UnsupportedImageError(f"{path}: holds a {kinds}, expected a binary label map.", reason="label-values")
    if image.GetDimension() != 3 or (not _segment_numbers(fields) and sitk.GetArrayViewFromImage(image).any()):
        raise UnsupportedImageError(
            f"{path}: {image.GetDimension()} dimensions and {len(_segment_numbers(fields))} named segments, "
            "expected 3 and at least one.",
            hint="Save it as a segmentation from 3D Slicer, or as a plain label map under another name.",
            reason="no-segments",
        )
    array = sitk.GetArrayFromImage(image)
    layers = np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    return SlicerSegmentation(layers.transpose(0, 3, 2, 1), itk_affine(image), fields)


def _check_packed(path: Path, expected_bytes: int) -> None:
    """Compare the checksum of packed voxels: ITK goes on with what it could not unpack."""
    fields: dict[bytes, bytes] = {}
    with path.open("rb") as stream:
        while line := stream.readline(_HEADER_BYTES).strip():
            key, _, value = line.partition(b":")
            fields[key.strip().lower()] = value.strip().lower()
        begin = stream.tell()
    is_apart = b"data file" in fields or b"datafile" in fields
    if fields.get(b"encoding") in (b"gzip", b"gz") and not is_apart:
        check_gzip(path, begin, expected_bytes)


def made_by(path: Path) -> dict[str, str] | None:
    """Model behind a ``.seg.nrrd`` that this package wrote, as its segments say also after they were edited.

    Returns
    -------
    dict or None
        ``name``, ``version``, ``weights_sha256``; None if the file says nothing.
    """
    if not is_seg_nrrd(path):
        return None
    with path.open("rb") as stream:
        lines = stream.read(_HEADER_BYTES).split(b"\n\n", 1)[0].decode("utf-8", "replace").splitlines()
    for line in lines:
        if re.match(r"Segment\d+_Tags:=", line):
            tags = _tags(line.split(":=", 1)[1])
            if all(name in tags for name in _MODEL_TAGS.values()):
                return {key: tags[name] for key, name in _MODEL_TAGS.items()}
    return None


def itk_affine(image: Any) -> NDArray[np.float64]:
    """Voxel index to RAS+ mm of a three-dimensional SimpleITK image, or of a reader that knows its header."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


def _segment_numbers(fields: dict[str, str]) -> list[int]:
    return sorted(int(found[1]) for key in fields if (found := re.fullmatch(r"Segment(\d+)_ID", key)))


def _tags(text: str) -> dict[str, str]:
    return dict(tag.split(":", 1) for tag in text.split("|") if ":" in tag)


def _named(fields: dict[str, str], index: int) -> NamedSegment:
    name = fields.get(f"Segment{index}_Name") or fields.get(f"Segment{index}_ID", "")
    parts = _tags(fields.get(f"Segment{index}_Tags", "")).get("TerminologyEntry", "").split("~")
    code = parts[_TERMINOLOGY_TYPE].split("^") if len(parts) > _TERMINOLOGY_TYPE else []
    return NamedSegment(name, (code[0], code[1]) if len(code) >= 2 and code[1] else None)
