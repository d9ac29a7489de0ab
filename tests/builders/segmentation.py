"""Segmentations on synthetic series, of every geometry a writer has to express.

case = make_case(tmp_path, "oblique")
case.segmentation, case.volume_hu, case.folder
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from lightunet_monai.inputs import choose_series, discover_sources
from lightunet_monai.labels import Code, Label, LabelTable
from lightunet_monai.segmentation import Provenance, Segmentation
from lightunet_monai.sources import DicomSeries, ImageFile, ImageSource

from .series import AXIAL, CORONAL, SAGITTAL, make_series

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"

LESION = Code("SCT", "49755003", "Morphologically Altered Structure")
BREAST = Code("SCT", "76752008", "Breast")
MASS = Label(1, "tumor", "Breast mass", (220, 40, 40), LESION, Code("SCT", "4147007", "Mass"), BREAST)
SKIN = Label(
    2,
    "skin",
    "Skin",
    (240, 200, 160),
    Code("SCT", "91723000", "Anatomical Structure"),
    Code("SCT", "39937001", "Skin"),
)
NIPPLE = Label(3, "nipple", "Nipple", (200, 120, 120), SKIN.category, Code("SCT", "24142002", "Nipple"))

ONE_LABEL = LabelTable((MASS,))
THREE_LABELS = LabelTable((MASS, SKIN, NIPPLE))

PROVENANCE = Provenance(
    "lightunet-test", "0.0.1", "0123456789abcdef" * 4, "torch", "float32", "cpu", {"threshold": 0.5}
)

OBLIQUE = (0.8660254037844387, 0.5, 0.0, -0.4698463103929542, 0.8137976813493738, 0.3420201433256687)
"""20 degrees about the row axis, then 30 degrees about the long axis of the body."""

_KINDS: dict[str, dict[str, object]] = {
    "axial": {"orientation": AXIAL},
    "coronal": {"orientation": CORONAL},
    "sagittal": {"orientation": SAGITTAL},
    "oblique": {"orientation": OBLIQUE},
    "anisotropic": {"spacing": (0.35, 0.9, 4.0)},
    "left-handed": {},
    "tilted": {"defect": "tilt"},
    "rle": {"syntax": "rle"},
    "jpeg-ls": {"syntax": "jpeg-ls"},
    "jpeg-2000": {"syntax": "jpeg-2000"},
    "deflated": {},
    "frame of reference per slice": {"defect": "frame of reference per slice"},
    "no frame of reference": {"defect": "no frame of reference"},
    "multi-frame": {"orientation": OBLIQUE},
}

KINDS = tuple(_KINDS)
"""Sources that a writer of DICOM results must handle."""


@dataclass(frozen=True)
class Case:
    """A segmentation with the volume it belongs to.

    Parameters
    ----------
    segmentation : Segmentation
    volume_hu : ndarray of int16, shape (X, Y, Z)
    folder : Path
        Where the source files are.
    """

    segmentation: Segmentation
    volume_hu: NDArray[np.int16]
    folder: Path


def make_case(
    folder: Path,
    kind: str = "axial",
    *,
    shape: tuple[int, int, int] = (40, 36, 20),
    labels: LabelTable = ONE_LABEL,
    empty: bool = False,
    probability: bool = True,
) -> Case:
    """Write a series of one of `KINDS` and put a segmentation with two lesions on it.

    The larger lesion has a hole, is not symmetric in any direction, and the smaller one is a handful of voxels.
    """
    source_folder = folder / "source"
    settings = {"spacing": (0.8, 0.9, 1.5), **_KINDS[kind]}
    truth = make_series(source_folder, shape=shape, **settings)  # type: ignore[arg-type]
    voxels, affine = truth.voxels, truth.affine
    if kind == "deflated":
        _deflate(source_folder)
    if kind == "multi-frame":
        _make_multi_frame(source_folder)
    source = choose_series(discover_sources(source_folder))
    assert isinstance(source, DicomSeries)
    assert source.affine is not None
    affine = np.array(source.affine)
    if kind == "left-handed":
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, shape[2] - 1], [0, 0, 0, 1.0]])
        source = replace(source, slices=source.slices[::-1], affine=tuple(map(tuple, affine.tolist())))
        voxels = voxels[:, :, ::-1]
    label_map = np.zeros(shape, dtype=np.uint8) if empty else make_lesions(shape)
    if len(labels) > 1 and not empty:
        label_map[:, :3, :] = 2
        label_map[18:21, 3:5, 9:11] = 3
    return Case(make_segmentation(label_map, affine, source, labels, probability=probability), voxels, source_folder)


def make_segmentation(
    label_map: NDArray[np.uint8],
    affine: NDArray[np.float64] | None = None,
    source: ImageSource | None = None,
    labels: LabelTable = ONE_LABEL,
    *,
    probability: bool = False,
) -> Segmentation:
    """A segmentation of a label map; by default on a 1 mm grid from a file that does not exist."""
    chance = (0.02 + 0.9 * (label_map > 0)).astype(np.float32) if probability else None
    return Segmentation(
        label_map=label_map,
        affine=np.eye(4) if affine is None else affine,
        labels=labels,
        source=source or ImageFile(Path("volume.nii.gz")),
        provenance=PROVENANCE,
        probability=chance,
    )


def make_lesions(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Two lesions: an ellipsoid with a hole and a bump, and a small one in a corner."""
    size = np.array(shape)
    x, y, z = np.indices(shape)
    centre, radii = size * (0.4, 0.55, 0.5), size * (0.25, 0.2, 0.28)
    inside = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 + ((z - centre[2]) / radii[2]) ** 2
    label_map = (inside <= 1).astype(np.uint8)
    label_map[inside <= 0.08] = 0
    a, b, c = (int(value) for value in centre)
    label_map[a : a + int(radii[0]) + 3, b + 2 : b + 4, c + 1 : c + 3] = 1
    label_map[-7:-4, -9:-6, -4:-2] = 1
    return label_map


def ball(
    shape: tuple[int, int, int], centre: tuple[float, float, float], radius_mm: float, affine: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Voxels whose centre lies within a sphere around a voxel index, in patient space."""
    offsets = (np.indices(shape).reshape(3, -1) - np.array(centre)[:, None]).astype(np.float64)
    distances = np.linalg.norm(affine[:3, :3] @ offsets, axis=0)
    return (distances <= radius_mm).reshape(shape).astype(np.uint8)


def _deflate(folder: Path) -> None:
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.decode()
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path, enforce_file_format=True)


def _make_multi_frame(folder: Path) -> None:
    """Replace the single-frame files by one enhanced CT file whose frames stand in another order than the slices."""
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    for path in list(folder.iterdir()):
        path.unlink()
    first = slices[0]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = ENHANCED_CT
    meta.MediaStorageSOPInstanceUID = "2.25.77"
    enhanced = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for element in first:
        if element.keyword not in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "PixelData"):
            enhanced.add(element)
    for keyword in ("RescaleSlope", "RescaleIntercept", "SliceThickness"):
        if keyword in enhanced:
            del enhanced[keyword]
    enhanced.SOPClassUID, enhanced.SOPInstanceUID = ENHANCED_CT, "2.25.77"
    enhanced.NumberOfFrames = len(slices)
    enhanced.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    enhanced.SharedFunctionalGroupsSequence = Sequence([_shared_groups(first)])
    enhanced.PerFrameFunctionalGroupsSequence = Sequence([_frame_groups(item) for item in slices])
    enhanced.PixelData = b"".join(item.PixelData for item in slices)
    enhanced.save_as(folder / "enhanced.dcm", enforce_file_format=True)


def _shared_groups(first: Dataset) -> Dataset:
    measures, orientation, rescale, anatomy = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, "1.5"
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = "1", first.RescaleIntercept, "HU"
    anatomy.FrameLaterality = "L"
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelValueTransformationSequence = Sequence([rescale])
    shared.FrameAnatomySequence = Sequence([anatomy])
    return shared


def _frame_groups(item: Dataset) -> Dataset:
    position, frame = Dataset(), Dataset()
    position.ImagePositionPatient = item.ImagePositionPatient
    frame.PlanePositionSequence = Sequence([position])
    return frame
