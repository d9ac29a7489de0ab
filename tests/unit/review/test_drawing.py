"""Panels put voxels, outlines and marks where their millimetres are."""

import io

import numpy as np
import pytest
from PIL import Image

from lightunet_monai.review.drawing import STATEMENT, Canvas, Panel, draw_plane, font, plane_field, to_grey
from lightunet_monai.review.planes import choose_planes

AFFINES = {
    "axial": np.diag([0.7, 0.9, 1.6, 1.0]),
    "left-handed": np.diag([-0.7, 0.9, 1.6, 1.0]),
    "coronal": np.array([[0.7, 0, 0, 5], [0, 0, 1.6, -9], [0, -0.9, 0, 2], [0, 0, 0, 1]]),
    "oblique": np.array([[0.64, -0.2, 0.1, 0], [0.21, 0.85, -0.3, 4], [-0.05, 0.27, 1.5, 8], [0, 0, 0, 1]]),
    "sheared": np.array([[0.7, 0, 0.0, 0], [0, 0.9, 0.5, 0], [0, 0, 1.6, 0], [0, 0, 0, 1]]),
}
SHAPE, VOXEL = (30, 26, 18), (21, 7, 12)


def bright_centre(panel: Panel) -> np.ndarray:
    """Where a panel is bright: column and row of the centroid, counted from the corner of the first pixel."""
    grey = np.asarray(panel.image.convert("L")).astype(float)
    rows, columns = np.indices(grey.shape)
    return np.array([(columns * grey).sum(), (rows * grey).sum()]) / grey.sum() + 0.5


@pytest.mark.parametrize("kind", AFFINES)
def test_a_voxel_is_shown_where_its_millimetres_are(kind: str) -> None:
    volume = np.full(SHAPE, -1000, np.int16)
    volume[VOXEL] = 200
    for plane in choose_planes(AFFINES[kind], VOXEL):
        panel = Panel((10, 20, 410, 320), plane_field(plane, SHAPE))
        draw_plane(panel, plane, volume)
        expected = panel.pixels(plane.place(VOXEL)[None])[0]
        assert np.abs(bright_centre(panel) - expected).max() < 0.75


@pytest.mark.parametrize("kind", AFFINES)
def test_an_outline_lies_around_what_it_outlines(kind: str) -> None:
    labels = np.zeros(SHAPE, bool)
    labels[18:24, 4:11, 9:15] = True
    middle = (20.5, 7.0, 11.5)
    for plane in choose_planes(AFFINES[kind], VOXEL):
        panel = Panel((0, 0, 400, 300), plane_field(plane, SHAPE))
        panel.outline(plane.cut(labels), plane.to_mm, "#ffffff", 2.0)
        assert np.abs(bright_centre(panel) - panel.pixels(plane.place(middle)[None])[0]).max() < 0.75
        shown = np.asarray(panel.image.convert("L"))
        x, y = (int(value) for value in panel.pixels(plane.place(middle)[None])[0])
        assert shown[y, x] == 0  # inside it stays as it was


def test_an_outline_is_closed_at_the_border_of_the_image() -> None:
    plane = choose_planes(AFFINES["axial"], VOXEL)[0]
    panel = Panel((0, 0, 300, 300), plane_field(plane, SHAPE))
    panel.outline(np.ones((26, 30), bool), plane.to_mm, "#ffffff", 4.0)
    shown = np.asarray(panel.image.convert("L"))
    assert all(side.mean() > 200 for side in (shown[0], shown[-1], shown[:, 0], shown[:, -1]))


def test_a_dashed_outline_has_gaps_and_an_empty_mask_none() -> None:
    plane = choose_planes(AFFINES["axial"], VOXEL)[0]
    mask = np.zeros((26, 30), bool)
    empty = Panel((0, 0, 300, 300), plane_field(plane, SHAPE))
    empty.outline(mask, plane.to_mm, "#ffffff", 2.0)
    assert not np.asarray(empty.image).any()
    mask[8:16, 9:20] = True
    light = {}
    for name, dash in (("solid", None), ("dashed", (6.0, 6.0))):
        panel = Panel((0, 0, 300, 300), plane_field(plane, SHAPE))
        panel.outline(mask, plane.to_mm, "#ffffff", 2.0, dash=dash)
        light[name] = np.asarray(panel.image.convert("L")).sum()
    assert 0.4 < light["dashed"] / light["solid"] < 0.62


def test_a_panel_keeps_its_shape_in_the_middle_of_its_box() -> None:
    panel = Panel((100, 50, 500, 250), (0.0, 30.0, -10.0, 20.0))
    assert panel.image.size == (200, 200)
    assert (panel.left, panel.top) == (200, 50)


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    panel = Panel((0, 0, 400, 400), (0.0, 80.0, 0.0, 80.0))
    panel.scale_bar(14.0)
    row = np.asarray(panel.image.convert("L"))[round(0.955 * 400)]
    assert (row > 128).sum() == 100  # 20 mm at 5 pixels a millimetre


def test_marks_and_scale_bar_can_be_read_on_bone() -> None:
    plane = choose_planes(AFFINES["axial"], VOXEL)[0]
    panel = Panel((0, 0, 300, 300), plane_field(plane, SHAPE))
    draw_plane(panel, plane, np.full(SHAPE, 1000, np.int16))
    panel.marks(plane, 18.0)
    panel.scale_bar(14.0)
    shown = np.asarray(panel.image.convert("L"))
    middle, last = [size // 2 for size in shown.shape], [size - 1 for size in shown.shape]
    beside, half = 40, 15
    rows, columns = (slice(value - half, value + half) for value in middle)
    marks = (shown[rows, :beside], shown[rows, -beside:], shown[:beside, columns], shown[-beside:, columns])
    bar = shown[-beside:, round(0.7 * last[1]) :]
    assert all((part < 60).sum() > 30 for part in (*marks, bar))


def test_the_same_canvas_gives_the_same_bytes_and_says_what_it_is_for() -> None:
    canvas = Canvas(80, 40)
    canvas.text(2, 2, "0.7 × 0.9 mm²", 12.0)
    with Image.open(io.BytesIO(canvas.png())) as image:
        assert image.info == {"Description": STATEMENT}
    assert canvas.png() == canvas.png()


def test_the_typeface_knows_the_signs_that_are_written() -> None:
    missing = font(20.0).getmask("\uffff")
    for sign in "×²³—é":
        assert bytes(font(20.0).getmask(sign)) != bytes(missing)


def test_grey_runs_from_black_to_white() -> None:
    assert to_grey(np.array([-900, -250, 0, 250, 3000], np.int16), -250, 250).tolist() == [0, 0, 128, 255, 255]
