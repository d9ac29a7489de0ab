"""Synthetic CT series, written as DICOM files; the defect is an argument.

truth = make_series(tmp_path, defect="gap")
truth.voxels, truth.affine       # what a right reader gives: HU, shape (X, Y, Z); voxel index to RAS+ mm
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from .volume import make_voxels

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
INTERCEPT = -1024
HTJ2K = {
    "htj2k": "1.2.840.10008.1.2.4.201",
    "htj2k-rpcl": "1.2.840.10008.1.2.4.202",
    "htj2k-lossy": "1.2.840.10008.1.2.4.203",
}
"""Written with OpenJPH, by imagecodecs: pydicom has no encoder. OpenJPH writes RPCL order for all three."""

SYNTAXES = {"rle": RLELossless, "jpeg-ls": JPEGLSLossless, "jpeg-2000": JPEG2000Lossless}

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


@dataclass
class SeriesTruth:
    """What `make_series` wrote.

    Parameters
    ----------
    folder : Path
    files : list of Path
        In slice order.
    series_uid : str
    voxels : ndarray of int16, shape (X, Y, Z)
        Hounsfield units before the defect.
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ mm before the defect.
    """

    folder: Path
    files: list[Path]
    series_uid: str
    voxels: NDArray[np.int16]
    affine: NDArray[np.float64]


def make_series(
    folder: Path,
    *,
    defect: str | None = None,
    voxels: NDArray[np.int16] | None = None,
    shape: tuple[int, int, int] = (24, 20, 12),
    spacing: tuple[float, float, float] = (0.8, 0.9, 1.5),
    orientation: tuple[float, ...] = AXIAL,
    origin: tuple[float, float, float] = (-10.0, -20.0, 30.0),
    syntax: str = "raw",
    series: int = 1,
    study: int = 1,
    seed: int = 0,
    change: Callable[[int, Dataset], None] | None = None,
) -> SeriesTruth:
    """Write a CT series, one file a slice, with random file names' order and instance numbers unlike slice order.

    Parameters
    ----------
    folder : Path
        Made if missing.
    defect : str or None
        One of `DEFECTS`.
    voxels : ndarray of int16, optional
        Hounsfield units, shape (X, Y, Z); else `make_voxels` of ``shape`` and ``seed``.
    spacing : tuple of float
        Distance between columns, rows and slices, mm.
    orientation : tuple of float
        Row and column cosines, LPS.
    origin : tuple of float
        Centre of the first voxel, LPS mm.
    syntax : str
        ``"raw"`` or a key of `SYNTAXES` or `HTJ2K`.
    series, study : int
        Make the UIDs.
    change : callable, optional
        Called with slice index and data set before each file is written.

    Returns
    -------
    SeriesTruth
    """
    voxels = make_voxels(shape, seed=seed) if voxels is None else voxels
    plan = _Plan(voxels, spacing, orientation, origin, f"2.25.{1000 + series}", f"2.25.{study}", syntax, change)
    slices = [_slice(plan, index) for index in range(voxels.shape[2])]
    if defect is not None:
        slices = DEFECTS[defect](slices)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, dataset in enumerate(slices):
        name = f"IM{(number * 7919 + seed) % 100_003:06d}_{series}"
        files.append(folder / name)
        _save(dataset, folder / name, plan)
    return SeriesTruth(folder, files, plan.series_uid, voxels, plan.affine())


@dataclass
class _Plan:
    voxels: NDArray[np.int16]
    spacing: tuple[float, float, float]
    orientation: tuple[float, ...]
    origin: tuple[float, float, float]
    series_uid: str
    study_uid: str
    syntax: str
    change: Callable[[int, Dataset], None] | None = field(default=None)

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        return row, column, np.cross(row, column)

    def affine(self) -> NDArray[np.float64]:
        affine = np.eye(4)
        affine[:3, :3] = np.stack([axis * step for axis, step in zip(self.axes(), self.spacing, strict=True)], axis=1)
        affine[:3, 3] = self.origin
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _slice(plan: _Plan, index: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CT_IMAGE_STORAGE
    meta.MediaStorageSOPInstanceUID = f"{plan.series_uid}.{index + 1}"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    position = np.array(plan.origin) + index * plan.spacing[2] * plan.axes()[2]
    count = plan.voxels.shape[2]
    values: dict[str, Any] = {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SOPClassUID": CT_IMAGE_STORAGE,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyDate": "20200102",
        "Modality": "CT",
        "PatientName": "Doe^Jane",
        "PatientID": "MRN-12345",
        "PatientBirthDate": "19700304",
        "StudyInstanceUID": plan.study_uid,
        "SeriesInstanceUID": plan.series_uid,
        "SeriesNumber": 1,
        "InstanceNumber": (index * 7919) % count + 1,  # unlike slice order
        "AcquisitionNumber": 1,
        "ImagePositionPatient": [_decimal(value) for value in position],
        "ImageOrientationPatient": [_decimal(value) for value in plan.orientation],
        "FrameOfReferenceUID": f"{plan.study_uid}.9",
        "ConvolutionKernel": "B30f",
        "SliceThickness": "99",  # a lie: geometry comes from positions
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": plan.voxels.shape[1],
        "Columns": plan.voxels.shape[0],
        "PixelSpacing": [_decimal(plan.spacing[1]), _decimal(plan.spacing[0])],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleIntercept": str(INTERCEPT),
        "RescaleSlope": "1",
        "RescaleType": "HU",
    }
    for name, value in values.items():
        setattr(dataset, name, value)
    set_hu(dataset, plan.voxels[:, :, index])
    if plan.change is not None:
        plan.change(index, dataset)
    return dataset


def set_hu(dataset: Dataset, plane: NDArray[np.generic]) -> None:
    """Store Hounsfield units, shape (columns, rows), in a data set."""
    stored = np.ascontiguousarray(plane.T.astype(np.int32) - INTERCEPT).astype("<i2")
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"


def get_hu(dataset: Dataset) -> NDArray[np.int32]:
    """The Hounsfield units that `set_hu` stored, shape (columns, rows)."""
    stored = np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns)
    return stored.T.astype(np.int32) + INTERCEPT


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    text = f"{float(value):.10f}".rstrip("0").rstrip(".")
    return text if len(text) <= 16 else f"{float(value):.8e}"[:16] if "e" in text else text[:16]


def _save(dataset: FileDataset, path: Path, plan: _Plan) -> None:
    if plan.syntax in HTJ2K:
        _compress_htj2k(dataset, plan.syntax)
    elif plan.syntax != "raw":
        dataset.compress(SYNTAXES[plan.syntax])
    dataset.save_as(path, enforce_file_format=True)


def _compress_htj2k(dataset: FileDataset, syntax: str) -> None:
    imagecodecs = pytest.importorskip("imagecodecs", reason="imagecodecs encodes HTJ2K; it needs Python 3.11")
    stored = np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns)
    is_lossy = syntax == "htj2k-lossy"
    frame = imagecodecs.htj2k_encode(stored, reversible=not is_lossy, tlm=syntax == "htj2k-rpcl")
    dataset.PixelData = encapsulate([bytes(frame)])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = HTJ2K[syntax]
    if is_lossy:
        dataset.LossyImageCompression = "01"


Slices = list[FileDataset]


def _copy(dataset: FileDataset, uid: str | None = None) -> FileDataset:
    import copy

    twin = copy.deepcopy(dataset)
    if uid is not None:
        twin.SOPInstanceUID = twin.file_meta.MediaStorageSOPInstanceUID = uid
    return twin


def _gap(slices: Slices) -> Slices:
    return slices[:5] + slices[6:]


def _duplicate(slices: Slices) -> Slices:
    return [*slices, _copy(slices[3])]


def _two_images_per_position(slices: Slices) -> Slices:
    twins = [_copy(item, f"{item.SOPInstanceUID}.7") for item in slices]
    for twin in twins:
        set_hu(twin, get_hu(twin) + 20)
    return slices + twins


def _two_kernels(slices: Slices) -> Slices:
    both = _two_images_per_position(slices)
    for twin in both[len(slices) :]:
        twin.ConvolutionKernel = "B70f"
    return both


def _two_phases(slices: Slices) -> Slices:
    both = _two_images_per_position(slices)
    for twin in both[len(slices) :]:
        twin.AcquisitionNumber = 2
    return both


def _interleaved_kernels(slices: Slices) -> Slices:
    for item in slices[1::2]:
        item.ConvolutionKernel = "B70f"
    return slices


def _two_patients(slices: Slices) -> Slices:
    both = _two_images_per_position(slices)
    for twin in both[len(slices) :]:
        twin.PatientID = "MRN-99999"
    return both


def _localizer(slices: Slices, *, named: bool = True) -> Slices:
    scout = _copy(slices[0], f"{slices[0].SOPInstanceUID}.8")
    set_hu(scout, np.zeros((30, 40), np.int16))
    scout.ImageOrientationPatient = list(map(_decimal, CORONAL))
    if named:
        scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return [scout, *slices]


def _odd_size(slices: Slices) -> Slices:
    set_hu(slices[4], get_hu(slices[4])[:, :-2])
    return slices


def _odd_orientation(slices: Slices) -> Slices:
    c, s = np.cos(np.radians(5)), np.sin(np.radians(5))
    slices[4].ImageOrientationPatient = [_decimal(value) for value in (1, 0, 0, 0, c, s)]
    return slices


def _odd_spacing(slices: Slices) -> Slices:
    slices[4].PixelSpacing = ["0.7", "0.7"]
    return slices


def _shift(slices: Slices, direction: tuple[float, float, float], amount: Callable[[int], float]) -> Slices:
    for index, item in enumerate(slices):
        position = np.array([float(value) for value in item.ImagePositionPatient])
        item.ImagePositionPatient = [_decimal(value) for value in position + np.array(direction) * amount(index)]
    return slices


def _tilt(slices: Slices) -> Slices:
    # The column direction of an axial series is y: each slice slides along it by tan(12 degrees) of its height.
    step = float(np.diff([float(item.ImagePositionPatient[2]) for item in slices[:2]])[0])
    return _shift(slices, (0.0, 1.0, 0.0), lambda index: index * step * float(np.tan(np.radians(12))))


def _uneven(slices: Slices) -> Slices:
    return _shift(slices, (0.0, 0.0, 1.0), lambda index: 0.1 * (index % 2))


def _without(*names: str) -> Callable[[Slices], Slices]:
    def remove(slices: Slices) -> Slices:
        for item in slices:
            for name in names:
                delattr(item, name)
        return slices

    return remove


def _set(**values: Any) -> Callable[[Slices], Slices]:
    def assign(slices: Slices) -> Slices:
        for item in slices:
            for name, value in values.items():
                setattr(item, name, value)
        return slices

    return assign


def _constant_position(slices: Slices) -> Slices:
    for item in slices:
        item.ImagePositionPatient = slices[0].ImagePositionPatient
    return slices


def _single_slice(slices: Slices) -> Slices:
    return slices[:1]


def _frames_of_reference(slices: Slices) -> Slices:
    for index, item in enumerate(slices):
        item.FrameOfReferenceUID = f"2.25.5.{index}"
    return slices


def _reversed_instance_numbers(slices: Slices) -> Slices:
    for index, item in enumerate(slices):
        item.InstanceNumber = len(slices) - index
    return slices


DEFECTS: dict[str, Callable[[Slices], Slices]] = {
    "gap": _gap,
    "duplicate": _duplicate,
    "two images per position": _two_images_per_position,
    "two kernels": _two_kernels,
    "two phases": _two_phases,
    "interleaved kernels": _interleaved_kernels,
    "two patients": _two_patients,
    "localizer": _localizer,
    "unnamed localizer": lambda slices: _localizer(slices, named=False),
    "odd size": _odd_size,
    "odd orientation": _odd_orientation,
    "odd pixel spacing": _odd_spacing,
    "tilt": _tilt,
    "uneven spacing": _uneven,
    "no position": _without("ImagePositionPatient"),
    "no orientation": _without("ImageOrientationPatient"),
    "no pixel spacing": _without("PixelSpacing"),
    "no rescale": _without("RescaleSlope", "RescaleIntercept"),
    "no instance number": _without("InstanceNumber"),
    "no modality": _without("Modality"),
    "no frame of reference": _without("FrameOfReferenceUID"),
    "reversed instance numbers": _reversed_instance_numbers,
    "constant position": _constant_position,
    "single slice": _single_slice,
    "frame of reference per slice": _frames_of_reference,
    "magnetic resonance": _set(Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4"),
    "derived": _set(ImageType=["DERIVED", "PRIMARY", "MPR"]),
    "colour": _set(SamplesPerPixel=3, PhotometricInterpretation="RGB"),
}
"""Name of a defect to a function that puts it into the slices of a good series."""


def read_all(folder: Path) -> list[Dataset]:
    """Every data set of a folder, in file order; for tests that look at headers."""
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
