"""Where an image comes from: a file, or a series of DICOM slices.

These are facts read from headers. Nothing here decodes a pixel or judges a geometry.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from .errors import InputError, NoImageFoundError, UnreadableFileError, UnsupportedImageError

Affine = tuple[tuple[float, float, float, float], ...]
"""4 rows of 4 numbers: voxel index (column, row, slice) to RAS+ patient millimetres."""

POSITION_TOLERANCE = 0.1
"""Largest deviation of a slice position from the affine, in voxel spacings: more than the jitter that real scanners
write, less than what could be seen."""

REGULAR_TOLERANCE, REGULAR_TOLERANCE_MM = 0.01, 0.02
"""What `inputs` takes for a regular stack, in slice spacings and in mm: never refused for results, even of small
pixels."""


def position_limit(spacing: Sequence[float]) -> float:
    """How far, in mm, a slice may lie from its plane in the grid of a label map.

    Parameters
    ----------
    spacing : sequence of float
        Distance between voxel centres along columns, rows, slices, mm.
    """
    return max(POSITION_TOLERANCE * min(spacing), REGULAR_TOLERANCE * spacing[2], REGULAR_TOLERANCE_MM)


def folder_of(path: Path, member: str | None = None) -> str:
    """The folder that a file lies in; of a member of an archive, the archive with the folder in it."""
    return f"{path}!{PurePosixPath(member).parent}" if member else str(path.parent)


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
class StoredPixels:
    """How the pixels of one DICOM instance are stored, and how they become Hounsfield units.

    Parameters
    ----------
    transfer_syntax : str
        Transfer Syntax UID.
    rows, columns : int
        Size of one plane.
    bits_allocated, bits_stored, high_bit : int
        As in the header.
    is_signed : bool
        Pixel Representation is 1.
    is_little_endian : bool
        Byte order of uncompressed pixels.
    offset, length : int
        Where the value of Pixel Data begins in the (inflated) stream and how long it is, bytes;
        the length is -1 for encapsulated, that is compressed, pixels.
    file_bytes, modified_ns : int
        Size and time stamp of the file when its header was read; 0 for members of archives.
    frames : int
        Number of frames of the instance.
    slope, intercept : float or None
        Rescale of this slice; None if the header has none.
    rescale_type : str
        As in the header: ``"HU"``, ``"US"``, or empty.
    padding : tuple of int or None
        Lowest and highest stored value that means "no measurement here"; may lie outside the stored bits.
    is_lossy : bool
        The pixels were compressed with loss at some time.
    """

    transfer_syntax: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    is_little_endian: bool
    offset: int
    length: int
    file_bytes: int = 0
    modified_ns: int = 0
    frames: int = 1
    slope: float | None = None
    intercept: float | None = None
    rescale_type: str = ""
    padding: tuple[int, int] | None = None
    is_lossy: bool = False


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
    pixels : StoredPixels or None
        How its pixels are stored; None until the header has been read.
    """

    path: Path
    sop_instance_uid: str = ""
    member: str | None = None
    frame: int | None = None
    position: tuple[float, float, float] | None = None
    pixels: StoredPixels | None = field(default=None, repr=False, compare=False)

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
    problem : InputError or None
        Why these slices cannot be loaded as they are; `load_volume` raises it.
    is_derived : bool
        Image Type says that the volume was computed from another one.
    shares_instance_uids : bool
        Slices have the SOP Instance UID of others at another position: results cannot refer to them.
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
    problem: InputError | None = field(default=None, compare=False)
    is_derived: bool = False
    shares_instance_uids: bool = False

    @property
    def name(self) -> str:
        """A short name for files and messages: the last part of the series UID, with the volume key."""
        # A UID in a header is whatever its writer put there; only digits may reach a file name.
        tail = re.sub(r"[^0-9]", "", self.series_uid.split(".")[-1])[-12:] or "series"
        key = re.sub(r"[^0-9A-Za-z-]", "", self.volume_key)
        return f"series_{tail}_{key}" if key else f"series_{tail}"

    @property
    def selector(self) -> str:
        """What `choose_series` takes to name this volume: the series UID, with the volume key if there is one.

        A series without a UID is named by the folder that it lies in.
        """
        uid = self.series_uid or (folder_of(self.slices[0].path, self.slices[0].member) if self.slices else "")
        return f"{uid}:{self.volume_key}" if self.volume_key else uid

    @property
    def paths(self) -> tuple[Path, ...]:
        """The distinct files, in slice order."""
        return tuple(dict.fromkeys(item.path for item in self.slices))


ImageSource = ImageFile | DicomSeries


def as_path(item: object) -> Path:
    """Take what a caller names an image by as a path.

    Raises
    ------
    UnsupportedImageError
        If it cannot be one, such as a list of files.
    NoImageFoundError
        If it is empty, which `Path` takes for the current folder.
    """
    if isinstance(item, (str, os.PathLike)):
        if not os.fspath(item):
            raise NoImageFoundError(
                "An empty path, expected a file or folder.", hint="Give '.' for the current folder."
            )
        return Path(item)
    raise UnsupportedImageError(
        f"An image of type {type(item).__name__}, expected a path, an ImageSource or a MetaTensor.",
        hint="Give one image at a time: the files of a series by the folder that holds them, an image of another "
        "library by a file that it wrote.",
    )
