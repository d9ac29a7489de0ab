"""2-D images made from numbers: a bright field with a dark disc, as a lesion looks in ultrasound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (90, 70)
"""Columns, rows."""


def make_pixels(size: tuple[int, int] = SIZE, *, seed: int = 0) -> NDArray[np.uint8]:
    """Grey image (rows, columns) with a dark disc left of the middle."""
    noise = np.random.default_rng(seed).normal(0, 12, (size[1], size[0]))
    return np.clip(150 + noise - 110 * make_mask(size), 0, 255).astype(np.uint8)


def make_mask(size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """The disc: 1 inside, (rows, columns)."""
    rows, columns = np.mgrid[: size[1], : size[0]]
    inside = (columns - size[0] * 0.4) ** 2 + (rows - size[1] * 0.5) ** 2 < (0.22 * min(size)) ** 2
    return inside.astype(np.uint8)


def make_picture(path: Path, pixels: NDArray[Any] | None = None, **options: Any) -> Path:
    """Write an array as PNG, JPEG or TIFF, by the suffix; options are Pillow's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_pixels() if pixels is None else pixels).save(path, **options)
    return path


def make_dicom2d(path: Path, pixels: NDArray[Any] | None = None, *, modality: str = "US", **values: Any) -> Path:
    """Write a single-frame DICOM image; values are further elements by keyword, None removes one."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    pixels = make_pixels() if pixels is None else pixels
    classes = {"US": "1.2.840.10008.5.1.4.1.1.6.1", "MG": "1.2.840.10008.5.1.4.1.1.1.2"}
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = classes.get(modality, "1.2.840.10008.5.1.4.1.1.7")
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name, "image"])  # the same bytes in each run
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = pydicom.Dataset()
    header.file_meta = meta
    header.SOPClassUID = meta.MediaStorageSOPClassUID
    header.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    header.StudyInstanceUID = generate_uid(entropy_srcs=[path.name, "study"])
    header.SeriesInstanceUID = generate_uid(entropy_srcs=[path.name, "series"])
    header.Modality = modality
    bits = pixels.dtype.itemsize * 8
    is_colour = pixels.ndim == 3
    header.Rows, header.Columns = pixels.shape[:2]
    header.SamplesPerPixel = 3 if is_colour else 1
    header.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    if is_colour:
        header.PlanarConfiguration = 0
    header.BitsAllocated = header.BitsStored = bits
    header.HighBit, header.PixelRepresentation = bits - 1, 0
    header.PixelData = pixels.tobytes()
    header["PixelData"].VR = "OB" if bits == 8 else "OW"
    for name, value in values.items():
        if value is None:
            delattr(header, name)
        else:
            setattr(header, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def make_region(across_cm: float, down_cm: float, *, units: int = 3) -> Any:
    """One item of Sequence of Ultrasound Regions."""
    import pydicom

    region = pydicom.Dataset()
    region.RegionSpatialFormat = 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = units
    region.PhysicalDeltaX, region.PhysicalDeltaY = across_cm, down_cm
    return region
