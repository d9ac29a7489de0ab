"""Lesion and voxel figures against hand-made answers."""

import json
import math

import numpy as np
import pytest

from lightunet_monai.evaluation import score_case, summarize
from lightunet_monai.evaluation.lesions import equivalent_diameter


def _mask(*boxes):
    mask = np.zeros((40, 40, 40), dtype=bool)
    for box in boxes:
        mask[tuple(slice(a, b) for a, b in box)] = True
    return mask


CUBE_A = ((2, 12), (2, 12), (2, 12))
CUBE_B = ((20, 30), (20, 30), (20, 30))
HALF_OF_A = ((2, 12), (2, 12), (2, 7))
ELSEWHERE = ((34, 38), (34, 38), (34, 38))


def test_a_half_found_a_missed_and_a_false_lesion_are_counted():
    score = score_case("case", _mask(HALF_OF_A, ELSEWHERE), _mask(CUBE_A, CUBE_B), 0.001)
    assert [lesion.dice for lesion in score.lesions] == pytest.approx([2 * 500 / 1500, 0.0])
    assert [lesion.is_detected for lesion in score.lesions] == [True, False]
    assert score.false_positives == 1
    assert score.lesions[0].predicted_ml == pytest.approx(0.5)
    assert score.dice == pytest.approx(2 * 500 / (564 + 2000))


def test_one_prediction_over_two_lesions_is_no_false_positive():
    bridge = _mask(CUBE_A, CUBE_B, ((11, 21), (11, 21), (11, 21)))
    score = score_case("case", bridge, _mask(CUBE_A, CUBE_B), 0.001)
    assert score.false_positives == 0
    assert all(lesion.dice == pytest.approx(2 * 1000 / (1000 + 2998)) for lesion in score.lesions)


def test_a_prediction_that_finds_nothing_is_a_false_positive_even_where_it_touches_a_lesion():
    flood = score_case("flood", np.ones((40, 40, 40), dtype=bool), _mask(CUBE_A), 0.001)
    assert [lesion.is_detected for lesion in flood.lesions] == [False]
    assert flood.false_positives == 1
    grazing = score_case("grazing", _mask(((11, 21), (11, 21), (11, 21))), _mask(CUBE_A), 0.001)
    assert grazing.lesions[0].predicted_ml > 0
    assert grazing.false_positives == 1


def test_a_clean_case_has_no_dice_and_counts_its_false_positives():
    empty = score_case("clean", _mask(), _mask(), 0.001)
    assert math.isnan(empty.dice)
    assert (empty.lesions, empty.false_positives) == ((), 0)
    assert score_case("clean", _mask(ELSEWHERE), _mask(), 0.001).false_positives == 1


def test_the_diameter_is_that_of_the_sphere_of_equal_volume():
    assert equivalent_diameter(4 / 3 * math.pi * 5**3 / 1000) == pytest.approx(10)


def test_the_summary_groups_by_diameter_and_a_missed_lesion_counts_zero():
    perfect = score_case("a", _mask(CUBE_A), _mask(CUBE_A), 0.001)
    missed = score_case("b", _mask(ELSEWHERE), _mask(CUBE_B), 0.001)
    summary = summarize([perfect, missed, score_case("c", _mask(), _mask(), 0.001)])
    everything = summary.groups[-1]
    assert (everything.count, everything.sensitivity, everything.dice_mean) == (2, 0.5, 0.5)
    assert summary.false_positives_per_case == pytest.approx(1 / 3)
    assert summary.clean_cases == 1
    by_range = {(g.low, g.high): g.count for g in summary.groups[:5]}
    assert by_range[(12.0, 20.0)] == 2  # a cube of 1 ml: 12.4 mm
    assert "12-20 mm" in summary.to_text()
    assert "| 0-5 mm | 0 | - | - | - | - |" in summary.to_text()
    assert json.dumps(summary.to_json(), allow_nan=False)


def test_one_volume_is_counted_in_the_singular():
    score = score_case("a", _mask(CUBE_A), _mask(CUBE_A), 0.001)
    assert summarize([score]).to_text().splitlines()[-1].startswith("1 volume, ")
    assert summarize([score, score]).to_text().splitlines()[-1].startswith("2 volumes, ")
