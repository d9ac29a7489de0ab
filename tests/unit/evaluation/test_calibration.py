"""A known temperature is found again; the operating point follows its rule."""

import json
import shutil

import numpy as np
import pytest

from lightunet_monai.cli.calibrate import write_numbers
from lightunet_monai.errors import BundleError
from lightunet_monai.evaluation.calibration import Calibration, OperatingPoint, choose_point, to_logit
from lightunet_monai.evaluation.lesions import CaseScore, LesionScore
from lightunet_monai.evaluation.summary import summarize
from tests.builders.bundle import SHIPPED


def _voxels(temperature, count=200_000):
    random = np.random.default_rng(0)
    logit = random.normal(-1.0, 2.0, count)
    reference = random.random(count) < 1 / (1 + np.exp(-logit))
    said = 1 / (1 + np.exp(-logit * temperature))  # too sure of itself by this factor
    shape = (count // 100, 10, 10)
    return said.astype(np.float32).reshape(shape), reference.reshape(shape)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_was_put_in_is_found(temperature):
    calibration = Calibration()
    for _ in range(2):
        calibration.add(*_voxels(temperature))
    found = calibration.fit_temperature()
    assert found == pytest.approx(temperature, rel=0.03)
    assert calibration.calibration_error(found) < 0.01
    if temperature != 1.0:
        assert calibration.calibration_error(1.0) > 0.04
        assert calibration.negative_log_likelihood(found) < calibration.negative_log_likelihood(1.0)


def test_without_lesions_the_temperature_stays():
    calibration = Calibration()
    calibration.add(np.full((2, 2, 2), 0.3, dtype=np.float32), np.zeros((2, 2, 2), dtype=bool))
    assert calibration.fit_temperature() == 1.0


def test_a_temperature_without_a_minimum_inside_the_range_is_told():
    rejected = Calibration()
    rejected.add(np.array([0.001, 0.999]).reshape(2, 1, 1), np.array([True, False]).reshape(2, 1, 1))
    perfect = Calibration()
    perfect.add(np.array([0.4, 0.6]).reshape(2, 1, 1), np.array([False, True]).reshape(2, 1, 1))
    assert rejected.is_at_bound(rejected.fit_temperature())
    assert perfect.is_at_bound(perfect.fit_temperature())
    assert not any(Calibration.is_at_bound(factor) for factor in (0.06, 1.0, 19.0))


def test_the_calibration_curve_counts_what_was_said_and_what_is_true():
    calibration = Calibration()
    probability = np.array([0.25] * 4 + [0.75] * 4, dtype=np.float32).reshape(8, 1, 1)
    reference = np.array([1, 0, 0, 0, 1, 1, 1, 1], dtype=bool).reshape(8, 1, 1)
    calibration.add(probability, reference)
    curve = calibration.reliability()
    assert [(group.low, group.voxels) for group in curve if group.voxels] == [(0.2, 4), (0.7, 4)]
    assert (curve[2].said, curve[2].observed) == pytest.approx((0.25, 0.25), abs=0.005)
    assert (curve[7].said, curve[7].observed) == pytest.approx((0.75, 1.0), abs=0.005)
    assert np.isnan(curve[0].said)
    assert calibration.calibration_error(1.0) == pytest.approx(0.125, abs=0.005)


def test_logits_are_finite_at_both_ends():
    assert to_logit(np.array([0.0, 0.5, 1.0])) == pytest.approx([-20.0, 0.0, 20.0])


def test_the_best_dice_within_the_false_positives_is_chosen():
    points = [
        OperatingPoint(0.2, 0.2, 0.95, 0.80, 3.0),
        OperatingPoint(0.5, 0.6, 0.90, 0.78, 0.5),
        OperatingPoint(0.8, 0.8, 0.80, 0.70, 0.1),
    ]
    assert choose_point(points, 0.5).threshold == 0.5
    assert choose_point(points, 10.0).threshold == 0.2
    assert choose_point(points, 0.05).threshold == 0.8  # none keeps it: the fewest


def test_of_points_that_are_alike_the_one_with_the_fewest_false_positives_is_chosen():
    points = [
        OperatingPoint(0.08, 0.225, 0.889, 0.7884, 0.19),
        OperatingPoint(0.08, 0.449, 0.889, 0.7880, 0.08),
        OperatingPoint(0.08, 0.500, 0.861, 0.7660, 0.04),
    ]
    assert choose_point(points, 0.2).sure_threshold == 0.449
    assert choose_point(points[:1] + points[2:], 0.2).sure_threshold == 0.225


def test_a_point_that_finds_nothing_is_not_chosen_for_its_few_false_positives():
    points = [OperatingPoint(0.2, 0.2, 0.9, 0.7, 4.0), OperatingPoint(0.5, 0.5, 0.8, 0.6, 1.0)]
    nothing = OperatingPoint(0.999, 0.999, 0.0, 0.0, 0.0)
    assert choose_point([*points, nothing], 0.5).threshold == 0.5
    assert choose_point([nothing], 0.5) == nothing


def test_a_point_takes_lesions_from_five_millimetres():
    lesions = (LesionScore(4.0, 0.03, 0.0, 0.0), LesionScore(10.0, 0.5, 0.8, 0.5), LesionScore(20.0, 4.2, 0.0, 0.0))
    point = OperatingPoint.from_summary(
        0.3, 0.7, summarize([CaseScore("a", lesions, 3, 0.5), CaseScore("b", (), 0, 0.5)])
    )
    assert point == OperatingPoint(0.3, 0.7, 0.5, 0.4, 1.5)


def test_only_the_two_numbers_of_the_configuration_change(tmp_path):
    config = tmp_path / "inference.json"
    shutil.copyfile(SHIPPED / "configs" / "inference.json", config)
    before = config.read_text()
    write_numbers(config, threshold=0.325, temperature=1.75)
    after = config.read_text()
    assert json.loads(after) == {**json.loads(before), "threshold": 0.325, "temperature": 1.75}
    changed = [line for line, old in zip(after.splitlines(), before.splitlines(), strict=True) if line != old]
    assert len(changed) == 2
    with pytest.raises(BundleError, match="found 0 times"):
        write_numbers(config, no_such_number=1.0)
    assert config.read_text() == after
