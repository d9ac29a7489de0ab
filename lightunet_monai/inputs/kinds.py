"""What kind of DICOM object a header describes, and whether it can be a slice of a volume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .headers import InstanceHeader

_STORAGE = "1.2.840.10008.5.1.4.1.1."

CT_CLASSES = (f"{_STORAGE}2", f"{_STORAGE}2.1", f"{_STORAGE}2.2")

_NOT_SLICES = {
    f"{_STORAGE}7": "secondary capture",
    f"{_STORAGE}7.1": "secondary capture",
    f"{_STORAGE}7.3": "secondary capture",
    f"{_STORAGE}7.4": "secondary capture",
    f"{_STORAGE}66.4": "segmentation",
    f"{_STORAGE}66.7": "segmentation",
    f"{_STORAGE}30": "parametric map",
    f"{_STORAGE}481.2": "radiotherapy dose",
    f"{_STORAGE}481.3": "radiotherapy structure set",
    f"{_STORAGE}481.5": "radiotherapy plan",
    f"{_STORAGE}66": "raw data",
    f"{_STORAGE}66.1": "registration",
    f"{_STORAGE}104.1": "encapsulated PDF",
    "1.2.840.10008.1.3.10": "DICOMDIR",
}
"""SOP classes that hold no tomographic slices, by UID."""

_NOT_SLICES_BY_PREFIX = {
    f"{_STORAGE}88.": "structured report or dose report",
    f"{_STORAGE}11.": "presentation state",
    f"{_STORAGE}9.": "waveform",
}

_LOCALIZER_WORDS = frozenset(("LOCALIZER", "SCOUT", "SURVIEW", "TOPOGRAM", "REF_SURVIEW"))
_CAPTURE_WORDS = frozenset(("SCREEN SAVE", "SCREENSAVE", "DOSE_INFO", "PATIENT_INFO", "DOSE", "CSA REPORT"))
_PROJECTION_WORDS = frozenset(("MIP", "MINIP", "MAXIP", "PROJECTION IMAGE", "VRT"))

_CAPTURE_WITHOUT_PLACE = frozenset(("OTHER",))
_PROJECTION_WITHOUT_PLACE = frozenset(("AVERAGE IP", "3D"))
"""Words that volumes carry, too: they say what an image is only where its place in a volume is missing."""


@dataclass(frozen=True)
class SetAside:
    """Something found that is no source, and why.

    Parameters
    ----------
    what : str
        The path, or the series UID where it belongs to a series.
    count : int
        How many files, or localizer images.
    code : str
        A short stable word for programs, such as ``"localizer"``.
    reason : str
        For people.
    """

    what: str
    count: int
    code: str
    reason: str


def why_not_a_slice(header: InstanceHeader) -> tuple[str, str] | None:
    """Why an instance cannot be a slice of a volume: code and reason, or None if it can."""
    kind = _NOT_SLICES.get(header.sop_class) or next(
        (kind for prefix, kind in _NOT_SLICES_BY_PREFIX.items() if header.sop_class.startswith(prefix)), None
    )
    words = set(header.image_type[2:])
    if kind == "secondary capture" and _has_frame_geometry(header):
        kind = None
    if kind:
        return kind.replace(" ", "-"), f"{kind}, no tomographic slices"
    if header.pixels is None:
        return "no-pixels", "float pixels" if header.has_float_pixels else "an object without pixels"
    if words & _LOCALIZER_WORDS:
        return "localizer", "localizer (scout) image"
    has_place = all(plane.position and plane.orientation and plane.pixel_spacing for plane in header.planes)
    if words & _CAPTURE_WORDS or (words & _CAPTURE_WITHOUT_PLACE and not has_place):
        return "secondary-capture", "screen capture or dose page"
    if words & _PROJECTION_WORDS or (words & _PROJECTION_WITHOUT_PLACE and not has_place):
        return "projection", "projection or rendering, no slices"
    if header.samples != 1 or header.photometric not in ("MONOCHROME1", "MONOCHROME2", ""):
        return "colour", f"{header.samples} samples a pixel, {header.photometric or 'no colour model'}: no intensities"
    return None


def is_derived(header: InstanceHeader) -> bool:
    """Image Type says the pixels were computed from those of other images."""
    words = header.image_type
    return bool(words) and (words[0].upper() == "DERIVED" or not _PROJECTION_WITHOUT_PLACE.isdisjoint(words[2:]))


def _has_frame_geometry(header: InstanceHeader) -> bool:
    """A multi-frame capture with a place for every frame is a volume in disguise."""
    return len(header.planes) > 1 and all(plane.position and plane.orientation for plane in header.planes)


@dataclass(frozen=True)
class DicomFile:
    """A DICOM file, or a member of a zip archive, with its header."""

    path: Path
    member: str | None
    header: InstanceHeader

    def __str__(self) -> str:
        return f"{self.path}!{self.member}" if self.member else str(self.path)
