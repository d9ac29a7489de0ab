"""PNG, JPEG and TIFF, decoded by Pillow after their size was checked."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UnreadableFileError, UnsupportedImageError
from .image2d_pixels import Plane2D, check_size, is_plausible_spacing

FORMATS = ("PNG", "JPEG", "TIFF")

LUMINANCE = (0.299, 0.587, 0.114)
"""Brightness of red, green and blue (ITU-R BT.601); grey stays as it is."""

SCREEN_DENSITIES = (72, 75, 90, 96, 100, 120, 144, 150, 180, 192, 200, 220, 240, 288, 300, 400, 600, 1200)
"""Pixels per inch that programs write without having measured anything: a screen or a printer, not tissue."""

DENSITY_TOLERANCE = 0.6
"""PNG stores whole pixels per metre, so a density comes back rounded."""

_ORIENTATION = 0x0112
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
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
        If it has several pages, transparency or too many pixels.
    UnreadableFileError
        If it is damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on size and on metadata; the size is checked here
        try:
            # Given the path, Pillow maps plain TIFF files with their sides already exchanged by the orientation.
            with path.open("rb") as stream, Image.open(stream, formats=FORMATS) as image:
                return _decode(image, path)
        except Image.DecompressionBombError:
            raise UnsupportedImageError(
                f"{path}: far too many pixels; it was not decoded.", hint="Save the image smaller.", reason="too-large"
            ) from None
        except UnidentifiedImageError:
            if _has_signature_of_tiff(path):
                raise UnsupportedImageError(
                    f"{path}: a TIFF file of a kind of pixel that is not read, expected 8 or 16 bits without sign, "
                    "or 32-bit numbers.",
                    hint="Save it as PNG.",
                ) from None
            raise UnreadableFileError(
                f"{path}: damaged, or no {', '.join(FORMATS)} file.", hint="Save it again."
            ) from None
        except _DECODE_ERRORS as error:
            raise UnreadableFileError(
                f"{path}: cannot be decoded: {type(error).__name__}.", hint="Copy or save the file again."
            ) from None


def _has_signature_of_tiff(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(4) in _TIFF_SIGNATURES
    except OSError:
        return False


def _decode(image: Image.Image, path: Path) -> Plane2D:
    check_size(*image.size, path)
    pages = int(getattr(image, "n_frames", 1))
    if pages > 1:
        raise UnsupportedImageError(
            f"{path}: {pages} pages or frames, expected 1.", hint="Save the page that is meant as PNG.", reason="pages"
        )
    spacing, notes = _spacing(image, path)
    orientation = int(image.getexif().get(_ORIENTATION, 1))
    if orientation in range(2, 9):
        notes.append(f"{path.name}: EXIF orientation {orientation} was applied; the mask is as viewers show the image.")
        if orientation >= 5 and spacing is not None:  # rows become columns
            spacing = spacing[1], spacing[0]
    is_inverted = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # type: ignore[attr-defined]
    image.load()
    upright: Image.Image = ImageOps.exif_transpose(image)
    brightness = _brightness(upright, path)
    if is_inverted and upright.mode not in ("1", "L", "RGB"):  # Pillow has turned those
        if not upright.mode.startswith("I;16"):
            raise UnsupportedImageError(
                f"{path}: 32-bit numbers where 0 is white, expected 0 to be black.", hint="Save it as PNG."
            )
        brightness = np.float32(65535.0) - brightness
    return Plane2D(brightness, spacing, tuple(notes))


def _brightness(image: Image.Image, path: Path) -> NDArray[np.float32]:
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        _check_keyed(image, path)
        return np.asarray(image).astype(np.float32)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if int(np.asarray(image)[..., 3].min()) < 255:
            raise UnsupportedImageError(
                f"{path}: transparent pixels, expected an opaque image.", hint="Save it without transparency."
            )
    colours = np.asarray(image.convert("RGB")).astype(np.float64)
    brightness: NDArray[np.float32] = np.matmul(colours, LUMINANCE).round(4).astype(np.float32)
    return brightness


def _check_keyed(image: Image.Image, path: Path) -> None:
    # A grey PNG may name one value that means "nothing here".
    if "transparency" in image.info:
        raise UnsupportedImageError(
            f"{path}: transparent pixels, expected an opaque image.", hint="Save it without transparency."
        )


def _spacing(image: Image.Image, path: Path) -> tuple[tuple[float, float] | None, list[str]]:
    """What a PNG says in its pHYs chunk; the densities of JPEG and TIFF are those of screens and printers."""
    density: Any = image.info.get("dpi")
    if image.format != "PNG" or density is None or min(density) <= 0:
        return None, []
    across, down = (float(value) for value in density)
    if any(abs(across - known) < DENSITY_TOLERANCE for known in SCREEN_DENSITIES):
        return None, [f"{path.name}: {across:.0f} pixels per inch is a density of screens and printers, not taken."]
    spacing = (25.4 / across, 25.4 / down)
    text = f"{spacing[0]:.4g} x {spacing[1]:.4g} mm"
    if not is_plausible_spacing(spacing):
        return None, [f"{path.name}: a pixel spacing of {text} in the PNG header (pHYs) is no picture's, not taken."]
    return spacing, [f"{path.name}: pixel spacing {text} from the PNG header (pHYs); check that it is that of tissue."]
