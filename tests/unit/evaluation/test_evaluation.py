"""All cases together: means, ratios of lesions, groups, intervals and tables."""

import csv
import io
import json
import math

import numpy as np
import pytest

from lightunet_monai.evaluation import Evaluation, evaluate_case
from lightunet_monai.evaluation.bootstrap import bootstrap_ratio
from lightunet_monai.evaluation.cases import TITLES, cases_csv, lesions_csv

CUBE = ((2, 12), (2, 12), (2, 12))
HALF = ((2, 12), (2, 12), (2, 7))
OTHER = ((20, 30), (20, 30), (20, 30))


def _mask(*boxes):
    mask = np.zeros((32, 32, 32), dtype=bool)
    for box in boxes:
        mask[tuple(slice(a, b) for a, b in box)] = True
    return mask


def _case(name, prediction, reference, density=None):
    return evaluate_case(name, prediction, reference, spacing=(1.0, 1.0, 1.0), voxel_volume_ml=0.001, density=density)


@pytest.fixture
def evaluation():
    return Evaluation(
        (
            _case("half", _mask(HALF), _mask(CUBE), 0.05),
            _case("false", _mask(OTHER), _mask(), 0.12),
            _case("missed", _mask(), _mask(CUBE, OTHER), 0.15),
            _case("clean", _mask(), _mask()),
        )
    )


def test_means_leave_out_cases_that_do_not_carry_the_figure(evaluation):
    figures = evaluation.figures()
    assert figures["dice"].value == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert figures["dice"].cases == 3
    assert figures["recall"].value == pytest.approx((0.5 + 0) / 2)
    assert figures["precision"].value == pytest.approx((1 + 0) / 2)
    assert figures["volume_error"].value == pytest.approx((0.5 + 1) / 2)
    assert (figures["hausdorff95_mm"].cases, figures["hausdorff95_mm"].value) == (1, pytest.approx(5.0))
    assert set(figures) == set(TITLES)


def test_lesion_figures_are_ratios_over_all_cases(evaluation):
    figures = evaluation.figures()
    assert figures["lesion_sensitivity"].value == pytest.approx(1 / 3)
    assert figures["false_positives_per_volume"].value == pytest.approx(1 / 4)
    assert figures["lesion_precision"].value == pytest.approx(1 / 2)
    assert figures["lesion_f1"].value == pytest.approx(2 * 1 / (2 * 1 + 1 + 2))
    assert evaluation.confusion_matrix()["lesions"] == {
        "true_positives": 1,
        "false_positives": 1,
        "false_negatives": 2,
    }
    voxels = evaluation.confusion_matrix()["voxels"]
    assert voxels == {
        "true_positives": 500,
        "false_positives": 1000,
        "false_negatives": 2500,
        "true_negatives": 4 * 32**3 - 4000,
    }


def test_groups_by_diameter_and_by_density(evaluation):
    by_diameter = {(row["low"], row["high"]): row for row in evaluation.by_diameter()}
    row = by_diameter[(12.0, 20.0)]  # cubes of 1 ml: 12.4 mm
    assert (row["count"], row["sensitivity"]) == (3, pytest.approx(1 / 3))
    assert row["sensitivity_low"] <= row["sensitivity"] <= row["sensitivity_high"]
    low, middle = evaluation.by_density()
    assert (low["cases"], low["lesions"], low["sensitivity"], low["false_positives_per_volume"]) == (1, 1, 1.0, 0.0)
    assert (middle["low"], middle["high"], middle["cases"]) == (0.1, 0.2, 2)
    assert (middle["sensitivity"], middle["false_positives_per_volume"]) == (0.0, 0.5)


def test_without_density_there_is_no_such_table():
    content = Evaluation((_case("a", _mask(CUBE), _mask(CUBE)),)).to_json()
    assert content["by_density"] is None
    assert content["cases_without_density"] == 1


def test_the_content_is_json_and_the_text_names_every_figure(evaluation):
    content = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert content["figures"]["dice"]["low"] <= content["figures"]["dice"]["value"]
    text = evaluation.to_text()
    assert all(f"| {title} |" in text for title in TITLES.values())
    nothing = Evaluation((_case("clean", _mask(), _mask()),))
    assert nothing.to_json()["figures"]["dice"] == {
        "title": "Dice",
        "unit": "",
        "value": None,
        "low": None,
        "high": None,
        "cases": 0,
    }
    assert "| Dice | - | - | 0 |" in nothing.to_text()


def test_tables_have_a_line_a_case_and_a_lesion_with_empty_cells_for_what_is_not_there(evaluation):
    cases = list(csv.DictReader(io.StringIO(cases_csv(evaluation.cases))))
    assert [row["case"] for row in cases] == ["half", "false", "missed", "clean"]
    assert float(cases[0]["dice"]) == pytest.approx(2 / 3, abs=1e-6)
    assert (cases[1]["recall"], cases[1]["volume_error"], cases[3]["dice"], cases[3]["density"]) == ("", "", "", "")
    assert cases[1]["lesion_false_positives"] == "1"
    lesions = list(csv.DictReader(io.StringIO(lesions_csv(evaluation.cases))))
    assert [(row["case"], row["lesion"], row["found"]) for row in lesions] == [
        ("half", "1", "1"),
        ("missed", "1", "0"),
        ("missed", "2", "0"),
    ]
    assert lesions_csv(evaluation.cases[3:]).startswith("case,lesion,")


def test_an_interval_holds_its_value_is_the_same_again_and_shrinks_with_more_cases():
    values = np.random.default_rng(1).uniform(0, 1, 30)
    interval = bootstrap_ratio(values, np.ones(30))
    assert interval == bootstrap_ratio(values, np.ones(30))
    assert interval.low < interval.value < interval.high
    assert interval.value == pytest.approx(values.mean())
    half_width = 1.96 * values.std() / math.sqrt(30)
    assert (interval.high - interval.low) / 2 == pytest.approx(half_width, rel=0.1)
    many = bootstrap_ratio(np.tile(values, 16), np.ones(480))
    assert many.high - many.low == pytest.approx((interval.high - interval.low) / 4, rel=0.1)
    assert bootstrap_ratio(values, np.ones(30), seed=3) != interval


def test_intervals_at_the_edge_are_points_or_nothing():
    same = bootstrap_ratio([2.0, 2.0, 0.0], [2, 2, 0])
    assert (same.low, same.value, same.high, same.cases) == (1.0, 1.0, 1.0, 2)
    assert math.isnan(bootstrap_ratio([0.0, 0.0], [0, 0]).value)
    assert math.isnan(bootstrap_ratio([], []).low)
