from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lightunet_monai.simulation import SimulationSettings
from lightunet_monai.simulation.grid import Grid
from lightunet_monai.simulation.scanner import (
    ScannerPlan,
    after_reconstruction,
    gaussian_blur,
    noise_level,
    sample_scanner,
    scan,
)

GRID = Grid((64, 64, 64), (0.5, 0.5, 0.5), (0.0, 0.0, 0.0))
DEEP = torch.full(GRID.shape, -20.0)


def quiet_plan(**changes: object) -> ScannerPlan:
    plan = sample_scanner(np.random.default_rng(0), SimulationSettings())
    off: dict[str, object] = {
        "rotation_axis": 1,
        "noise_hu": 1e-3,
        "blur_mm": 0.0,
        "cupping": 0.0,
        "shading_hu": 0.0,
        "wall_shading_hu": 0.0,
        "ring_hu": 0.0,
        "air": "noisy",
        "field_of_view": 0.0,
        "motion_share": 0.0,
        "bad_slices": 0,
        "gain": 1.0,
        "offset_hu": 0.0,
        "storage": "hu",
        "clip_low": -3000.0,
    }
    return replace(plan, **{**off, **changes})  # type: ignore[arg-type]


def scanned(plan: ScannerPlan, value: float = 0.0, outside: torch.Tensor = DEEP, **options: object) -> np.ndarray:
    volume = torch.full(GRID.shape, value)
    return scan(plan, volume, outside, GRID, np.random.default_rng(1), **options).hu.numpy()  # type: ignore[arg-type]


@pytest.mark.parametrize("noise_hu", [40.0, 400.0])
def test_noise_has_the_level_of_the_plan_in_deep_tissue(noise_hu: float) -> None:
    plan = quiet_plan(noise_hu=noise_hu)
    # Noise grows with depth: 20 mm below the skin it is half again the level of the grid.
    assert scanned(plan).std() == pytest.approx(1.5 * noise_level(plan, GRID), rel=0.05)


def test_noise_is_capped_at_90_hu_and_none_is_none() -> None:
    assert noise_level(quiet_plan(noise_hu=400.0), GRID) == 90.0
    assert noise_level(quiet_plan(noise_hu=1e-3), GRID) == 2.0
    assert noise_level(after_reconstruction(quiet_plan(noise_hu=40.0)), GRID) == 0.0


def test_noise_power_rises_from_low_to_middle_frequencies_across_the_rotation_axis() -> None:
    volume = scanned(quiet_plan(noise_hu=40.0, noise_ramp=1.0, noise_cut=0.8))
    power = np.mean(np.abs(np.fft.fft2(volume, axes=(0, 2))) ** 2, axis=1)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64), indexing="ij")) * 2.0
    low = power[(radius > 0.02) & (radius < 0.1)].mean()
    middle = power[(radius > 0.3) & (radius < 0.5)].mean()
    high = power[radius > 1.2].mean()
    assert low < 0.6 * middle
    assert high < middle


def test_blur_has_the_width_of_the_plan() -> None:
    edge = torch.zeros(GRID.shape)
    edge[32:] = 1.0
    sigma = 1.2
    profile = gaussian_blur(edge, [sigma, 0.0, 0.0])[:, 0, 0].numpy()
    spread = np.gradient(profile)
    position = np.arange(64)
    middle = (spread * position).sum() / spread.sum()
    # np.gradient averages neighbours, which adds a variance of one half.
    width = np.sqrt((spread * (position - middle) ** 2).sum() / spread.sum() - 0.5)
    assert width == pytest.approx(sigma, rel=0.1)


def test_cupping_lowers_the_centre_of_the_breast() -> None:
    depth = torch.linspace(0.0, 60.0, 64)[:, None, None].expand(GRID.shape)
    volume = scanned(quiet_plan(cupping=0.1), outside=-depth.contiguous())
    assert volume[60].mean() - volume[1].mean() == pytest.approx(-95.0, abs=12.0)


def test_masked_air_is_constant_outside_the_breast() -> None:
    outside = torch.full(GRID.shape, 10.0)
    assert np.all(scanned(quiet_plan(air="masked"), outside=outside) == -1000.0)


def test_gain_and_offset_are_applied() -> None:
    volume = scanned(quiet_plan(gain=1.1, offset_hu=20.0), value=100.0)
    assert float(np.median(volume)) == pytest.approx(130.0, abs=8.0)


def test_rings_are_round_about_the_rotation_axis() -> None:
    volume = scanned(quiet_plan(ring_hu=60.0))
    plane = volume[:, 10, :]
    assert plane.std() > 10.0
    # What is left of noise, 3 HU here, is not round.
    assert (plane - plane.T).std() < 0.25 * plane.std()


def test_metal_draws_streaks_in_its_slices_only() -> None:
    clean = scanned(quiet_plan(streak_hu=400.0))
    streaked = scanned(quiet_plan(streak_hu=400.0), metal=[np.array([16.0, 16.0, 16.0])])
    difference = np.abs(streaked - clean).max(axis=(0, 2))
    assert difference[32] > 50.0
    assert difference[5] < 0.2 * difference[32]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_about_any_axis_keeps_shape_and_place(axis: int) -> None:
    grid = Grid((20, 24, 28), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    volume = torch.zeros(grid.shape)
    volume[5, 6, 7] = 500.0
    outside = torch.full(grid.shape, -10.0)
    result = scan(quiet_plan(rotation_axis=axis), volume, outside, grid, np.random.default_rng(2)).hu
    assert result.shape == grid.shape
    assert np.unravel_index(int(result.argmax()), grid.shape) == (5, 6, 7)


@pytest.mark.parametrize("shift", [-4.0, 4.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_double_of_a_moving_breast_does_not_come_back_at_the_other_side(axis: int, shift: float) -> None:
    volume = torch.zeros(GRID.shape)
    volume.narrow(axis, 32, 32).fill_(-1000.0)  # air in front of the breast
    moves = tuple(shift if dimension == axis else 0.0 for dimension in range(3))
    plan = quiet_plan(motion_mm=moves, motion_share=0.5)
    result = scan(plan, volume, DEEP, GRID, np.random.default_rng(1)).hu
    means = result.movedim(axis, 0).mean((1, 2)).numpy()
    first, last = (32, 40) if shift > 0 else (24, 32)  # 4 mm are eight voxels
    np.testing.assert_allclose(means[:first], 0.0, atol=3.0)
    np.testing.assert_allclose(means[first:last], -500.0, atol=3.0)
    np.testing.assert_allclose(means[last:], -1000.0, atol=3.0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_scan_tells_which_slices_hold_air_alone(axis: int) -> None:
    grid = Grid((24, 28, 32), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    plan = quiet_plan(rotation_axis=axis, bad_slices=3)
    found = set()
    for seed in range(24):
        outside = torch.full(grid.shape, -10.0)
        result = scan(plan, torch.zeros(grid.shape), outside, grid, np.random.default_rng(seed))
        slices = (result.hu == -1000.0).movedim(axis, 0).flatten(1).all(1)
        without = torch.zeros(grid.shape, dtype=torch.bool)
        without.movedim(axis, 0)[slices] = True
        if result.without_image is None:
            assert not slices.any()
        else:
            assert torch.equal(result.without_image, without)
        found.add(int(slices.sum()))
    assert found == {0, 1, 2, 3}


@pytest.mark.parametrize("bad_slices", [0, 3])
def test_a_scan_tells_what_lies_beyond_its_field_of_view_and_in_damaged_slices(bad_slices: int) -> None:
    plan = quiet_plan(field_of_view=0.8, bad_slices=bad_slices)
    without = scan(plan, torch.zeros(GRID.shape), DEEP, GRID, np.random.default_rng(1)).without_image
    assert without is not None
    x, _, z = GRID.meshes()
    beyond = np.hypot(x - x.mean(), z - z.mean()) > 0.8 * 16.0
    np.testing.assert_array_equal(without.numpy()[:, 8:], beyond[:, 8:])
    assert bool(without[:, :3].flatten(2).all(0).all(1).any()) == bool(bad_slices)


def test_a_reconstructed_volume_has_no_damaged_slices() -> None:
    plan = after_reconstruction(quiet_plan(bad_slices=3))
    assert scan(plan, torch.zeros(GRID.shape), DEEP, GRID, np.random.default_rng(1)).without_image is None
