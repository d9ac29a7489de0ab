"""``lightunet calibrate``: what its table promises is what ``evaluate`` finds with the numbers it wrote."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from lightunet_monai.cli import main
from lightunet_monai.cli.calibrate import _ModelGrid, write_numbers
from lightunet_monai.inference import Predictor
from lightunet_monai.options import RunOptions
from tests.builders.bundle import tiny_bundle
from tests.builders.volume import make_affine, make_nifti, make_voxels


@pytest.fixture(scope="module")
def a_calibrated_bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    bundle = tiny_bundle(folder / "bundle")
    predictor = Predictor(bundle, threshold=0.8, sure_threshold=0.9)
    pairs = []
    affine = make_affine((1.9, 2.0, 2.1))
    for index in range(2):
        voxels = make_voxels((34, 30, 26), seed=index)
        image = make_nifti(folder / f"image_{index}.nii.gz", voxels, affine)
        # Something that these weights can find: the larger pieces of what they give high probabilities.
        answer = predictor.segment(image).segmentation.label_map
        label = make_nifti(folder / f"label_{index}.nii.gz", answer.astype(np.uint8), affine)
        pairs.append({"image": image.name, "label": label.name})
    datalist = folder / "datalist.json"
    datalist.write_text(json.dumps({"validation": pairs}))
    return bundle, datalist


def test_the_numbers_written_give_what_the_table_says(a_calibrated_bundle, capsys):
    bundle, datalist = a_calibrated_bundle
    words = ["--data", str(datalist), "--bundle", str(bundle), "--engine", "torch", "--progress", "none"]
    assert main(["calibrate", *words, "--false-positives", "50", "--write"]) == 0
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if " * |" in line)
    threshold, sure, sensitivity, dice, false_positives = (float(v) for v in re.findall(r"\d+\.\d+", row))
    settings = json.loads((bundle / "configs" / "inference.json").read_text())
    assert (settings["threshold"], settings["piece_threshold"]) == (threshold, threshold)
    assert settings["sure_threshold"] == sure
    assert dice > 0.8
    assert main(["evaluate", *words, "--section", "validation"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = next(line for line in lines if line.startswith("| 5 mm and more"))
    cells = [cell.strip() for cell in found.split("|")]
    assert float(cells[3]) == pytest.approx(sensitivity, abs=0.01)
    assert float(cells[4]) == pytest.approx(dice, abs=0.02)
    assert any(f" {false_positives:.2f} false positives per volume" in line for line in lines)


def test_each_row_of_the_table_is_beaten_by_no_other_in_both(a_calibrated_bundle, capsys):
    bundle, datalist = a_calibrated_bundle
    before = (bundle / "configs" / "inference.json").read_bytes()
    words = ["--data", str(datalist), "--bundle", str(bundle), "--engine", "torch", "--progress", "none"]
    assert main(["calibrate", *words]) == 0
    rows = [
        [float(v) for v in re.findall(r"\d+\.\d+", line)]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(("| 0.", "| 1."))
    ]
    assert rows
    dice, false_positives = zip(*((row[3], row[4]) for row in rows), strict=True)
    assert list(false_positives) == sorted(false_positives)
    assert max(dice) == dice[-1]
    assert (bundle / "configs" / "inference.json").read_bytes() == before


def test_cases_without_a_lesion_choose_no_threshold(a_calibrated_bundle, tmp_path, capsys):
    bundle, datalist = a_calibrated_bundle
    before = (bundle / "configs" / "inference.json").read_text()
    voxels, affine = make_voxels((34, 30, 26)), make_affine((1.9, 2.0, 2.1))
    image = make_nifti(tmp_path / "image.nii.gz", voxels, affine)
    label = make_nifti(tmp_path / "label.nii.gz", np.zeros(voxels.shape, np.uint8), affine)
    (tmp_path / "empty.json").write_text(json.dumps({"validation": [{"image": image.name, "label": label.name}]}))
    words = ["--bundle", str(bundle), "--engine", "torch", "--progress", "none", "--write"]
    assert main(["calibrate", "--data", str(tmp_path / "empty.json"), *words]) == 2
    assert "found no lesion of 5 mm or more" in capsys.readouterr().err
    assert main(["calibrate", "--data", str(datalist), *words, "--threshold", "0.5"]) == 2
    assert (bundle / "configs" / "inference.json").read_text() == before


def test_numbers_written_are_never_0_or_1(a_calibrated_bundle, tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    write_numbers(bundle / "configs" / "inference.json", temperature=0.5)
    datalist = a_calibrated_bundle[1]
    words = ["--data", str(datalist), "--bundle", str(bundle), "--engine", "torch", "--progress", "none", "--write"]
    assert main(["calibrate", *words, "--false-positives", "0"]) == 0
    settings = json.loads((bundle / "configs" / "inference.json").read_text())
    assert 0 < settings["threshold"] <= settings["sure_threshold"] < 1
    assert Predictor(bundle).segment(datalist.parent / "image_0.nii.gz").segmentation.label_map.shape == (34, 30, 26)


@pytest.mark.parametrize("number", ["8.3E-2", "8.3e-2", "0.83e-1", "83E-03", "1", "0.0083e+1"])
def test_a_number_is_replaced_whole_however_it_is_written(tmp_path, number):
    config = tmp_path / "inference.json"
    config.write_text(f'{{"threshold": {number}, "temperature": 1.5}}')
    write_numbers(config, threshold=0.25)
    assert config.read_text() == '{"threshold": 0.25, "temperature": 1.5}'


def test_a_model_that_finds_nothing_chooses_no_threshold(tmp_path, capsys):
    bundle = tiny_bundle(tmp_path / "bundle")
    before = (bundle / "configs" / "inference.json").read_text()
    voxels, affine = make_voxels((34, 30, 26)), make_affine((1.9, 2.0, 2.1))
    label = np.zeros(voxels.shape, np.uint8)
    label[:4, :4, :4] = 1  # in the air, which nothing segments
    voxels[:20] = -1000
    image = make_nifti(tmp_path / "image.nii.gz", voxels, affine)
    label = make_nifti(tmp_path / "label.nii.gz", label, affine)
    (tmp_path / "list.json").write_text(json.dumps({"validation": [{"image": image.name, "label": label.name}]}))
    words = ["--bundle", str(bundle), "--engine", "torch", "--progress", "none", "--write"]
    assert main(["calibrate", "--data", str(tmp_path / "list.json"), *words]) == 2
    assert "the model found none of the lesions" in capsys.readouterr().err
    assert main(["calibrate", "--data", str(tmp_path / "list.json"), *words, "--false-positives", "nan"]) == 2
    assert (bundle / "configs" / "inference.json").read_text() == before
    pieces = ["--pieces", "--false-positives", "0.2"]
    assert main(["calibrate", "--data", str(tmp_path / "list.json"), *words, *pieces]) == 2
    assert "--pieces chooses no threshold" in capsys.readouterr().err


def _map_of_tissues(folder: Path) -> Path:
    """A datalist whose label map holds 1 for a tumour and 2 for another tissue."""
    voxels, affine = make_voxels((34, 30, 26)), make_affine((1.9, 2.0, 2.1))
    values = np.zeros(voxels.shape, np.uint8)
    values[6:12, 6:12, 6:12], values[15:25, 15:25, 2:20] = 1, 2
    image = make_nifti(folder / "image.nii.gz", voxels, affine)
    label = make_nifti(folder / "tissues.nii.gz", values, affine)
    (folder / "list.json").write_text(json.dumps({"validation": [{"image": image.name, "label": label.name}]}))
    return folder / "list.json"


@pytest.mark.parametrize("command", [["calibrate", "--write"], ["calibrate", "--pieces"], ["evaluate"]])
def test_tissues_are_no_lesions_of_a_model_without_tissues(tmp_path, capsys, command):
    bundle = tiny_bundle(tmp_path / "bundle")
    before = (bundle / "configs" / "inference.json").read_text()
    words = ["--bundle", str(bundle), "--section", "validation", "--engine", "torch", "--progress", "none"]
    assert main([*command, "--data", str(_map_of_tissues(tmp_path)), *words]) == 1
    message = capsys.readouterr().err
    assert f"{tmp_path / 'tissues.nii.gz'}: holds the values 0, 1, 2, expected 0 and one other value" in message
    assert "--model tissues" in message
    assert (bundle / "configs" / "inference.json").read_text() == before


def test_a_model_with_tissues_takes_maps_of_tissues(tmp_path):
    words = ["--bundle", str(tiny_bundle(tmp_path / "bundle")), "--section", "validation", "--model", "tissues"]
    assert main(["evaluate", "--data", str(_map_of_tissues(tmp_path)), *words, "--progress", "none"]) == 0


def test_a_temperature_at_the_end_of_its_search_is_refused(a_calibrated_bundle, tmp_path, capsys):
    bundle, datalist = a_calibrated_bundle
    before = (bundle / "configs" / "inference.json").read_text()
    image = datalist.parent / "image_0.nii.gz"
    predictor = Predictor(bundle, RunOptions(engine="torch"), sure_threshold=0.0)
    said = predictor.segment(image, with_probability=True).segmentation
    # What is half and more sure is a lesion, and nothing else: the surer the better, without end.
    make_nifti(tmp_path / "label.nii.gz", (said.probability >= 0.5).astype(np.uint8), said.affine)
    entry = {"image": str(image), "label": "label.nii.gz"}
    (tmp_path / "list.json").write_text(json.dumps({"validation": [entry]}))
    words = ["--bundle", str(bundle), "--engine", "torch", "--progress", "none", "--write"]
    assert main(["calibrate", "--data", str(tmp_path / "list.json"), *words]) == 2
    assert "the best factor of the temperature is 0.05" in capsys.readouterr().err
    assert (bundle / "configs" / "inference.json").read_text() == before


def test_how_sure_a_piece_is_counts_where_it_is_decided_on_the_grid_of_the_model():
    grid = _ModelGrid()
    margin = np.full((24, 24, 24), -5.0, dtype=np.float32)
    margin[2:9, 2:9, 2:9], margin[5, 5, 5] = 1.0, 4.0  # the peak lies between voxels of 2 mm
    margin[14:20, 14:20, 14:20] = 0.5
    margin[11, 3, 3] = 2.0  # of one voxel, between those of the volume
    grid.margin, grid.affine = margin, np.eye(4)
    pieces = np.zeros((12, 12, 12), dtype=np.uint32)
    pieces[1:5, 1:5, 1:5] = 1
    pieces[7:10, 7:10, 7:10] = 2
    pieces[5, 1, 1] = 3
    highest = grid.highest(pieces, np.diag([2.0, 2.0, 2.0, 1.0]), 0.0)
    assert highest.tolist() == [-np.inf, 4.0, 0.5, 2.0]
