"""Voxel and surface figures against answers worked out by hand."""

import math

import numpy as np
import pytest

from lightunet_monai.evaluation.voxels import score_voxels

SHAPE = (12, 10, 8)


def _mask(*boxes):
    mask = np.zeros(SHAPE, dtype=bool)
    for box in boxes:
        mask[tuple(slice(a, b) for a, b in box)] = True
    return mask


CUBE = ((2, 6), (2, 6), (2, 6))  # 64 voxels
MOVED = ((4, 8), (2, 6), (2, 6))  # 64 voxels, 32 of them in CUBE


def test_counts_and_the_ratios_made_of_them():
    score = score_voxels(_mask(MOVED), _mask(CUBE), (1.0, 1.0, 1.0), 0.001)
    assert (score.true_positives, score.false_positives, score.false_negatives) == (32, 32, 32)
    assert score.true_negatives == 12 * 10 * 8 - 96
    assert score.dice == score.f1 == pytest.approx(0.5)
    assert score.iou == pytest.approx(1 / 3)
    assert score.precision == score.recall == pytest.approx(0.5)
    assert score.specificity == pytest.approx(864 / (864 + 32))
    assert score.volume_error == 0


def test_precision_recall_and_volume_error_tell_too_much_from_too_little():
    half = _mask(((2, 4), (2, 6), (2, 6)))
    less = score_voxels(half, _mask(CUBE), (1.0, 1.0, 1.0), 0.002)
    assert (less.precision, less.recall, less.volume_error) == (1.0, 0.5, 0.5)
    assert (less.predicted_ml, less.reference_ml) == pytest.approx((0.064, 0.128))
    more = score_voxels(_mask(CUBE), half, (1.0, 1.0, 1.0), 0.002)
    assert (more.precision, more.recall, more.volume_error) == (0.5, 1.0, 1.0)


@pytest.mark.parametrize(("axis", "expected"), [(0, 0.5 * 3), (1, 2.0 * 3), (2, 1.25 * 3)])
def test_the_hausdorff_distance_is_in_millimetres_along_each_axis(axis, expected):
    one, other = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    one[4, 4, 4] = True
    place = [4, 4, 4]
    place[axis] -= 3
    other[tuple(place)] = True
    assert score_voxels(one, other, (0.5, 2.0, 1.25), 0.001).hausdorff95_mm == pytest.approx(expected)


def test_the_95th_percentile_is_taken_of_each_direction_and_then_the_larger():
    row = np.zeros((40, 1, 1), dtype=bool)
    row[:21] = True  # all 21 voxels are surface; the last 20 lie 1, 2, ... 20 mm from the other mask
    point = np.zeros_like(row)
    point[0] = True
    score = score_voxels(row, point, (1.0, 1.0, 1.0), 0.001)
    assert score.hausdorff95_mm == pytest.approx(np.percentile(np.arange(21), 95))
    assert score.surface_dice == pytest.approx((2 + 1) / (21 + 1))  # 0 and 1 mm of the row, and the point


def test_the_surface_dice_counts_what_lies_within_one_millimetre():
    near = score_voxels(_mask(((3, 7), (2, 6), (2, 6))), _mask(CUBE), (1.0, 1.0, 1.0), 0.001)
    assert near.surface_dice == 1.0
    wide = score_voxels(_mask(((3, 7), (2, 6), (2, 6))), _mask(CUBE), (1.5, 1.0, 1.0), 0.001)
    # of 56 surface voxels a cube, the outermost plane of 16 is 1.5 mm away, less those within 1 mm: none
    assert wide.surface_dice == pytest.approx((56 - 16) / 56)


@pytest.mark.parametrize("is_predicted", [True, False])
def test_one_empty_side_has_no_distance_and_no_agreement(is_predicted):
    full, empty = _mask(CUBE), _mask()
    score = score_voxels(*((full, empty) if is_predicted else (empty, full)), (1.0, 1.0, 1.0), 0.001)
    assert (score.dice, score.iou, score.surface_dice) == (0, 0, 0)
    assert math.isnan(score.hausdorff95_mm)
    assert math.isnan(score.recall) == math.isnan(score.volume_error) == is_predicted
    assert math.isnan(score.precision) == (not is_predicted)


def test_two_empty_sides_have_a_specificity_and_nothing_else():
    score = score_voxels(_mask(), _mask(), (1.0, 1.0, 1.0), 0.001)
    values = (score.dice, score.iou, score.precision, score.recall, score.hausdorff95_mm, score.surface_dice)
    assert all(math.isnan(value) for value in (*values, score.volume_error))
    assert score.specificity == 1.0
