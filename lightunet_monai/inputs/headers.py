"""The facts in the header of one DICOM instance that say what volume it belongs to and how to read it.

Nothing here identifies a patient: Patient ID is kept only as a hash that tells two patients apart.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import IO

from ..errors import UnreadableFileError
from ..sources import StoredPixels
from .codestream import COMPRESSED
from .element_scan import GE_BIG_PIXELS, IMPLICIT_LITTLE, NATIVE, ScannedHeader, scan_header
from .limits import MAX_FRAMES, MAX_PLANE_SIDE
from .planes import Plane, parse_numbers

TAGS = {
    "image_type": 0x00080008,
    "sop_class": 0x00080016,
    "sop_uid": 0x00080018,
    "acquisition_time": 0x00080032,
    "content_time": 0x00080033,
    "modality": 0x00080060,
    "patient_id": 0x00100020,
    "kvp": 0x00180060,
    "slice_thickness": 0x00180050,
    "trigger_time": 0x00181060,
    "gantry_tilt": 0x00181120,
    "kernel": 0x00181210,
    "cardiac_phase": 0x00209241,
    "study_uid": 0x0020000D,
    "series_uid": 0x0020000E,
    "acquisition_number": 0x00200012,
    "instance_number": 0x00200013,
    "position": 0x00200032,
    "orientation": 0x00200037,
    "frame_of_reference": 0x00200052,
    "laterality": 0x00200062,
    "temporal_position": 0x00200100,
    "samples": 0x00280002,
    "photometric": 0x00280004,
    "frames": 0x00280008,
    "rows": 0x00280010,
    "columns": 0x00280011,
    "pixel_spacing": 0x00280030,
    "bits_allocated": 0x00280100,
    "bits_stored": 0x00280101,
    "high_bit": 0x00280102,
    "pixel_representation": 0x00280103,
    "padding": 0x00280120,
    "padding_limit": 0x00280121,
    "intercept": 0x00281052,
    "slope": 0x00281053,
    "rescale_type": 0x00281054,
    "lossy": 0x00282110,
}
"""The whole list of elements that are read from a header of a single-frame instance."""

_WANTED = frozenset(TAGS.values())
_PLANE_KEYS = (
    "kvp",
    "kernel",
    "acquisition_number",
    "acquisition_time",
    "content_time",
    "temporal_position",
    "trigger_time",
    "cardiac_phase",
    "frame_of_reference",
    "image_type",
    "slice_thickness",
    "laterality",
)


@dataclass(frozen=True)
class InstanceHeader:
    """The header of one DICOM instance.

    Parameters
    ----------
    patient_hash : str
        Tells patients apart; cannot be turned back.
    pixels : StoredPixels or None
        None if the instance holds no pixels that can be a CT plane.
    planes : tuple of Plane
        One a frame.
    """

    sop_class: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    patient_hash: str
    modality: str
    image_type: tuple[str, ...]
    samples: int
    photometric: str
    gantry_tilt: float | None
    pixels: StoredPixels | None
    has_float_pixels: bool
    planes: tuple[Plane, ...]


def read_header(stream: IO[bytes], *, file_bytes: int = 0, modified_ns: int = 0) -> InstanceHeader:
    """Read the header of one DICOM stream.

    Parameters
    ----------
    stream : binary file
        Positioned at its beginning.
    file_bytes, modified_ns : int
        Size and time stamp of the file, to notice later that it changed.

    Returns
    -------
    InstanceHeader

    Raises
    ------
    NotDicomError
        If it is no DICOM file.
    UnreadableFileError
        If it is a damaged one. The message does not name the file.
    """
    scanned = scan_header(stream, _WANTED)
    facts = _Facts(scanned)
    pixels = _stored_pixels(facts, scanned, file_bytes, modified_ns)
    first = _single_plane(facts)
    planes: tuple[Plane, ...] = (first,)
    if pixels is not None and _is_multi_frame(facts, scanned):
        from .functional_groups import read_planes  # pydicom: a fifth of a second that most studies do without

        planes = read_planes(scanned, first, pixels.frames)
    return InstanceHeader(
        sop_class=facts.text("sop_class") or scanned.media_class,
        sop_instance_uid=facts.text("sop_uid"),
        series_uid=facts.text("series_uid"),
        study_uid=facts.text("study_uid"),
        patient_hash=hashlib.sha256(facts.text("patient_id").encode()).hexdigest()[:16],
        modality=facts.text("modality"),
        image_type=facts.texts("image_type"),
        samples=facts.integer("samples", 1),
        photometric=facts.text("photometric"),
        gantry_tilt=facts.number("gantry_tilt"),
        pixels=pixels,
        has_float_pixels=scanned.has_float_pixels,
        planes=planes,
    )


class _Facts:
    """Typed access to the raw values of a scanned header. A value that cannot be read counts as absent."""

    def __init__(self, scanned: ScannedHeader) -> None:
        self._values = scanned.values
        self._order = "<" if scanned.is_little_endian else ">"

    def text(self, name: str) -> str:
        return self._values.get(TAGS[name], b"").decode("latin-1").strip("\0 ")

    def texts(self, name: str) -> tuple[str, ...]:
        text = self.text(name)
        return tuple(part.strip() for part in text.split("\\")) if text else ()

    def integer(self, name: str, default: int) -> int:
        """A 16-bit binary value."""
        raw = self._values.get(TAGS[name], b"")
        return int(struct.unpack_from(self._order + "H", raw)[0]) if len(raw) >= 2 else default

    def number(self, name: str) -> float | None:
        return (self.numbers(name, 1) or (None,))[0]

    def numbers(self, name: str, count: int) -> tuple[float, ...] | None:
        return parse_numbers(self.texts(name), count)


def _single_plane(facts: _Facts) -> Plane:
    keys = {name: "\\".join(facts.texts(name)) for name in _PLANE_KEYS}
    return Plane(
        frame=None,
        position=facts.numbers("position", 3),  # type: ignore[arg-type]
        orientation=facts.numbers("orientation", 6),  # type: ignore[arg-type]
        pixel_spacing=facts.numbers("pixel_spacing", 2),  # type: ignore[arg-type]
        slope=facts.number("slope"),
        intercept=facts.number("intercept"),
        rescale_type=facts.text("rescale_type").upper(),
        keys={name: value for name, value in keys.items() if value},
    )


def _stored_pixels(facts: _Facts, scanned: ScannedHeader, file_bytes: int, modified_ns: int) -> StoredPixels | None:
    rows, columns = facts.integer("rows", 0), facts.integer("columns", 0)
    if scanned.pixel_offset < 0 or not rows or not columns:
        return None
    if max(rows, columns) > MAX_PLANE_SIDE:
        raise UnreadableFileError(f"the plane has {columns} x {rows} pixels, expected at most {MAX_PLANE_SIDE} a side.")
    frames = facts.number("frames")
    frames = 1 if frames is None else frames
    if not 1 <= frames <= MAX_FRAMES or frames != int(frames):
        raise UnreadableFileError(f"the header says {frames:g} frames, expected 1 to {MAX_FRAMES}.")
    allocated = facts.integer("bits_allocated", 0)
    stored = facts.integer("bits_stored", allocated)
    syntax = _pixel_syntax(scanned)
    return StoredPixels(
        transfer_syntax=syntax,
        rows=rows,
        columns=columns,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=facts.integer("high_bit", stored - 1),
        is_signed=facts.integer("pixel_representation", 0) == 1,
        is_little_endian=scanned.is_little_endian and syntax != GE_BIG_PIXELS,
        offset=scanned.pixel_offset,
        length=scanned.pixel_length,
        file_bytes=file_bytes,
        modified_ns=modified_ns,
        frames=int(frames),
        padding=_padding(facts, stored),
        is_lossy=facts.text("lossy") == "01",
    )


def _pixel_syntax(scanned: ScannedHeader) -> str:
    """The syntax of the header, but a declared one that may store pixels otherwise."""
    declared = scanned.declared_syntax
    if declared == GE_BIG_PIXELS and scanned.transfer_syntax != IMPLICIT_LITTLE:
        return f"{declared} with an explicit header"
    is_other = declared and (declared == GE_BIG_PIXELS or declared not in NATIVE | COMPRESSED)
    return declared if is_other else scanned.transfer_syntax


def _padding(facts: _Facts, bits_stored: int) -> tuple[int, int] | None:
    """Stored values that mean padding; US or SS, as writers confuse the two, so the bits decide."""
    first = facts.integer("padding", -1)
    if first < 0:
        return None
    last = facts.integer("padding_limit", first)
    if facts.integer("pixel_representation", 0) == 1:
        first, last = _as_signed(first, bits_stored), _as_signed(last, bits_stored)
    return min(first, last), max(first, last)


def _as_signed(value: int, bits_stored: int) -> int:
    """A value of 16 bits: that of the stored bits where it has no others, and never cut down to them."""
    bits = bits_stored if 0 < bits_stored < 16 and value >> bits_stored == 0 else 16
    return value - (1 << bits) if value >> (bits - 1) else value


def _is_multi_frame(facts: _Facts, scanned: ScannedHeader) -> bool:
    return facts.number("frames") is not None or b"\x00\x52\x30\x92" in scanned.header
