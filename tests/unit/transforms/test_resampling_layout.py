"""Resampling gives the same numbers whatever the order of the voxels in memory."""

import itertools

import numpy as np
import pytest
import torch

from lightunet_monai.transforms.resampling import axis_maps, resample


@pytest.mark.parametrize("layout", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_order_in_memory_changes_nothing(layout, order):
    volume = torch.rand(40, 70, 37, generator=torch.Generator().manual_seed(0))
    laid_out = volume.permute(layout).contiguous().permute([layout.index(axis) for axis in range(3)])
    assert laid_out.shape == volume.shape
    target = np.eye(4)
    target[:3, :3] = np.diag([1.7, -1.3, 2.1])[:, order]
    target[:3, 3] = (2.0, 60.0, 1.0)
    maps = axis_maps(np.eye(4), target)
    shape = tuple((20, 40, 15)[axis] for axis in order)
    torch.testing.assert_close(resample(laid_out, maps, shape), resample(volume, maps, shape), rtol=0, atol=1e-5)
    assert resample(laid_out, maps, shape).shape == shape
