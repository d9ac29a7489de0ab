from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightunet_monai.errors import OutputError
from lightunet_monai.outputs import measure_lesions
from lightunet_monai.outputs.marking import RESEARCH_STATEMENT
from lightunet_monai.review import overview, write_overview
from tests.builders.segmentation import KINDS, make_case, make_segmentation


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
