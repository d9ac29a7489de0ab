"""What pictures of a case have in common: paper, panels true to scale, outlines, directions, scale bars and colours.

Drawn with Pillow: a plotting library takes longer to load than a small study takes to segment.
"""

from __future__ import annotations

import importlib.util
import io
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from skimage.measure import find_contours

from .planes import Plane

STATEMENT = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS"

WINDOW_LEVEL_HU, WINDOW_WIDTH_HU = 0, 500
"""Fat (-100), fibroglandular tissue (0 to 50) and a mass (30 to 80) are told apart; skin does not saturate."""

INK, PAPER, FAINT, ALERT = "#e8eaed", "#101214", "#8b9198", "#ffb454"
_FRAME = "#2a2e33"
_SCALE_BARS_MM = (1, 2, 5, 10, 20, 50, 100)
_FINER = 3
"""Lines are drawn this many times finer and averaged."""
_EDGE = 2
"""Pixels of black around letters and scale bars on an image, which bone, implants and calcifications turn white."""

Colour = str | tuple[int, int, int]
Field = tuple[float, float, float, float]
"""What a panel shows, in mm: left, right, bottom, top; right and top are larger."""


class _Sheet:
    """Something to write on."""

    image: Image.Image
    edge = 0

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        colour: Colour = INK,
        *,
        bold: bool = False,
        anchor: str = "la",
    ) -> None:
        """Write one line at a place from the upper left, in pixels; `anchor` as Pillow names it."""
        ImageDraw.Draw(self.image).text(
            (x, y), text, fill=colour, font=font(size, bold), anchor=anchor, stroke_width=self.edge, stroke_fill="black"
        )


class Canvas(_Sheet):
    """A picture of some pixels, dark as the screens it is read on.

    Parameters
    ----------
    width, height : int
        Pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), PAPER)

    def place(self, panel: Panel) -> None:
        """Put a finished panel where it belongs."""
        self.image.paste(panel.image, (panel.left, panel.top))

    def png(self) -> bytes:
        """Give the picture as PNG: the same bytes for the same picture, and no name, date or path in it."""
        description = PngInfo()
        description.add_text("Description", STATEMENT)
        content = io.BytesIO()
        self.image.save(content, "PNG", pnginfo=description)
        return content.getvalue()


class Panel(_Sheet):
    """A rectangle of a canvas that shows a field of millimetres, as large as it fits a box and in its middle.

    Parameters
    ----------
    box : tuple of float
        Left, top, right and bottom of the room on the canvas, in pixels.
    field : tuple of float
        Left, right, bottom and top of what is shown, in mm.
    """

    edge = _EDGE

    def __init__(self, box: tuple[float, float, float, float], field: Field) -> None:
        left, top, right, bottom = box
        self.field = field
        across, up = field[1] - field[0], field[3] - field[2]
        self.scale = min((right - left) / across, (bottom - top) / up)
        width, height = max(1, round(across * self.scale)), max(1, round(up * self.scale))
        self.left, self.top = round((left + right - width) / 2), round((top + bottom - height) / 2)
        self.image = Image.new("RGB", (width, height), "black")

    def pixels(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels from the upper left of the panel for points in mm, shape (N, 2) both."""
        return (points_mm - [self.field[0], self.field[3]]) * [self.scale, -self.scale]

    def show(self, grey: NDArray[np.uint8], to_mm: NDArray[np.float64]) -> None:
        """Show an image; `to_mm` takes (column, row) of its pixel centres to mm."""
        back = np.linalg.inv(to_mm)
        start = back @ np.array([self.field[0], self.field[3]]) + 0.5  # Pillow's pixels begin at their corner
        steps = back / self.scale * [1, -1]
        shape = (*steps[0], start[0], *steps[1], start[1])
        source = Image.fromarray(np.ascontiguousarray(grey))
        shown = source.transform(self.image.size, Image.Transform.AFFINE, shape, Image.Resampling.BILINEAR)
        self.image.paste(shown.convert("RGB"))

    def outline(
        self,
        mask: NDArray[np.bool_],
        to_mm: NDArray[np.float64],
        colour: Colour,
        width: float,
        *,
        dash: tuple[float, float] | None = None,
    ) -> None:
        """Outline a mask half-way between its pixels and their neighbours; `dash` is the length of line and gap."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return
        part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        # A frame of background closes outlines at the border of the image.
        lines = find_contours(np.pad(part, 1).astype(np.float32), 0.5, fully_connected="high")
        start = np.array([columns[0] - 1, rows[0] - 1])
        self._lines([self.pixels((line[:, ::-1] + start) @ to_mm.T) for line in lines], colour, width, dash)

    def _lines(
        self, lines: list[NDArray[np.float64]], colour: Colour, width: float, dash: tuple[float, float] | None = None
    ) -> None:
        fine = Image.new("L", (self.image.width * _FINER, self.image.height * _FINER))
        draw = ImageDraw.Draw(fine)
        for line in lines:
            for piece in [line] if dash is None else _dashes(line, *dash):
                draw.line((piece * _FINER).ravel().tolist(), fill=255, width=round(width * _FINER), joint="curve")
        self.image.paste(colour, (0, 0), fine.reduce(_FINER))

    def cross(self, middle_mm: NDArray[np.float64], width: float) -> None:
        """Draw short lines at the borders that show where the two other planes lie."""
        across, up = self.image.size
        x, y = self.pixels(middle_mm[None])[0]
        ends = [np.array([[x, up * low], [x, up * high]]) for low, high in ((0.0, 0.028), (0.972, 1.0))]
        ends += [np.array([[across * low, y], [across * high, y]]) for low, high in ((0.0, 0.028), (0.972, 1.0))]
        self._lines(ends, ALERT, width)

    def marks(self, plane: Plane, size: float) -> None:
        """Write the patient's directions at the four sides."""
        left, right, bottom, top = plane.marks()
        width, height = self.image.size
        for text, x, y, anchor in (
            (left, 0.045, 0.5, "lm"),
            (right, 0.955, 0.5, "rm"),
            (bottom, 0.5, 0.955, "md"),
            (top, 0.5, 0.045, "ma"),
        ):
            self.text(x * width, y * height, text, size, bold=True, anchor=anchor)

    def scale_bar(self, size: float) -> None:
        """Draw a bar of a round length, at most a quarter of the width."""
        width, height = self.image.size
        shown = width / self.scale
        length = max((bar for bar in _SCALE_BARS_MM if bar <= shown / 4), default=_SCALE_BARS_MM[0])
        right, y = 0.955 * width, 0.955 * height
        left = right - length * self.scale
        for colour, edge in (("black", self.edge), (INK, 0)):
            ends = np.array([[left - edge, y], [right + edge, y]])
            self._lines([ends], colour, size / 4 + 2 * edge)
        self.text((left + right) / 2, y - size / 3, f"{length} mm", size, anchor="md")

    def frame(self) -> None:
        """Draw a thin line around the panel."""
        width, height = self.image.size
        ImageDraw.Draw(self.image).rectangle((0, 0, width - 1, height - 1), outline=_FRAME)


def plane_field(plane: Plane, shape: tuple[int, ...]) -> Field:
    """What a panel shows of a whole plane of a volume of some shape."""
    columns, rows = shape[plane.across], shape[plane.up]
    corners = plane.to_mm @ np.array([[-0.5, columns - 0.5, -0.5, columns - 0.5], [-0.5, -0.5, rows - 0.5, rows - 0.5]])
    return corners[0].min(), corners[0].max(), corners[1].min(), corners[1].max()


def draw_plane(panel: Panel, plane: Plane, volume_hu: NDArray[np.generic]) -> None:
    """Show one plane of a volume in the soft-tissue window."""
    low = WINDOW_LEVEL_HU - WINDOW_WIDTH_HU / 2
    panel.show(to_grey(plane.cut(volume_hu), low, low + WINDOW_WIDTH_HU), plane.to_mm)


def to_grey(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    """Values from `low` (black) to `high` (white)."""
    share = (values.astype(np.float32) - low) * np.float32(255 / (high - low))
    grey: NDArray[np.uint8] = np.clip(share + 0.5, 0, 255).astype(np.uint8)
    return grey


@cache
def font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The typeface that comes with matplotlib; it knows the signs that Pillow's own lacks. Nothing is imported."""
    home = importlib.util.find_spec("matplotlib")
    file = f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    path = Path(str(home.origin)).parent / "mpl-data" / "fonts" / "ttf" / file if home else Path(file)
    return ImageFont.truetype(path, size) if path.is_file() else ImageFont.load_default(size)


def _dashes(line: NDArray[np.float64], on: float, off: float) -> list[NDArray[np.float64]]:
    """Cut a line into pieces of a length `on` with gaps of a length `off`."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    pieces = []
    for start in np.arange(0.0, along[-1], on + off):
        stop = min(start + on, along[-1])
        places = np.concatenate([[start], along[(along > start) & (along < stop)], [stop]])
        pieces.append(np.column_stack([np.interp(places, along, line[:, axis]) for axis in range(2)]))
    return pieces
