"""A simulated case as a DICOM CT series: one CT Image Storage instance a slice.

Headers say that the data are simulated; names and identifiers are made up from the seed, and the UIDs from
seed and settings, so that the same case always gives the same files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from .case import SimulatedCase
from .settings import SIMULATOR_VERSION

RESCALE_INTERCEPT = -1024
"""Stored value 0, as on most CT scanners; what lies below is clipped."""

IMPLEMENTATION_UID = "2.25.153190431214371402318216493240281963517"

SIMULATED_TIME = ("20260101", "120000")
"""Date and time of every simulated study: fixed, because files must not depend on the clock."""

KVP = {"pendant": 49, "supine": 49, "chest": 120}
"""Of the image domain, which knows no beam."""


def write_dicom_case(case: SimulatedCase, folder: Path) -> None:
    """Write one case as a folder of DICOM files that appears whole or not at all.

    Parameters
    ----------
    case : SimulatedCase
        Stored columns, rows and slices become those of the series.
    folder : Path
        Made new; an unfinished or older one of this name is replaced.
    """
    part = folder.with_name(f".part-{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for index in range(case.volume_hu.shape[2]):
            instance = make_instance(case, index)
            instance.save_as(part / f"CT{index + 1:04d}.dcm", enforce_file_format=True)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    finally:  # nothing is left of a series that could not be written
        shutil.rmtree(part, ignore_errors=True)


def make_instance(case: SimulatedCase, index: int) -> FileDataset:
    """Return one slice as a CT Image Storage dataset; `index` counts from 0 along the third axis."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(case, f"instance-{index}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    _add_patient_and_study(dataset, case)
    _add_series_and_equipment(dataset, case)
    _add_image(dataset, case, index)
    _add_pixels(dataset, case.volume_hu[:, :, index])
    return dataset


def _uid(case: SimulatedCase, text: str) -> str:
    """Return a UID under 2.25, the root for UUIDs, from text, seed, settings and simulator version."""
    settings = json.dumps(case.parameters["settings"], sort_keys=True)
    identity = f"lightunet-{SIMULATOR_VERSION}-{case.parameters['seed']}-{settings}-{text}"
    digest = hashlib.sha256(identity.encode()).digest()[:16]
    return f"2.25.{int.from_bytes(digest, 'big') | 1 << 127}"


def _family(case: SimulatedCase) -> str:
    breast = case.parameters["breast"]
    assert isinstance(breast, dict)
    return str(breast["family"])


def _add_patient_and_study(dataset: Dataset, case: SimulatedCase) -> None:
    seed = case.parameters["seed"]
    dataset.PatientName = f"SIM^{seed}"
    dataset.PatientID = f"SIM-{seed}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "F"
    dataset.StudyInstanceUID = _uid(case, "study")
    dataset.StudyID = str(seed)[-16:]
    dataset.StudyDate, dataset.StudyTime = SIMULATED_TIME
    dataset.StudyDescription = "Simulated breast CT, research only"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""


def _add_series_and_equipment(dataset: Dataset, case: SimulatedCase) -> None:
    supine = _family(case) != "pendant"
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID = _uid(case, "series")
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = f"Simulated {'chest CT' if _family(case) == 'chest' else 'breast CT'}"
    dataset.PatientPosition = "HFS" if supine else "HFP"
    if _family(case) != "chest":
        dataset.BodyPartExamined = "BREAST"
        breast = case.parameters["breast"]
        assert isinstance(breast, dict)
        dataset.Laterality = "R" if breast["side"] == "right" else "L"
    else:
        dataset.BodyPartExamined = "CHEST"
    dataset.FrameOfReferenceUID = _uid(case, "frame")
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = "lightunet_monai simulator"
    dataset.ManufacturerModelName = "simulated breast CT"
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = f"simulator {SIMULATOR_VERSION}"


def _add_image(dataset: Dataset, case: SimulatedCase, index: int) -> None:
    lps_from_voxel = np.diag([-1.0, -1.0, 1.0, 1.0]) @ case.affine
    spacing = np.linalg.norm(lps_from_voxel[:3, :3], axis=0)
    along_row, along_column = (lps_from_voxel[:3, axis] / spacing[axis] for axis in (0, 1))
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ContentDate, dataset.ContentTime = SIMULATED_TIME
    dataset.AcquisitionDate, dataset.AcquisitionTime = SIMULATED_TIME
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = index + 1
    dataset.ImageComments = "Simulated image, not of a patient; research use only"
    dataset.BurnedInAnnotation = "NO"
    projection = case.parameters["projection"]
    dataset.KVP = projection["beam"]["kvp"] if isinstance(projection, dict) else KVP[_family(case)]
    dataset.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    dataset.SliceThickness = _decimal(spacing[2])
    dataset.SpacingBetweenSlices = _decimal(spacing[2])
    dataset.ImageOrientationPatient = [_decimal(v) for v in (*along_row, *along_column)]
    position = lps_from_voxel @ np.array([0.0, 0.0, index, 1.0])
    dataset.ImagePositionPatient = [_decimal(v) for v in position[:3]]
    if case.parameters.get("contrast_agent"):
        dataset.ContrastBolusAgent = "Iodine (simulated)"


def _add_pixels(dataset: Dataset, slice_hu: NDArray[np.int16]) -> None:
    """Store rows x columns of unsigned 16-bit values; the array comes as columns x rows."""
    stored = np.clip(slice_hu.T.astype(np.int32) - RESCALE_INTERCEPT, 0, 65535).astype("<u2")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept = RESCALE_INTERCEPT
    dataset.RescaleSlope = 1
    dataset.RescaleType = "HU"
    dataset.WindowCenter = 0
    dataset.WindowWidth = 500
    dataset.PixelData = stored.tobytes()


def _decimal(value: float) -> str:
    """Return a decimal string of at most 16 characters, as DICOM's DS wants it."""
    text = f"{float(value):.9f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text[:16]
