"""The judgement of pieces, as the bundle ships and fits it."""

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from lightunet_monai.cli import main
from lightunet_monai.errors import BundleError
from lightunet_monai.inference.bundle import open_bundle
from lightunet_monai.inference.bundle_files import model_files, pieces_path
from lightunet_monai.inference.predictor import Predictor
from lightunet_monai.inputs import choose_series, discover_sources, load_volume
from lightunet_monai.transforms import PieceOutline
from lightunet_monai.transforms.piece_judge import FEATURES
from tests.builders.bundle import SHIPPED, mild_judge, spread_tissues, tiny_bundle
from tests.builders.volume import make_affine, make_nifti, make_voxels

CONFIGS = SHIPPED / "configs"


@pytest.mark.parametrize("model", ["breast-ct", "tissues"])
def test_the_shipped_one_belongs_to_the_shipped_weights_and_to_the_thresholds(model):
    content = json.loads(pieces_path(SHIPPED, model).read_text())
    parts = open_bundle(model=model)
    assert content["weights_sha256"] == parts.weights_sha256
    assert list(content["features"]) == list(FEATURES)
    assert all(row["scale"] > 0 for row in content["features"].values())
    drawn, sure = (
        parts.settings["temperature"] * np.log(p / (1 - p))
        for p in (parts.settings["threshold"], parts.settings["sure_threshold"])
    )
    # Judged as drawn at the logit of the fit; what is drawn of a piece that is kept may be less, not more.
    assert content["logit"] - 0.02 <= drawn < sure


def test_the_shipped_one_draws_pieces_at_the_edge_in_the_image():
    config = json.loads((CONFIGS / "inference.json").read_text())["piece_judge"]["outline"]
    outline = PieceOutline(**{name: value for name, value in config.items() if name != "_target_"})
    parts = open_bundle()
    for steps in (parts.postprocessing, parts.probability):
        assert [step.judge.outline for step in steps.transforms if hasattr(step, "judge")] == [outline]
    assert outline.lowest < json.loads((CONFIGS / "pieces.json").read_text())["logit"] < outline.highest


def test_the_preprocessing_hands_hounsfield_units_to_it():
    voxels = torch.full((1, 16, 16, 16), -150.0)
    voxels[:, :4], voxels[:, 12:14], voxels[:, 14:] = -1000.0, 50.0, 3000.0
    volume = MetaTensor(voxels, affine=torch.diag(torch.tensor([1.25, 1.25, 1.25, 1.0], dtype=torch.float64)))
    image = open_bundle().preprocessing({"image": volume})["image"]
    assert image.shape == (2, 16, 16, 16)
    assert image[0].amax() <= 1
    expected = [0.0] * 4 + [0.625] * 8 + [1.125] * 2 + [4.0] * 2
    assert image[1, :, 0, 0].tolist() == pytest.approx(expected, abs=0.02)  # 8 HU: shading may be found in it


def test_the_model_of_pictures_has_none(tmp_path):
    parts = open_bundle(tiny_bundle(tmp_path / "bundle"), model="ultrasound")
    for steps in (parts.postprocessing, parts.probability):
        assert {step.judge for step in steps.transforms if hasattr(step, "judge")} <= {None}


@pytest.mark.parametrize("model", ["breast-ct", "tissues"])
def test_pieces_that_are_drawn_and_not_kept_are_told_and_a_lower_threshold_takes_them_in(tmp_path, model, capsys):
    root = tiny_bundle(tmp_path / "bundle")
    image = make_nifti(tmp_path / "image.nii.gz")
    spread_tissues(root, load_volume(choose_series(discover_sources(image))))
    file = root / "configs" / ("inference.json" if model == "breast-ct" else "tissues.json")
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "sure_threshold": 0.99}))
    kept = Predictor(root, model=model).segment(image).segmentation
    assert kept.doubtful
    assert list(kept.doubtful) == sorted(kept.doubtful, key=lambda piece: -piece.probability)
    smallest = np.pi / 6 * config.get("minimum_diameter", 3.0) ** 3 / 1000
    to_voxel = np.linalg.inv(kept.affine)
    for piece in kept.doubtful:
        assert 0.5 <= piece.probability < 0.99
        assert piece.volume_ml >= smallest
        place = np.rint(to_voxel[:3, :3] @ piece.place_ras_mm + to_voxel[:3, 3]).astype(int)
        assert kept.label_map[tuple(place)] != 1
    lower = Predictor(root, model=model, threshold=0.49).segment(image).segmentation
    assert (lower.label_map == 1).sum() > (kept.label_map == 1).sum()
    assert lower.doubtful == ()
    words = ["segment", str(image), "-o", str(tmp_path / "out"), "--bundle", str(root), "--model", model]
    assert main(words) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("doubtful")]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert f"{len(report['doubtful'])} place" in line
    assert f"probability of {report['doubtful'][0]['probability']:.2f}; --threshold below 0.5 draws them" in line


@pytest.mark.parametrize("model", ["breast-ct", "tissues"])
def test_it_decides_on_the_result_and_a_missing_file_is_named(tmp_path, model):
    root = tiny_bundle(tmp_path / "bundle")
    file = pieces_path(root, model)
    assert file in model_files(root, model)
    image = make_nifti(tmp_path / "image.nii.gz")
    spread_tissues(root, load_volume(choose_series(discover_sources(image))))
    before = Predictor(root, model=model).segment(image).segmentation.label_map
    assert (before == 1).any()
    file.write_text(json.dumps({**mild_judge(), "bias": -50.0}))  # nothing is a tumour
    result = Predictor(root, model=model).segment(image, with_probability=True).segmentation
    assert not (result.label_map == 1).any()
    assert result.probability.max() < 0.5
    tissue = before > 1  # stays the same tissue but for voxels between it and what was a tumour
    assert not tissue.any() or (result.label_map[tissue] == before[tissue]).mean() > 0.99
    file.unlink()
    with pytest.raises(BundleError, match=file.stem):
        Predictor(root, model=model)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    bundle = tiny_bundle(folder / "bundle")
    affine, pairs = make_affine((1.9, 2.0, 2.1)), []
    for index in range(3):
        voxels = make_voxels((44, 40, 36), seed=index)
        lesion = np.zeros(voxels.shape, dtype=np.uint8)
        lesion[:22] = voxels[:22] > -400
        image = make_nifti(folder / f"image_{index}.nii.gz", voxels, affine)
        label = make_nifti(folder / f"label_{index}.nii.gz", lesion, affine)
        pairs.append({"image": image.name, "label": label.name})
    spread_tissues(bundle, load_volume(choose_series(discover_sources(image))))
    datalist = folder / "datalist.json"
    datalist.write_text(json.dumps({"validation": pairs}))
    return bundle, datalist


@pytest.mark.parametrize("model", ["breast-ct", "tissues"])
def test_the_command_fits_it_and_writes_it_when_asked(cases, capsys, monkeypatch, model):
    from lightunet_monai.cli import calibrate

    bundle, datalist = cases
    file = pieces_path(bundle, model)
    before = file.read_bytes()
    words = ["calibrate", "--pieces", "--data", str(datalist), "--bundle", str(bundle), "--engine", "torch"]
    words += ["--progress", "none", "--model", model]
    monkeypatch.setattr(calibrate, "FEWEST_PIECES", 1)
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in FEATURES)
    assert file.read_bytes() == before
    assert main([*words, "--write"]) == 0
    content = json.loads(file.read_text())
    assert content["weights_sha256"] == open_bundle(bundle, model=model).weights_sha256
    assert content["logit"] == 0.0  # threshold 0.5
    assert any(row["weight"] for row in content["features"].values())


def test_too_few_pieces_are_refused_with_their_number(cases, capsys):
    bundle, datalist = cases
    words = ["calibrate", "--pieces", "--data", str(datalist), "--bundle", str(bundle), "--engine", "torch"]
    assert main([*words, "--progress", "none"]) == 2
    assert "expected 20 of each" in capsys.readouterr().err


def test_the_model_of_pictures_has_no_pieces_to_judge(cases, capsys):
    bundle, datalist = cases
    words = ["calibrate", "--pieces", "--data", str(datalist), "--bundle", str(bundle), "--model", "ultrasound"]
    assert main([*words, "--progress", "none"]) == 2
    assert "ultrasound takes pictures, expected a model for volumes" in capsys.readouterr().err
