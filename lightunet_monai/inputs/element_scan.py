"""One pass over the data elements of a DICOM header, without building objects for what is not needed.

It keeps the raw bytes of the wanted top-level elements and remembers where Pixel Data begins. It reads
no further than that, nests without recursion and allocates no more than the header's own bytes, so a
crafted file costs little. pydicom reads the same headers more completely, but ten times slower, and
unpacks a deflated file whole.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from ..errors import UnreadableFileError
from .limits import MAX_HEADER_BYTES, MAX_NESTING, MAX_VALUE_BYTES

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
GE_BIG_PIXELS = "1.2.840.113619.5.2"
"""Private to GE: an implicit little endian header before big endian pixels."""

NATIVE = frozenset((IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG, GE_BIG_PIXELS))
"""Transfer syntaxes with uncompressed pixels that are read."""

PIXEL_DATA = 0x7FE00010
FLOAT_PIXEL_DATA = (0x7FE00008, 0x7FE00009)
_MEDIA_CLASS, _TRANSFER_SYNTAX = 0x00020002, 0x00020010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_FIRST_BYTES = 16 * 1024
_PREAMBLE_BYTES = 128
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())


class NotDicomError(Exception):
    """These bytes are not a DICOM header."""


class BlankFileError(NotDicomError):
    """There is nothing in it that could be a header, as in a copy that broke off: the text says what was found."""


class _NeedMoreError(Exception):
    """The header goes on behind the bytes at hand."""


@dataclass
class ScannedHeader:
    """What one pass over a header found.

    Parameters
    ----------
    transfer_syntax : str
        Transfer Syntax UID of the header, which may be wrong in the file meta information or not be there at all.
    is_little_endian : bool
        Byte order of the data set.
    values : dict of int to bytes
        Raw values of the wanted elements, tag to bytes.
    pixel_offset, pixel_length : int
        Where the value of Pixel Data begins in the (inflated) stream, and its length; -1 where there is
        no Pixel Data (offset) or it is encapsulated (length).
    header : bytes
        The (inflated) stream up to Pixel Data.
    dataset_offset : int
        Where the data set begins in it, behind the file meta information.
    has_float_pixels : bool
        Float or Double Float Pixel Data instead of Pixel Data.
    declared_syntax : str
        Transfer Syntax UID as the file meta information has it; empty where it has none.
    media_class : str
        Media Storage SOP Class UID of the file meta information: the only one that a DICOMDIR has.
    """

    transfer_syntax: str
    is_little_endian: bool = True
    values: dict[int, bytes] = field(default_factory=dict)
    pixel_offset: int = -1
    pixel_length: int = -1
    header: bytes = b""
    dataset_offset: int = 0
    has_float_pixels: bool = False
    declared_syntax: str = ""
    media_class: str = ""


def scan_header(stream: IO[bytes], wanted: frozenset[int]) -> ScannedHeader:
    """Scan the header of a DICOM stream, with or without preamble and file meta information.

    Parameters
    ----------
    stream : binary file
        Positioned at its beginning.
    wanted : frozenset of int
        Tags of top-level elements whose values are kept.

    Returns
    -------
    ScannedHeader

    Raises
    ------
    NotDicomError
        If the stream does not begin like a DICOM file; `BlankFileError` if it does not begin like any other either.
    UnreadableFileError
        If it does, and then is damaged or beyond the limits of this package. The message does not name the file.
    """
    head = stream.read(_FIRST_BYTES)
    try:
        start, declared, media_class = _read_file_meta(head)
        syntax = declared if declared == DEFLATED else _check_syntax(head, start, declared)
    except NotDicomError:
        if what := _what_is_blank(head):
            raise BlankFileError(what) from None
        raise
    if syntax == DEFLATED:
        result = _scan_growing(_Inflated(stream, head[start:]), 0, syntax, wanted)
    else:
        result = _scan_growing(_Plain(stream, head), start, syntax, wanted)
    result.declared_syntax, result.media_class = declared, media_class
    return result


def _what_is_blank(head: bytes) -> str:
    """What is wrong with a beginning that is nothing at all; empty for one of another kind of file."""
    if not head:
        return "the file is empty"
    if not head.strip(b"\0"):
        return "the file begins with zeros only"
    # A text has no zeros; the preamble of a DICOM file nearly always has.
    if len(head) < _PREAMBLE_BYTES + 4 and b"\0" in head and not head.startswith(_UTF16_MARKS):
        return f"the file ends after {len(head)} bytes"
    return ""


def inflate(stream: IO[bytes], limit_bytes: int) -> bytes:
    """Inflate the data set of a deflated DICOM stream, up to a limit.

    Raises
    ------
    UnreadableFileError
        If it is damaged or longer than the limit.
    """
    head = stream.read(_FIRST_BYTES)
    start, _, _ = _read_file_meta(head)
    source = _Inflated(stream, head[start:])
    source.grow(limit_bytes + 1)
    if len(source.data) > limit_bytes:
        raise UnreadableFileError(f"inflates to more than the {limit_bytes} bytes that its header announces.")
    return bytes(source.data)


class _Plain:
    """The first bytes of a stream, growing on demand."""

    def __init__(self, stream: IO[bytes], head: bytes) -> None:
        self._stream, self.data = stream, bytearray(head)

    def grow(self, size: int) -> bool:
        more = self._stream.read(max(0, size - len(self.data)))
        self.data += more
        return bool(more)


class _Inflated:
    """The first bytes of a deflated stream, inflated on demand and never further."""

    def __init__(self, stream: IO[bytes], head: bytes) -> None:
        self._stream, self._packed, self.data = stream, head, bytearray()
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self.grow(_FIRST_BYTES)

    def grow(self, size: int) -> bool:
        before = len(self.data)
        try:
            while len(self.data) < size and not self._inflater.eof:
                packed = self._packed or self._stream.read(_FIRST_BYTES)
                if not packed:
                    break
                self.data += self._inflater.decompress(packed, size - len(self.data))
                self._packed = self._inflater.unconsumed_tail
        except zlib.error as error:
            raise UnreadableFileError(f"the deflated data set is damaged: {error}.") from None
        return len(self.data) > before


def _read_file_meta(head: bytes) -> tuple[int, str, str]:
    """Offset of the data set, and Transfer Syntax and SOP Class UID that are declared, empty if none are."""
    start = _PREAMBLE_BYTES + 4 if head[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == b"DICM" else 0
    values: dict[int, bytes] = {}
    scan = _Scan(explicit=True, little=True, wanted=frozenset((_MEDIA_CLASS, _TRANSFER_SYNTAX)), values=values)
    if head[start : start + 2] == b"\x02\x00":
        try:
            start = scan.run(head, start, stop_when=lambda tag: tag >> 16 != 2)
        except _NeedMoreError:
            raise UnreadableFileError("ends within the file meta information.") from None
    syntax, media_class = (
        values.get(tag, b"").strip(b"\0 ").decode("ascii", "replace") for tag in (_TRANSFER_SYNTAX, _MEDIA_CLASS)
    )
    if start and len(head) < start + 8:
        raise UnreadableFileError("ends behind the file meta information.")
    return start, syntax, media_class


def _check_syntax(head: bytes, start: int, syntax: str) -> str:
    """The syntax that the first element really has: headers are sometimes wrong about explicit and implicit."""
    if len(head) < start + 8:
        raise NotDicomError
    group = struct.unpack_from("<H", head, start)[0]
    is_explicit = head[start + 4 : start + 6] in _LONG_VRS | _SHORT_VRS
    if group in (0x0800, 0x0400) and is_explicit:
        return EXPLICIT_BIG
    if not syntax and (group not in (0x0004, 0x0008, 0x0010) or struct.unpack_from("<H", head, start + 2)[0] > 0x2300):
        if start:
            raise UnreadableFileError(f"damaged header: begins with an element of group {group:04X}.")
        raise NotDicomError
    if not is_explicit:
        return IMPLICIT_LITTLE
    return EXPLICIT_LITTLE if syntax in ("", IMPLICIT_LITTLE, EXPLICIT_BIG) else syntax


def _scan_growing(source: _Plain | _Inflated, start: int, syntax: str, wanted: frozenset[int]) -> ScannedHeader:
    result = ScannedHeader(syntax, is_little_endian=syntax != EXPLICIT_BIG, dataset_offset=start)
    scan = _Scan(syntax != IMPLICIT_LITTLE, result.is_little_endian, wanted, result.values)
    position = start
    is_done = False
    while not is_done:
        try:
            position = scan.run(source.data, position, stop_when=_is_pixel_data_or_behind)
            # The bytes at hand may end just where an element does.
            is_done = position < len(source.data) or not _grow(source)
        except _NeedMoreError:
            position = scan.resume_at
            if not _grow(source):
                raise UnreadableFileError("ends within the header.") from None
    result.header = bytes(source.data[:position])
    source.grow(position + 12)
    _locate_pixels(result, bytes(source.data[position : position + 12]), position)
    return result


def _grow(source: _Plain | _Inflated) -> bool:
    """Take twice as many bytes, within the limit; False if there are no more."""
    if len(source.data) >= MAX_HEADER_BYTES:
        raise UnreadableFileError(f"the header is longer than {MAX_HEADER_BYTES} bytes.")
    return source.grow(2 * max(len(source.data), 1))


def _is_pixel_data_or_behind(tag: int) -> bool:
    return tag >= FLOAT_PIXEL_DATA[0]  # (7FE0,0000) is a group length


def _locate_pixels(result: ScannedHeader, element: bytes, position: int) -> None:
    order = "<" if result.is_little_endian else ">"
    if len(element) < 8:
        return
    group, number = struct.unpack_from(order + "HH", element)
    tag = group << 16 | number
    result.has_float_pixels = tag in FLOAT_PIXEL_DATA
    if tag != PIXEL_DATA:
        return
    if result.transfer_syntax == IMPLICIT_LITTLE:
        size, length = 8, struct.unpack_from("<I", element, 4)[0]
    elif element[4:6] in _LONG_VRS:
        if len(element) < 12:
            raise UnreadableFileError("ends within the header.")
        size, length = 12, struct.unpack_from(order + "I", element, 8)[0]
    else:
        size, length = 8, struct.unpack_from(order + "H", element, 6)[0]
    result.pixel_offset = position + size
    result.pixel_length = -1 if length == _UNDEFINED else length


@dataclass
class _Scan:
    """A resumable walk over data elements."""

    explicit: bool
    little: bool
    wanted: frozenset[int]
    values: dict[int, bytes]
    resume_at: int = 0

    def run(self, data: bytes | bytearray, position: int, stop_when: Callable[[int], bool]) -> int:
        """Walk from ``position`` to the first element for which ``stop_when(tag)`` holds, or to the end."""
        end = len(data)
        while position < end:
            self.resume_at = position
            # The tag first: behind the file meta information the encoding changes.
            if stop_when(self._tag(data, position)):
                return position
            tag, length, value_at, is_implicit_inside = self._element(data, position, self.explicit)
            if length == _UNDEFINED:
                position = self._skip_sequence(data, value_at, is_implicit_inside)
            else:
                position = value_at + length
                if position > end:
                    raise _NeedMoreError
                if tag in self.wanted and length <= MAX_VALUE_BYTES:
                    self.values[tag] = bytes(data[value_at:position])
        return position

    def _tag(self, data: bytes | bytearray, at: int) -> int:
        try:
            group, number = struct.unpack_from("<HH" if self.little else ">HH", data, at)
        except struct.error:
            raise _NeedMoreError from None
        return int(group << 16 | number)

    def _element(self, data: bytes | bytearray, at: int, explicit: bool) -> tuple[int, int, int, bool]:
        """Tag, length, offset of the value, and whether a sequence in it is implicit."""
        order, tag = "<" if self.little else ">", self._tag(data, at)
        try:
            if not explicit or tag >> 16 == 0xFFFE:
                return tag, struct.unpack_from(order + "I", data, at + 4)[0], at + 8, not explicit
            vr = bytes(data[at + 4 : at + 6])
            if vr in _SHORT_VRS:
                return tag, struct.unpack_from(order + "H", data, at + 6)[0], at + 8, False
            if vr in _LONG_VRS:
                return tag, struct.unpack_from(order + "I", data, at + 8)[0], at + 12, vr == b"UN"
        except struct.error:
            raise _NeedMoreError from None
        if len(data) < at + 6:
            raise _NeedMoreError
        if b"AA" <= vr <= b"ZZ":
            raise UnreadableFileError(f"damaged header: no value representation at byte {at}.")
        return self._implicit_element(data, at, tag)

    def _implicit_element(self, data: bytes | bytearray, at: int, tag: int) -> tuple[int, int, int, bool]:
        """An element that its writer encoded implicitly among explicit ones; what follows must show it."""
        try:
            length = int(struct.unpack_from("<I" if self.little else ">I", data, at + 4)[0])
        except struct.error:
            raise _NeedMoreError from None
        if length != _UNDEFINED:
            behind = at + 8 + length
            if len(data) < behind + 6:
                raise _NeedMoreError
            following = self._tag(data, behind)
            vr = bytes(data[behind + 4 : behind + 6])
            is_element = following >> 16 in (tag >> 16, 0xFFFE) or vr in _LONG_VRS or vr in _SHORT_VRS
            if following <= tag or not is_element:
                raise UnreadableFileError(f"damaged header: no value representation at byte {at}.")
        return tag, length, at + 8, True

    def _skip_sequence(self, data: bytes | bytearray, at: int, implicit: bool) -> int:
        """Offset behind a sequence of undefined length, whatever it holds; a stack instead of recursion."""
        # What is open, and how it is encoded: (is an item, implicit). A sequence in a UN value is implicit inside.
        levels = [(False, implicit)]
        while levels:
            is_item, is_implicit = levels[-1]
            tag, length, value_at, implicit_inside = self._element(data, at, not is_implicit)
            at = value_at
            if tag == (_ITEM_END if is_item else _SEQUENCE_END):
                levels.pop()
            elif not is_item and tag != _ITEM:
                raise UnreadableFileError(f"damaged header: a sequence without items at byte {at}.")
            elif length == _UNDEFINED:
                levels.append((not is_item, is_implicit or (is_item and implicit_inside)))
                if len(levels) > 2 * MAX_NESTING:
                    raise UnreadableFileError(f"the header nests sequences deeper than {MAX_NESTING} levels.")
            else:
                at += length
                if at > len(data):
                    raise _NeedMoreError
        return at
