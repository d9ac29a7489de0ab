"""Single-frame DICOM images without a place in a volume: ultrasound, mammography, secondary capture."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_fragments, generate_frames, parse_basic_offsets
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.pixels.utils import get_expected_length

from ..errors import InputError, UnreadableFileError, UnsupportedImageError
from .codestream import JPEG_FAMILY, RLE, has_more_pixels, plane_size
from .dicom_file import read_dicom
from .element_scan import NATIVE, scan_header
from .functional_groups import PARSE_ERRORS
from .image2d_files import LUMINANCE
from .image2d_pixels import Plane2D, check_size, is_plausible_spacing

MODALITIES = ("US", "MG", "DX", "CR", "XC", "SM", "GM", "ES", "OT", "SC", "IVUS", "")
"""Modalities of single images; volumes (CT, MR, PT, NM) are not segmented slice by slice."""

TRAINED_ON = "US"

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")

_REGION_IS_2D, _UNIT_IS_CM = 1, 3
"""Codes of Region Spatial Format and Physical Units (PS3.3 C.8.5.5)."""

SPACING_TOLERANCE = 1e-3
"""How far two spacings of a header may differ, relative, to be one spacing."""

_CALIBRATIONS = ("GEOMETRY", "FIDUCIAL")
"""Defined terms of Pixel Spacing Calibration Type (PS3.3 10.7.1.1)."""

_REGIONS_NAMED = 3
"""Of a header, in a warning."""

_Box = tuple[int, int, int, int]
"""First column and row, last column and row."""

_STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51")
"""What a compressed frame begins with: JPEG and JPEG-LS, JPEG 2000. A fragment that continues one does not."""


def read_dicom2d(path: Path, *, apply_voi: bool = False) -> Plane2D:
    """Read a single-frame DICOM image as brightness.

    Raises
    ------
    UnsupportedImageError
        If it is of a volume, has several frames, no pixels, or too many.
    UnreadableFileError
        If it is damaged or cannot be decoded.
    """
    try:
        header = read_dicom(path)
        _check(header, path)
        spacing, notes = _spacing(header, path)
    except PARSE_ERRORS as error:  # pydicom converts a value when it is asked for
        raise UnreadableFileError(
            f"{path}: damaged DICOM file: {type(error).__name__}.", hint="Export it again."
        ) from None
    if spacing is not None and not is_plausible_spacing(spacing):
        text = " x ".join(f"{value:g}" for value in spacing)
        spacing, notes = None, [f"{path.name}: a pixel spacing of {text} mm is no picture's, not taken."]
    pixels, is_measured = _decode(header, path, apply_voi)
    if pixels.ndim == 3:
        pixels = (pixels @ np.array(LUMINANCE)).round(4)
    else:
        pixels = _brightness(pixels, is_measured, is_inverted=header.PhotometricInterpretation == "MONOCHROME1")
    modality = str(header.get("Modality", ""))
    if modality != TRAINED_ON:
        notes.append(f"{path.name}: modality {modality or 'unknown'}; the shipped weights know ultrasound only.")
    return Plane2D(pixels.astype(np.float32), spacing, tuple(notes))


def _check(header: Any, path: Path) -> None:
    modality = str(header.get("Modality", ""))
    if modality not in MODALITIES:
        raise UnsupportedImageError(
            f"{path}: modality {modality}, expected a single 2-D image such as ultrasound.",
            hint="For a CT study leave out --model ultrasound.",
            reason="modality",
        )
    rows, columns = header.get("Rows"), header.get("Columns")
    if "PixelData" not in header or not rows or not columns:
        _refuse_cut(path)
        raise UnsupportedImageError(f"{path}: a DICOM object without pixels.", hint="Give the image.", reason="pixels")
    check_size(int(columns), int(rows), path)
    _refuse_frames(int(header.get("NumberOfFrames") or 1), path)
    stored, high_bit = header.get("BitsStored"), header.get("HighBit")
    if stored is not None and high_bit is not None and int(high_bit) != int(stored) - 1:
        raise UnsupportedImageError(
            f"{path}: high bit {high_bit} of {stored} bits, expected {int(stored) - 1}.",
            hint="Export it again, with the pixels in the low bits.",
            reason="high-bit",
        )
    kind = str(header.get("PhotometricInterpretation", ""))
    if kind not in (*GREY, *COLOUR):
        raise UnsupportedImageError(
            f"{path}: photometric interpretation {kind or 'missing'}, expected grey or colour.",
            hint="Export it again as a grey or colour image.",
            reason="colour",
        )
    _check_layout(header, path)


def _check_layout(header: Any, path: Path) -> None:
    """Refuse what leaves open, or contradicts, how the values of a pixel are stored."""
    is_colour = header.PhotometricInterpretation in COLOUR and header.PhotometricInterpretation != "PALETTE COLOR"
    expected = {
        "SamplesPerPixel": (3,) if is_colour else (1,),
        "BitsAllocated": (8, 16, 32),
        "BitsStored": range(1, int(header.get("BitsAllocated") or 0) + 1),
        "PixelRepresentation": (0, 1),
        **({"PlanarConfiguration": (0, 1)} if is_colour else {}),
    }
    for name, values in expected.items():
        found = header.get(name)
        if found not in values:
            what = "missing" if found in (None, "") else found
            wanted = f"1 to {values[-1]}" if isinstance(values, range) else " or ".join(map(str, values))
            raise UnreadableFileError(
                f"{path}: {name} is {what} in its header, expected {wanted}.",
                hint="Export it again.",
                reason="pixel-layout",
            )


def _refuse_cut(path: Path) -> None:
    """Refuse a file that ends within its header: pydicom takes what there is for all of it."""
    try:
        with path.open("rb") as stream:
            scan_header(stream, frozenset())
    except UnreadableFileError as error:
        raise UnreadableFileError(
            f"{path}: {error.message}", hint="Copy or export the file again.", reason="truncated"
        ) from None


def _refuse_frames(frames: int, path: Path) -> None:
    if frames != 1:
        raise UnsupportedImageError(
            f"{path}: {frames} frames, expected 1.", hint="Export the frame that is meant.", reason="frames"
        )


def _brightness(pixels: NDArray[Any], is_measured: NDArray[np.bool_], *, is_inverted: bool) -> NDArray[Any]:
    """Low values are bright in MONOCHROME1; padding, which was not measured, becomes the darkest of the others."""
    measured = pixels[is_measured] if is_measured.any() else pixels
    low, high = measured.min(), measured.max()
    return np.where(is_measured, high + low - pixels if is_inverted else pixels, low)


def _decode(header: Any, path: Path, apply_voi: bool) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Grey values or colours, and which of them were measured."""
    try:
        if header["PixelData"].is_undefined_length:  # the number of frames may be missing or wrong
            _refuse_frames(_stored_frames(header), path)
        elif header.file_meta.TransferSyntaxUID in NATIVE:
            _check_length(header, path)
        _check_codestream(header, path)
        padding = _padding(header)
        stored = pixel_array(header)  # YBR becomes RGB
    except InputError:
        raise
    except Exception as error:  # each decoder has its own errors; the text of one may quote a header
        raise _undecodable(header, path, type(error).__name__) from None
    plane = (int(header.Rows), int(header.Columns))
    if stored.shape not in (plane, (*plane, 3)):
        raise _undecodable(header, path, f"an array of shape {stored.shape}, expected {plane} or {(*plane, 3)}")
    is_measured = np.ones(plane, dtype=bool)
    if padding is not None and stored.ndim == 2 and header.PhotometricInterpretation in GREY:
        is_measured = (stored < padding[0]) | (stored > padding[1])
    try:
        if header.PhotometricInterpretation == "PALETTE COLOR":
            return apply_color_lut(stored, header)[..., :3].astype(np.float64), is_measured
        if stored.ndim == 2:
            stored = apply_modality_lut(stored, header)
            stored = apply_voi_lut(stored, header) if apply_voi else stored
    except Exception as error:  # tables of values can be damaged, too
        raise _undecodable(header, path, type(error).__name__) from None
    return stored.astype(np.float64), is_measured


def _padding(header: Any) -> tuple[int, int] | None:
    """The first and last stored value that mean padding."""
    first = header.get("PixelPaddingValue")
    if first is None:
        return None
    last = header.get("PixelPaddingRangeLimit")
    first, last = (_as_stored(int(value), header) for value in (first, first if last is None else last))
    return min(first, last), max(first, last)


def _as_stored(value: int, header: Any) -> int:
    """Writers confuse US and SS, and cut the sign to the stored bits, so Pixel Representation decides, as for CT."""
    value, stored = value & 0xFFFF, int(header.BitsStored)
    bits = stored if stored < 16 and value >> stored == 0 else 16
    return value - (1 << bits) if header.PixelRepresentation == 1 and value >> (bits - 1) else value


def _stored_frames(header: Any) -> int:
    """Count the frames of compressed pixels: by a table of offsets, else by how their fragments begin."""
    if "ExtendedOffsetTable" in header:
        return len(header.ExtendedOffsetTable) // 8
    stream = BytesIO(header.PixelData)
    if offsets := parse_basic_offsets(stream):
        return len(offsets)
    is_rle = header.file_meta.TransferSyntaxUID == RLE  # each frame is one fragment
    return sum(is_rle or fragment.startswith(_STARTS) for fragment in generate_fragments(stream))


def _check_length(header: Any, path: Path) -> None:
    """Refuse uncompressed pixels that are cut, or that the header contradicts."""
    found, expected = len(header.PixelData), get_expected_length(header)
    if found < expected:
        raise UnreadableFileError(
            f"{path}: truncated, {found} bytes of pixels, expected {expected}.",
            hint="Copy or export it again.",
            reason="truncated",
        )
    columns, rows, bits = header.Columns, header.Rows, header.BitsAllocated
    if found >= expected + columns * rows * bits // 8:
        # A byte or two are filled up. One value more for each pixel means other bits, colours or sizes.
        raise UnreadableFileError(
            f"{path}: {found} bytes of pixels, expected {expected} for {columns} x {rows} pixels of "
            f"{header.SamplesPerPixel} x {bits} bits, {header.PhotometricInterpretation}: the header contradicts the "
            "pixels.",
            hint="Export it again.",
            reason="pixel-length",
        )


def _check_codestream(header: Any, path: Path) -> None:
    """Decoders trust the codestream or the header; where the two differ, they cut the image, or crash."""
    syntax = header.file_meta.TransferSyntaxUID
    if syntax not in JPEG_FAMILY | {RLE}:
        return
    frame = next(generate_frames(header.PixelData, number_of_frames=1))
    if syntax == RLE:
        pixels = int(header.Rows) * int(header.Columns)
        if has_more_pixels(frame, pixels):
            raise UnreadableFileError(
                f"{path}: its compressed pixels are more than {pixels}, the header says {header.Columns} x "
                f"{header.Rows}.",
                hint="Export it again.",
            )
        return
    size = plane_size(frame, syntax)
    found = size.components, size.columns, size.rows
    expected = int(header.SamplesPerPixel), int(header.Columns), int(header.Rows)
    if found != expected or size.bits > header.BitsAllocated:
        raise UnreadableFileError(
            f"{path}: its compressed pixels are {size.columns} x {size.rows} of {size.components} x {size.bits} bits, "
            f"the header says {header.Columns} x {header.Rows} of {header.SamplesPerPixel} x {header.BitsAllocated} "
            "bits.",
            hint="Export it again.",
        )


def _undecodable(header: Any, path: Path, found: str) -> UnreadableFileError:
    is_native = header.file_meta.TransferSyntaxUID in NATIVE
    hint = "Export it again." if is_native else "Export it uncompressed."
    return UnreadableFileError(f"{path}: its pixels cannot be decoded: {found}.", hint=hint)


def _spacing(header: Any, path: Path) -> tuple[tuple[float, float] | None, list[str]]:
    """Spacing along columns index and rows index, mm, from the first of the places that has one."""
    if regions := _regions(header):
        first = regions[0][0]
        if all(np.allclose(other, first, rtol=SPACING_TOLERANCE) for other, _ in regions[1:]):
            return first, _where_it_holds([box for _, box in regions], header, path)
        return None, [f"{path.name}: {len(regions)} ultrasound regions of different spacing; none was taken."]
    plain, at_detector = _pair(header.get("PixelSpacing")), _pair(header.get("ImagerPixelSpacing"))
    calibration = str(header.get("PixelSpacingCalibrationType") or "")
    is_calibrated = bool(calibration) or not _are_equal(plain, at_detector)
    if plain and is_calibrated:
        how = f"by {calibration}" if calibration in _CALIBRATIONS else "in a way that the header does not say"
        has_choice = bool(calibration or at_detector)
        return plain, [f"{path.name}: Pixel Spacing, calibrated {how}."] if has_choice else []
    if at_detector:
        factor = float(header.get("EstimatedRadiographicMagnificationFactor") or 1.0)
        factor = factor if factor >= 1.0 else 1.0
        where = "divided by the magnification" if factor > 1.0 else "at the detector; tissue is magnified"
        return (at_detector[0] / factor, at_detector[1] / factor), [f"{path.name}: Imager Pixel Spacing, {where}."]
    return None, []


def _are_equal(plain: tuple[float, float] | None, at_detector: tuple[float, float] | None) -> bool:
    """Equal ones, without a calibration, are both at the detector (PS3.3 10.7.1.1)."""
    return bool(plain and at_detector and np.allclose(plain, at_detector, rtol=SPACING_TOLERANCE, atol=0.0))


def _regions(header: Any) -> list[tuple[tuple[float, float], _Box]]:
    """Spacing, mm, and place of each ultrasound region that has a spacing in both directions."""
    found = []
    whole = (0, 0, int(header.Columns) - 1, int(header.Rows) - 1)
    corners = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
    for region in header.get("SequenceOfUltrasoundRegions") or []:
        units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
        across, down = region.get("PhysicalDeltaX"), region.get("PhysicalDeltaY")
        is_plane = region.get("RegionSpatialFormat") == _REGION_IS_2D and units == (_UNIT_IS_CM, _UNIT_IS_CM)
        if is_plane and across and down:
            box = [int(region.get(name, default)) for name, default in zip(corners, whole, strict=True)]
            found.append(((abs(float(across)) * 10.0, abs(float(down)) * 10.0), (box[0], box[1], box[2], box[3])))
    return found


def _where_it_holds(boxes: list[_Box], header: Any, path: Path) -> list[str]:
    """A warning if the regions leave out a part of the image: what lies there has no spacing."""
    is_inside = np.zeros((int(header.Rows), int(header.Columns)), dtype=bool)
    for left, top, right, bottom in boxes:
        is_inside[max(top, 0) : max(bottom + 1, 0), max(left, 0) : max(right + 1, 0)] = True
    if is_inside.all():
        return []
    places = [f"columns {left} to {right}, rows {top} to {bottom}" for left, top, right, bottom in boxes]
    text = "; ".join(places[:_REGIONS_NAMED]) + ("; ..." if len(places) > _REGIONS_NAMED else "")
    return [
        f"{path.name}: the spacing holds for {100 * is_inside.mean():.3g} % of the image, its ultrasound regions "
        f"({text}); lengths and areas outside of them are wrong."
    ]


def _pair(value: Any) -> tuple[float, float] | None:
    """DICOM gives the distance of rows first."""
    if value is None or len(value) != 2 or not all(0 < float(number) < np.inf for number in value):
        return None
    return float(value[1]), float(value[0])
