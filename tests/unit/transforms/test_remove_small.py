"""Pieces below the size of a small sphere."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from lightunet_monai.transforms import RemoveSmallPiecesd


def _label_map(spacing):
    labels = torch.zeros(1, 30, 30, 30, dtype=torch.uint8)
    labels[0, 2:4, 2:4, 2:4] = 1  # 8 voxels
    labels[0, 4, 4, 4] = 1  # touches by a corner: 9 voxels
    labels[0, 10:16, 10:16, 10:16] = 1  # 216 voxels
    labels[0, 29, 29, 29] = 1
    return MetaTensor(labels, affine=torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)))


@pytest.mark.parametrize(
    ("spacing", "diameter", "left"),
    [
        ((1, 1, 1), 3.0, 216),
        ((1, 1, 1), 2.5, 225),
        ((0.5, 0.5, 0.5), 3.0, 216),
        ((2, 2, 2), 3.0, 225),
        ((1, 1, 1), 0.0, 226),
    ],
)
def test_what_is_below_the_sphere_goes_in_millimetres_not_in_voxels(spacing, diameter, left):
    label_map = _label_map(spacing)
    cleaned = RemoveSmallPiecesd("pred", diameter)({"pred": label_map})["pred"]
    assert int(cleaned.sum()) == left
    assert cleaned.dtype == torch.uint8
    np.testing.assert_array_equal(cleaned.affine, label_map.affine)
    assert int(label_map.sum()) == 226  # the input is not changed


def test_an_empty_label_map_stays_empty():
    empty = MetaTensor(torch.zeros(1, 5, 5, 5, dtype=torch.uint8))
    assert int(RemoveSmallPiecesd("pred", 3.0)({"pred": empty})["pred"].sum()) == 0


def test_where_nothing_is_too_small_no_copy_is_made():
    label_map = _label_map((1, 1, 1))
    label_map[0, 29, 29, 29] = 0
    assert RemoveSmallPiecesd("pred", 2.5)({"pred": label_map})["pred"] is label_map
