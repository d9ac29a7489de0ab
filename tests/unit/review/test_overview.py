from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightunet_monai.errors import OutputError
from lightunet_monai.outputs import measure_lesions
from lightunet_monai.outputs.marking import RESEARCH_STATEMENT
from lightunet_monai.review import overview, write_overview
from lightunet_monai.review.drawing import Canvas, Panel
from tests.builders.segmentation import KINDS, MASS, ONE_LABEL, SKIN, THREE_LABELS, make_case, make_segmentation


@pytest.mark.parametrize(
    "source", [kind for kind in KINDS if kind in ("axial", "oblique", "coronal", "left-handed", "tilted")]
)
def test_a_picture_is_drawn_for_every_geometry(tmp_path: Path, source: str) -> None:
    case = make_case(tmp_path, source)
    findings = measure_lesions(case.segmentation, case.volume_hu)
    path = write_overview(case.segmentation, case.volume_hu, tmp_path / "overview.png", findings=findings)

    with Image.open(path) as image:
        assert image.size == (1620, 1200)
        pixels = np.asarray(image.convert("RGB")).astype(int)
        assert "RESEARCH USE ONLY" in image.info["Description"]
    red = (pixels[..., 0] > 180) & (pixels[..., 1] < 80) & (pixels[..., 2] < 80)
    # an outline in each of the six panels
    for rows in (slice(80, 620), slice(620, 1150)):
        for columns in (slice(0, 540), slice(540, 1080), slice(1080, 1620)):
            assert red[rows, columns].any()


def test_without_a_lesion_there_are_no_close_ups(tmp_path: Path) -> None:
    case = make_case(tmp_path, empty=True)
    with Image.open(write_overview(case.segmentation, case.volume_hu, tmp_path / "overview.png")) as image:
        assert image.height < 800


def test_without_findings_the_planes_with_most_labelled_voxels_are_shown(tmp_path: Path) -> None:
    label_map = np.zeros((20, 22, 24), np.uint8)
    label_map[4:9, 5:9, 17:20] = 1
    volume = np.full(label_map.shape, -80, np.int16)
    with Image.open(write_overview(make_segmentation(label_map), volume, tmp_path / "overview.png")) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert ((pixels[..., 0] > 180) & (pixels[..., 1] < 80)).any()


def test_the_picture_names_neither_file_nor_patient(tmp_path: Path) -> None:
    label_map = np.zeros((8, 8, 8), np.uint8)
    path = write_overview(make_segmentation(label_map), label_map.astype(np.int16), tmp_path / "doe_jane.png")
    with Image.open(path) as image:
        assert set(image.info) <= {"Description", "dpi"}


def test_a_folder_that_is_missing_is_an_output_error(tmp_path: Path) -> None:
    label_map = np.zeros((8, 8, 8), np.uint8)
    with pytest.raises(OutputError, match="cannot be written"):
        write_overview(make_segmentation(label_map), label_map.astype(np.int16), tmp_path / "no" / "overview.png")


def test_the_same_case_gives_the_same_picture(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    first, second = (write_overview(case.segmentation, case.volume_hu, tmp_path / f"{name}.png") for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_where_the_weights_come_from_is_said_of_those_shipped_alone(tmp_path: Path, monkeypatch) -> None:
    said = []
    monkeypatch.setattr(overview, "write_foot", lambda canvas, left, right: said.append(right))
    case = make_case(tmp_path, empty=True)
    write_overview(case.segmentation, case.volume_hu, tmp_path / "overview.png")
    assert said[0].endswith("; shipped weights: simulated data")  # users train on cases of theirs
    assert "The shipped weights were trained on simulated data" in RESEARCH_STATEMENT


def test_tissue_does_not_cover_the_outline_of_a_lesion(tmp_path: Path) -> None:
    shown = []
    for tissue in (0, 2):
        label_map = np.full((24, 24, 24), tissue, np.uint8)
        label_map[8:16, 8:16, 8:16] = 1
        segmentation = make_segmentation(label_map, labels=THREE_LABELS)
        with Image.open(write_overview(segmentation, label_map.astype(np.int16), tmp_path / "overview.png")) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        shown.append(np.count_nonzero(np.abs(pixels - MASS.color).max(axis=2) < 10))
    assert shown[1] == shown[0] > 1000


def test_where_structures_touch_the_outline_is_that_of_the_first_in_the_table(tmp_path: Path) -> None:
    label_map = np.full((24, 24, 24), 3, np.uint8)
    label_map[6:18, 6:18, 6:18] = 2
    segmentation = make_segmentation(label_map, labels=THREE_LABELS)
    with Image.open(write_overview(segmentation, label_map.astype(np.int16), tmp_path / "overview.png")) as image:
        panels = np.asarray(image.convert("RGB")).astype(int)[140:650]
    assert np.count_nonzero(np.abs(panels - SKIN.color).max(axis=2) < 40) > 1000, "not under the outline around it"


def test_several_structures_are_named_in_the_colours_of_their_outlines(tmp_path: Path, monkeypatch) -> None:
    written: dict[str, object] = {}

    def record(self: Canvas, x: float, y: float, text: str, size: float, colour: object, *_: object, **__: object):
        written[text] = colour

    label_map = np.zeros((8, 8, 8), np.uint8)
    for labels in (THREE_LABELS, ONE_LABEL):
        written.clear()
        segmentation = make_segmentation(label_map, labels=labels)
        monkeypatch.setattr(overview, "write_head", lambda canvas, summary: None)
        monkeypatch.setattr(overview, "write_foot", lambda canvas, left, right: None)
        monkeypatch.setattr(Canvas, "text", record)
        write_overview(segmentation, label_map.astype(np.int16), tmp_path / "overview.png")
        legend = {label.title: label.color for label in labels if len(labels) > 1}
        assert {text[2:]: colour for text, colour in written.items() if text[:2] == "— "} == legend


def test_numbers_stand_at_the_lesions_that_a_plane_cuts_and_at_no_others(tmp_path: Path, monkeypatch) -> None:
    label_map = np.zeros((60, 50, 40), np.uint8)
    label_map[20:34, 20:34, 14:28] = 1  # 1, in all planes
    label_map[50:, 42:, 18:24] = 1  # 2, in a corner
    label_map[8:11, 2:40, 20:22] = 1  # 3, long
    label_map[:6, 44:, 18:24] = 1  # 4, in the other corner
    label_map[40:58, 4:7, 27:29] = 1  # 5, long, but not in the axial plane
    volume = np.where(label_map > 0, 60, -100).astype(np.int16)
    segmentation = make_segmentation(label_map)
    written: dict[Panel, dict[str, tuple[float, float, str]]] = {}

    def record(self: Panel, x: float, y: float, text: str, size: float, *args: object, **more: object) -> None:
        if text.isdigit():
            written.setdefault(self, {})[text] = x, y, str(more["anchor"])

    monkeypatch.setattr(Panel, "text", record)
    findings = measure_lesions(segmentation, volume)
    assert [lesion.voxels for lesion in findings] == [14**3, 480, 228, 216, 108]
    write_overview(segmentation, volume, tmp_path / "overview.png", findings=findings)
    axial = next(iter(written))  # the first panel: the whole axial plane
    assert set(written[axial]) == {"1", "2", "3", "4"}
    for x, y, anchor in written[axial].values():
        assert anchor == "ld"
        assert 0 <= x < axial.image.width - 10, "the digit is not cut off"
        assert 10 < y <= axial.image.height
    (end_of_rod,) = axial.pixels(np.array([[-8.0, 39.0]]))
    assert np.hypot(*(end_of_rod - written[axial]["3"][:2])) < 20


@pytest.mark.parametrize(("voxel_mm", "written"), [(0.3, "0.000027 ml"), (2.4, "0.014 ml"), (10.0, "1.00 ml")])
def test_a_small_volume_keeps_two_digits(tmp_path: Path, monkeypatch, voxel_mm: float, written: str) -> None:
    said = []
    monkeypatch.setattr(overview, "write_head", lambda canvas, summary: said.append(summary))
    label_map = np.zeros((8, 8, 8), np.uint8)
    label_map[4, 4, 4] = 1
    segmentation = make_segmentation(label_map, np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0]))
    volume = label_map.astype(np.int16)
    write_overview(segmentation, volume, tmp_path / "a.png", findings=measure_lesions(segmentation, volume))
    write_overview(segmentation, volume, tmp_path / "b.png")
    assert all(written in text for text in said)
    assert len(said) == 2
