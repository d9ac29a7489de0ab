"""MONAI's surface metrics with the spacing of the label, as the bundle's evaluator calls them."""

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from lightunet_monai.evaluation.millimetres import HausdorffDistanceMm, SurfaceDiceMm, SurfaceDistanceMm
from lightunet_monai.evaluation.voxels import score_voxels

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is all 0:UserWarning"),
]

AFFINE = torch.diag(torch.tensor([0.5, 2.0, 1.25, 1.0], dtype=torch.float64))


def _label(*boxes):
    mask = torch.zeros((1, 12, 10, 8), dtype=torch.uint8)
    for box in boxes:
        mask[(0, *(slice(a, b) for a, b in box))] = 1
    return MetaTensor(mask, affine=AFFINE)


POINT = _label(((4, 5), (4, 5), (4, 5)))
MOVED = _label(((4, 5), (1, 2), (4, 5)))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (HausdorffDistanceMm(include_background=True, percentile=95), 6.0),
        (SurfaceDistanceMm(include_background=True, symmetric=True), 6.0),
        (SurfaceDiceMm([1.0], include_background=True), 0.0),
        (SurfaceDiceMm([6.0], include_background=True), 1.0),
    ],
)
def test_distances_are_in_millimetres(metric, expected):
    metric([MOVED], [POINT])
    assert float(metric.aggregate()) == pytest.approx(expected)


def test_a_case_with_an_empty_side_has_no_distance_and_leaves_the_mean_alone():
    metric = HausdorffDistanceMm(include_background=True, percentile=95)
    metric([MOVED, _label(), _label()], [POINT, POINT, _label()])
    assert float(metric.aggregate()) == pytest.approx(6.0)
    assert [math.isnan(float(value)) for value in metric.get_buffer()] == [False, True, True]


def test_both_ways_to_the_same_figure_agree():
    one, other = _label(((2, 7), (2, 6), (2, 6))), _label(((3, 9), (3, 6), (2, 5)))
    masks = [np.asarray(item[0]) > 0 for item in (one, other)]
    score = score_voxels(*masks, (0.5, 2.0, 1.25), 0.00125)
    for metric, expected in (
        (HausdorffDistanceMm(include_background=True, percentile=95), score.hausdorff95_mm),
        (SurfaceDiceMm([1.0], include_background=True), score.surface_dice),
    ):
        metric([one], [other])
        assert float(metric.aggregate()) == pytest.approx(expected)
