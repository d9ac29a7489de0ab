"""PNG, JPEG and TIFF, decoded by Pillow after their size was checked."""

from __future__ import annotations

import os
import struct
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import InputError, UnreadableFileError, UnsupportedImageError
from .image2d_pixels import TIFF_SIGNATURES, Plane2D, check_size, is_plausible_spacing
from .image2d_png import PngHeader, check_png_pixels, read_png_header
from .limits import MAX_IMAGE_PIXELS

FORMATS = ("PNG", "JPEG", "TIFF")

LUMINANCE = (0.299, 0.587, 0.114)
"""Brightness of red, green and blue (ITU-R BT.601); grey stays as it is."""

DENSITY_TOLERANCE = 0.0255
"""Pixels per inch that a density may differ from a whole number: PNG stores whole pixels per metre, rounded or cut."""

_ORIENTATION = 0x0112
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_SAMPLE_FORMAT, _UNSIGNED, _SIGNED = 339, 1, 2
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
    MemoryError,
)
"""What Pillow raises on damaged files, `UnidentifiedImageError` (an OSError) included."""


def read_picture(path: Path) -> Plane2D:
    """Read a PNG, JPEG or TIFF file as brightness.

    Raises
    ------
    UnsupportedImageError
        If it has several pages, transparency, too many pixels, or colour of more than 8 bits.
    UnreadableFileError
        If it is damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on size and on metadata; the size is checked here
        try:
            png = read_png_header(path)
            if png:  # Pillow refuses the largest without their size
                check_size(png.columns, png.rows, path)
            # Given the path, Pillow maps plain TIFF files with their sides already exchanged by the orientation.
            with path.open("rb") as stream, Image.open(stream, formats=FORMATS) as image:
                return _decode(image, png, path)
        except Image.DecompressionBombError:
            raise UnsupportedImageError(
                f"{path}: more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels, expected at most {MAX_IMAGE_PIXELS}.",
                hint="Save the image smaller.",
                reason="too-large",
            ) from None
        except UnidentifiedImageError:
            raise _why_unknown(path) from None
        except _DECODE_ERRORS as error:
            raise UnreadableFileError(
                f"{path}: cannot be decoded: {type(error).__name__}.", hint="Copy or save the file again."
            ) from None


def _why_unknown(path: Path) -> InputError:
    """Why Pillow knows nothing about a file."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            needed = _end_of_directory(stream, size)
    except OSError:
        size, needed = 0, None
    if needed is None:
        return UnreadableFileError(f"{path}: damaged, or no {', '.join(FORMATS)} file.", hint="Save it again.")
    if size < needed:
        return UnreadableFileError(
            f"{path}: {size} bytes, expected at least {needed}: the end of the file is missing.",
            hint="Copy or save the file again.",
        )
    return UnsupportedImageError(
        f"{path}: a TIFF file of a kind of pixel or compression that is not read, expected whole numbers of 8 to 32 "
        "bits, or floating point of 32 bits.",
        hint="Save it as PNG.",
    )


def _end_of_directory(stream: IO[bytes], size: int) -> int | None:
    """Where the directory of a TIFF file ends, often its last bytes; without it nobody knows what its pixels are."""
    stream.seek(0)
    head = stream.read(16)
    if not head.startswith(TIFF_SIGNATURES):
        return None
    order = "<" if head.startswith(b"II") else ">"
    is_big = head[2:4] in (b"+\0", b"\0+")
    place, count, entry_bytes = ("8xQ", "Q", 20) if is_big else ("4xI", "H", 12)
    if len(head) < struct.calcsize(order + place):
        return struct.calcsize(order + place)
    (start,) = struct.unpack_from(order + place, head)
    behind_count = start + struct.calcsize(count)
    if behind_count > size:
        return int(behind_count)
    stream.seek(start)
    (entries,) = struct.unpack(order + count, stream.read(struct.calcsize(count)))
    return int(behind_count + entries * entry_bytes)


def _decode(image: Image.Image, png: PngHeader | None, path: Path) -> Plane2D:
    check_size(*image.size, path)
    pages = int(getattr(image, "n_frames", 1))
    if pages > 1:
        raise UnsupportedImageError(
            f"{path}: {pages} pages or frames, expected 1.", hint="Save the page that is meant as PNG.", reason="pages"
        )
    _check_depth(image, png, path)
    if png:
        check_png_pixels(path, png)
    spacing, notes = _spacing(image, path)
    orientation = int(image.getexif().get(_ORIENTATION, 1))
    if orientation in range(2, 9):
        notes.append(f"{path.name}: EXIF orientation {orientation} was applied; the mask is as viewers show the image.")
        if orientation >= 5 and spacing is not None:  # rows become columns
            spacing = spacing[1], spacing[0]
    is_inverted = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # type: ignore[attr-defined]
    meant_as = _meant_as(image)
    image.load()
    upright: Image.Image = ImageOps.exif_transpose(image)
    brightness = _grey(upright, meant_as, png, path) if _is_grey(upright) else _brightness(upright, path)
    if is_inverted and upright.mode not in ("1", "L", "RGB"):  # Pillow has turned those
        if not upright.mode.startswith("I;16"):
            raise UnsupportedImageError(
                f"{path}: 32-bit numbers where 0 is white, expected 0 to be black.", hint="Save it as PNG."
            )
        brightness = np.float32(65535.0) - brightness
    return Plane2D(brightness, spacing, tuple(notes))


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16")


def _check_depth(image: Image.Image, png: PngHeader | None, path: Path) -> None:
    """Refuse what Pillow would cut to the upper 8 bits, which may hold next to nothing."""
    bits = 8
    if png:
        bits = png.bits
    elif image.format == "TIFF":
        bits = max(image.tag_v2.get(_BITS, (1,)))  # type: ignore[attr-defined]
    if bits > 8 and not _is_grey(image):
        raise UnsupportedImageError(
            f"{path}: colour or transparency with {bits} bits a channel, expected 8.",
            hint="Save it as 16-bit grey, or with 8 bits a channel.",
            reason="depth",
        )


def _meant_as(image: Image.Image) -> type[np.generic] | None:
    """What the numbers of a TIFF file are, where Pillow takes the same bytes for others."""
    if image.format != "TIFF":
        return None
    sign = image.tag_v2.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0]  # type: ignore[attr-defined]
    bits = image.tag_v2.get(_BITS, (1,))[0]  # type: ignore[attr-defined]
    kinds: dict[Any, type[np.generic]] = {("L", _SIGNED, 8): np.int8, ("I", _UNSIGNED, 32): np.uint32}
    return kinds.get((image.mode, sign, bits))


def _grey(
    image: Image.Image, meant_as: type[np.generic] | None, png: PngHeader | None, path: Path
) -> NDArray[np.float32]:
    values = np.asarray(image)
    if "transparency" in image.info:  # one value of a grey PNG means "nothing here"
        key = int(image.info["transparency"])
        if image.mode == "1":
            key = bool(key)
        elif png and png.bits < 8:  # Pillow spreads the values, but not this one
            key = key * 255 // (2**png.bits - 1)
        if (values == key).any():
            raise _transparent(path)
    return (values if meant_as is None else values.view(meant_as)).astype(np.float32)


def _brightness(image: Image.Image, path: Path) -> NDArray[np.float32]:
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if int(np.asarray(image)[..., 3].min()) < 255:
            raise _transparent(path)
    colours = np.asarray(image.convert("RGB")).astype(np.float64)
    brightness: NDArray[np.float32] = np.matmul(colours, LUMINANCE).round(4).astype(np.float32)
    return brightness


def _transparent(path: Path) -> UnsupportedImageError:
    return UnsupportedImageError(
        f"{path}: transparent pixels, expected an opaque image.", hint="Save it without transparency."
    )


def _spacing(image: Image.Image, path: Path) -> tuple[tuple[float, float] | None, list[str]]:
    """What a PNG says in its pHYs chunk; the densities of JPEG and TIFF are those of screens and printers."""
    density: Any = image.info.get("dpi")
    if image.format != "PNG" or density is None or min(density) <= 0:
        return None, []
    across, down = (float(value) for value in density)
    spacing = (25.4 / across, 25.4 / down)
    text = f"{spacing[0]:.4g} x {spacing[1]:.4g} mm"
    if not is_plausible_spacing(spacing):
        return None, [f"{path.name}: a pixel spacing of {text} in the PNG header (pHYs) is no picture's, not taken."]
    # Programs write whole numbers without having measured anything; one measured in tissue is one by chance.
    if any(abs(value - round(value)) < DENSITY_TOLERANCE for value in (across, down)):
        text = " x ".join(f"{value:.4g}" for value in (across, down))
        return None, [f"{path.name}: {text} pixels per inch is a density of screens and printers, not taken."]
    return spacing, [f"{path.name}: pixel spacing {text} from the PNG header (pHYs); check that it is that of tissue."]
