from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from lightunet_monai.simulation.compartments import make_compartments
from lightunet_monai.simulation.grid import Grid
from lightunet_monai.simulation.random_fields import power_law_field, smooth_field
from lightunet_monai.simulation.random_streams import RandomStreams

GRID = Grid((64, 64, 64), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


def test_a_part_does_not_depend_on_which_other_parts_are_drawn() -> None:
    first, second = RandomStreams(4), RandomStreams(4)
    second.part("something new").random(100)
    np.testing.assert_array_equal(first.part("breast").random(5), second.part("breast").random(5))


def test_parts_and_seeds_differ() -> None:
    values = [RandomStreams(seed).part(name).random() for seed in (1, 2) for name in ("breast", "lesions")]
    assert len(set(values)) == 4


@pytest.mark.parametrize("exponent", [2.5, 3.5])
def test_a_power_law_field_has_its_exponent(exponent: float) -> None:
    field = power_law_field(GRID, np.random.default_rng(1), exponent=exponent, outer_scale=1000.0)
    assert field.std() == pytest.approx(1.0, rel=1e-3)
    power = np.abs(np.fft.fftn(field)) ** 2
    frequencies = np.meshgrid(*[np.fft.fftfreq(64)] * 3, indexing="ij")
    radius = np.sqrt(sum(f**2 for f in frequencies))
    bands = np.geomspace(0.04, 0.4, 9)
    means = [power[(radius >= a) & (radius < b)].mean() for a, b in pairwise(bands)]
    slope = np.polyfit(np.log(np.sqrt(bands[1:] * bands[:-1])), np.log(means), 1)[0]
    assert -slope == pytest.approx(exponent, abs=0.25)


def test_a_smooth_field_is_smooth_over_its_length() -> None:
    field = smooth_field(GRID, np.random.default_rng(2), length=12.0)
    assert np.corrcoef(field[:-1].ravel(), field[1:].ravel())[0, 1] > 0.97
    assert abs(np.corrcoef(field[:-40].ravel(), field[40:].ravel())[0, 1]) < 0.5


def test_compartments_are_the_voronoi_cells_of_their_seeds() -> None:
    cells = make_compartments(
        GRID, np.random.default_rng(3), size=10.0, stretch=(1.0, 1.0, 1.0), warp=0.0, device=torch.device("cpu")
    )
    points = np.stack([axis.ravel() for axis in GRID.meshes()], axis=1)
    distances, nearest = cKDTree(cells.seeds).query(points, k=2)
    assert np.mean(nearest[:, 0] == cells.nearest.numpy().ravel()) > 0.98
    wall = (distances[:, 1] - distances[:, 0]) / 2.0
    assert np.mean(np.abs(wall - cells.wall_distance.numpy().ravel()) < 0.1) > 0.9
