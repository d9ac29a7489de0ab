from __future__ import annotations

import numpy as np
import pytest

from lightunet_monai.simulation import RECIPES, SimulationSettings
from lightunet_monai.simulation.breast import sample_breast_shape
from lightunet_monai.simulation.placement import Frame, plan_frame
from lightunet_monai.simulation.random_streams import RandomStreams
from lightunet_monai.simulation.settings import MAX_SPACING_MM
from lightunet_monai.simulation.storage import sample_storage

TRAIN = RECIPES["train"]


def planned(seed: int, settings: SimulationSettings, *, slice_factor: int = 1) -> Frame:
    streams = RandomStreams(seed)
    shape = sample_breast_shape(streams.part("breast"), settings)
    axis = sample_storage(streams.part("storage"), shape.family).slice_axis
    return plan_frame(shape, settings, slice_factor, axis, streams.part("frame"))


def upper_end(frame: Frame) -> np.ndarray:
    """Where the last voxels of the box end, mm."""
    grid = frame.grid
    return np.asarray(grid.origin) + np.asarray(grid.shape) * np.asarray(grid.spacing)


@pytest.mark.parametrize("max_voxels", [64, 144, 256])
def test_few_voxels_make_voxels_larger_and_cut_nothing_off(max_voxels: int) -> None:
    limited = TRAIN.changed(max_voxels=max_voxels)
    free = TRAIN.changed(max_voxels=1024)
    thinner = 0
    for seed in [*range(200), 301_000_223, 301_000_393]:
        fewer, enough = planned(seed, limited), planned(seed, free)
        assert max(fewer.grid.shape) <= max_voxels
        assert fewer.grid.origin == pytest.approx(np.asarray(enough.grid.origin), abs=1e-9)
        # Boxes end at whole voxels: the other one may reach further by one of its own.
        assert np.all(upper_end(fewer) > upper_end(enough) - np.asarray(enough.grid.spacing) - 1e-6)
        thinner += fewer.grid.spacing[fewer.slice_axis] < min(s for s in fewer.grid.spacing) + 1e-9
    assert thinner > 20  # slices stay thinner than pixels where there is room


@pytest.mark.parametrize("settings", [TRAIN.changed(max_voxels=32), TRAIN.changed(spacing=(20.0, 20.0))])
def test_no_voxel_is_larger_than_this_package_reads(settings: SimulationSettings) -> None:
    largest = [max(planned(seed, settings, slice_factor=4).delivered.spacing) for seed in range(60)]
    assert 15.0 < max(largest) <= MAX_SPACING_MM
