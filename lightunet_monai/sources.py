"""Where an image comes from: a file, or a series of DICOM slices.

These are facts read from headers. Nothing here decodes a pixel or judges a geometry.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from .errors import UnreadableFileError

Affine = tuple[tuple[float, float, float, float], ...]
"""4 rows of 4 numbers: voxel index (column, row, slice) to RAS+ patient millimetres."""


@dataclass(frozen=True)
class ImageFile:
    """A volume in one file: NIfTI, NRRD or MetaImage.

    Parameters
    ----------
    path : Path
        The file.
    """

    path: Path

    @property
    def name(self) -> str:
        """A short name for files and messages: the file name without its extensions."""
        name = self.path.name
        for suffix in (".nii.gz", ".seg.nrrd"):
            if name.lower().endswith(suffix):
                return name[: -len(suffix)]
        return self.path.stem


@dataclass(frozen=True)
class DicomSlice:
    """One slice of a series: a single-frame instance, or one frame of a multi-frame instance.

    Parameters
    ----------
    path : Path
        The DICOM file, or the zip archive that holds it.
    sop_instance_uid : str
        SOP Instance UID of the instance.
    member : str or None
        Name inside the zip archive, None for a plain file.
    frame : int or None
        Zero-based frame index, None for a single-frame instance.
    position : tuple of float or None
        Image Position (Patient), LPS millimetres.
    """

    path: Path
    sop_instance_uid: str = ""
    member: str | None = None
    frame: int | None = None
    position: tuple[float, float, float] | None = None

    def open(self) -> BinaryIO:
        """Open the DICOM stream of this slice for reading.

        Raises
        ------
        UnreadableFileError
            If the file or the archive member cannot be opened.
        """
        try:
            if self.member is None:
                return self.path.open("rb")
            with zipfile.ZipFile(self.path) as archive:
                return io.BytesIO(archive.read(self.member))
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise UnreadableFileError(f"{self}: cannot be opened: {error}.") from error

    def __str__(self) -> str:
        return f"{self.path}!{self.member}" if self.member else str(self.path)


@dataclass(frozen=True)
class DicomSeries:
    """The slices of one DICOM series that belong to one volume.

    Parameters
    ----------
    series_uid, study_uid : str
        Series and Study Instance UID.
    slices : tuple of DicomSlice
        In slice order (increasing distance along the slice normal) where positions exist, so that
        ``slices[k]`` is plane ``[:, :, k]`` of the volume and of its label map.
    modality : str
        DICOM modality, for example ``"CT"``; empty if absent.
    description : str
        What sets this volume apart from others of the same series, for people; never patient data.
    shape : tuple of int or None
        Columns, rows, slices.
    affine : Affine or None
        Voxel index (column, row, slice) to RAS+ millimetres, from positions; None if they do not give one.
    volume_key : str
        Tells volumes of one series apart (phase, kernel ...); empty if the series holds one volume.
    warnings : tuple of str
        What was tolerated while these facts were gathered.
    """

    series_uid: str
    study_uid: str
    slices: tuple[DicomSlice, ...]
    modality: str = ""
    description: str = ""
    shape: tuple[int, int, int] | None = None
    affine: Affine | None = None
    volume_key: str = ""
    warnings: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """A short name for files and messages: the last part of the series UID, with the volume key."""
        tail = self.series_uid.split(".")[-1][-12:] or "series"
        return f"series_{tail}_{self.volume_key}" if self.volume_key else f"series_{tail}"

    @property
    def paths(self) -> tuple[Path, ...]:
        """The distinct files, in slice order."""
        return tuple(dict.fromkeys(item.path for item in self.slices))


ImageSource = ImageFile | DicomSeries
