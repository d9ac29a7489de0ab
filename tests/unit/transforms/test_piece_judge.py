"""Pieces judged as wholes: what is measured, what is done with it, how it is fitted."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from lightunet_monai.errors import BundleError
from lightunet_monai.transforms import CapDoubtfulPiecesd, PieceJudge
from lightunet_monai.transforms.piece_judge import FEATURES, PieceMeasure, fit_judge, piece_features
from tests.builders.bundle import judge_content, mild_judge

SHAPE = (40, 36, 32)


def _ball(centre, radius, shape=SHAPE):
    grid = np.indices(shape)
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


@pytest.fixture
def scene():
    """Two pieces in adipose tissue: a round one, pale, and a flat one at the border of the volume, beside air."""
    rank = np.full(SHAPE, 0.1, dtype=np.float32)
    hu = np.full(SHAPE, 0.6, dtype=np.float32)
    rank[:, :, 26:] = hu[:, :, 26:] = 0.0
    margin = np.full(SHAPE, -9.0, dtype=np.float32)
    round_, flat = _ball((12, 18, 14), 4), np.zeros(SHAPE, dtype=bool)
    flat[36:, 8:28, 22:25] = True
    for mask, highest, value, brightness in ((round_, 2.0, 0.5, 1.1), (flat, 6.0, 0.9, 2.5)):
        margin[mask], rank[mask], hu[mask] = highest, value, brightness
    margin[12, 18, 14] = 3.0
    return margin, np.stack([rank, hu]), round_, flat


def _judge(folder, measure=None, **numbers):
    path = folder / "pieces.json"
    path.write_text(json.dumps(judge_content(measure=measure, **numbers)))
    return PieceJudge(path)


def test_each_feature_says_what_its_name_says(scene):
    margin, image, round_, flat = scene
    pieces = (round_ * 1 + flat * 2).astype(np.int32)
    features = piece_features(margin, image, pieces)
    assert features.shape == (2, len(FEATURES))
    first, second = (dict(zip(FEATURES, row, strict=True)) for row in features)
    assert first["highest_margin"] == pytest.approx((3.0 + 7 * 2.0) / 8)
    assert first["mean_margin"] == pytest.approx(margin[round_].mean())
    assert first["shell_deviation"] == pytest.approx(0.0, abs=1e-6)
    assert (first["air_share"], first["border_share"]) == (0.0, 0.0)
    assert first["roundness"] == pytest.approx(1.0, abs=0.02)
    assert first["rank_contrast"] == pytest.approx(0.4, abs=1e-6)
    assert first["above_bright"] == pytest.approx(1.1 - 0.6, abs=1e-6)
    assert first["above_brightest"] == pytest.approx(1.1 - np.percentile(image[1][image[0] > 0], 97), abs=1e-6)
    assert second["mean_margin"] == pytest.approx(6.0)
    assert second["roundness"] < 0.1
    assert 0.2 < second["air_share"] < 0.6
    assert second["border_share"] == pytest.approx(0.25)


def test_features_do_not_depend_on_where_the_piece_lies_or_how_the_axes_run(scene):
    margin, image, round_, _ = scene
    plain = piece_features(margin, image, round_.astype(np.int32))
    turned = piece_features(
        margin.transpose(2, 0, 1)[::-1], image.transpose(0, 3, 1, 2)[:, ::-1], round_.transpose(2, 0, 1)[::-1] * 1
    )
    np.testing.assert_allclose(turned, plain, rtol=1e-5, atol=1e-6)


def test_no_piece_has_no_features_and_changes_nothing(scene, tmp_path):
    margin, image, *_ = scene
    assert piece_features(margin, image, np.zeros(SHAPE, dtype=np.int32)).shape == (0, len(FEATURES))
    low = np.full_like(margin, -9.0)
    np.testing.assert_array_equal(_judge(tmp_path, bias=5.0)(low, image), low)


def test_the_highest_logit_of_a_piece_becomes_its_own_and_the_contour_stays(scene, tmp_path):
    margin, image, round_, flat = scene
    rim = _ball((12, 18, 14), 5) & ~round_
    margin[rim] = -2.5
    judged = _judge(tmp_path, roundness=6.0, bias=-1.0)(margin, image)
    assert judged[round_ | rim].max() == pytest.approx(6 * piece_features(margin, image, (round_ | rim) * 1)[0][5] - 1)
    np.testing.assert_array_equal(judged[rim], margin[rim])
    assert judged[flat].max() == pytest.approx(6 * piece_features(margin, image, flat * 1)[0][5] - 1, abs=1e-5)
    outside = ~(round_ | rim | flat)
    np.testing.assert_array_equal(judged[outside], margin[outside])
    assert ((judged >= -3) == (margin >= -3)).all()


def test_a_piece_that_is_judged_to_be_none_falls_below_the_threshold(scene, tmp_path):
    margin, image, round_, flat = scene
    judged = _judge(tmp_path, border_share=-40.0, bias=2.0)(margin, image)
    assert (judged[flat] < -3.0).all()
    assert judged[round_].max() == pytest.approx(2.0)


def test_a_feature_beyond_all_training_counts_three_deviations(scene, tmp_path):
    margin, image, round_, _ = scene
    assert _judge(tmp_path, mean_margin=1.0)(margin + 50.0 * round_, image)[round_].max() == pytest.approx(3.0)


def test_a_piece_is_measured_as_the_file_says(scene, tmp_path):
    margin, image, round_, _ = scene
    three = replace(PieceMeasure(), top_voxels=1, limit=1.5)
    judged = _judge(tmp_path, asdict(three), highest_margin=0.4)(margin, image)
    assert judged[round_].max() == pytest.approx(0.4 * 1.5)
    one = piece_features(margin, image, round_.astype(np.int32), three)
    assert one[0, FEATURES.index("highest_margin")] == pytest.approx(3.0)


def test_a_fit_finds_what_tells_tumours_apart():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(400, len(FEATURES))) * 5 + 2
    is_tumour = features[:, 1] - features[:, 6] + generator.normal(size=400) > 0
    content = fit_judge(features, is_tumour, -3.0)
    weights = {name: row["weight"] for name, row in content["features"].items()}
    assert weights["mean_margin"] > 1.5
    assert weights["rank_contrast"] < -1.5
    assert max(abs(w) for name, w in weights.items() if name not in ("mean_margin", "rank_contrast")) < 0.5
    assert content["logit"] == -3.0
    assert content == fit_judge(features, is_tumour, -3.0)
    narrow = fit_judge(features, is_tumour, -3.0, measure=replace(PieceMeasure(), limit=0.5))
    assert (content["measure"]["limit"], narrow["measure"]["limit"]) == (3.0, 0.5)
    assert narrow["features"]["mean_margin"]["weight"] > weights["mean_margin"]  # a shorter range, a steeper slope


def test_a_feature_that_is_the_same_for_all_pieces_decides_nothing(tmp_path):
    """Where no breast reaches the border of its volume; a scale of 0 would have made every logit NaN: no lesion."""
    random = np.random.default_rng(0)
    features = random.normal(size=(60, len(FEATURES)))
    is_tumour = features[:, 0] > 0
    constant = FEATURES.index("border_share")
    features[:, constant] = 0.0
    path = tmp_path / "pieces.json"
    path.write_text(json.dumps(fit_judge(features, is_tumour, -3.0)))
    judge = PieceJudge(path)
    features[:, constant] = 0.3  # elsewhere they do
    logits = judge.logits(features)
    assert np.isfinite(logits).all()
    assert ((logits > 0) == is_tumour).mean() > 0.9


@pytest.mark.parametrize(("key", "value"), [("scale", 0.0), ("scale", float("nan")), ("weight", float("inf"))])
def test_a_file_whose_logits_would_be_no_numbers_is_refused(tmp_path, key, value):
    content = judge_content()
    content["features"][FEATURES[0]][key] = value
    path = tmp_path / "pieces.json"
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"pieces\.json: cannot be used to judge pieces"):
        PieceJudge(path)


@pytest.mark.parametrize("text", ["", "[]", '{"logit": 0, "bias": 0, "features": {}}'])
def test_a_file_that_is_none_is_named(tmp_path, text):
    (tmp_path / "pieces.json").write_text(text)
    with pytest.raises(BundleError, match=r"pieces\.json: cannot be used"):
        PieceJudge(tmp_path / "pieces.json")
    with pytest.raises(BundleError, match=r"missing\.json"):
        PieceJudge(tmp_path / "missing.json")
    (tmp_path / "binary.json").write_bytes(bytes(range(256)) * 500)
    with pytest.raises(BundleError, match=r"binary\.json: cannot be used") as caught:
        PieceJudge(tmp_path / "binary.json")
    assert len(str(caught.value)) < 600


def test_the_threshold_of_a_sure_piece_is_that_of_the_judge(scene, tmp_path):
    margin, image, round_, flat = scene
    logits = torch.from_numpy(np.stack([np.zeros_like(margin), margin]))
    cap = CapDoubtfulPiecesd(
        "pred", threshold=0.1, sure_threshold=0.9, judge=_judge(tmp_path, roundness=8.0, bias=-4.0)
    )
    out = cap({"pred": logits, "image": torch.from_numpy(image)})["pred"]
    found = (out[1] - out[0]).sigmoid().numpy() >= 0.1
    assert found[round_].all()  # less sure for the network, but round
    assert not found[flat].any()
    assert json.loads(json.dumps(mild_judge()))["features"].keys() == set(FEATURES)
