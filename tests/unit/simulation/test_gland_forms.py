"""Forms of gland: lobes lie along ducts, carved fat is round and walled, strands are thin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from lightunet_monai.simulation import RECIPES, SimulatedCase, Tissue, simulate_case
from lightunet_monai.simulation.breast import compute_breast_fields, nipple_position, sample_breast_shape
from lightunet_monai.simulation.gland_forms import FORMS, form_score
from lightunet_monai.simulation.grid import Grid

SETTINGS = RECIPES["forms"].changed(
    max_voxels=64, families=("pendant",), family_weights=(1.0,), with_implant=0.0, with_lesion=0.0
)


def _case(style: str, seed: int = 3) -> SimulatedCase:
    return simulate_case(seed, settings=SETTINGS.changed(styles=(style,), glandular_fraction=(0.2, 0.2)))


def _score(form: str, *, size: float = 10.0) -> tuple[np.ndarray, Grid, object]:
    grid = Grid((48, 48, 48), (1.5, 1.5, 1.5), (-36.0, 0.0, -36.0))
    shape = sample_breast_shape(np.random.default_rng(1), SETTINGS)
    fields = compute_breast_fields(shape, grid, np.eye(4), np.random.default_rng(2))
    score = form_score(
        form, shape, fields, grid, np.random.default_rng(4), size=size, streak=1.0, device=torch.device("cpu")
    )
    return score.numpy(), grid, shape


@pytest.mark.parametrize("style", sorted(FORMS))
def test_each_form_fills_the_breast_with_the_wanted_share_of_gland(style: str) -> None:
    case = _case(style)
    assert case.parameters["parenchyma"]["style"] == style
    gland = np.count_nonzero(case.tissue_map == int(Tissue.FIBROGLANDULAR))
    other = np.count_nonzero(np.isin(case.tissue_map, [int(Tissue.ADIPOSE), int(Tissue.LIGAMENT)]))
    assert gland / (gland + other) == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize("style", sorted(FORMS))
def test_the_same_seed_gives_the_same_volume(style: str) -> None:
    np.testing.assert_array_equal(_case(style).volume_hu, _case(style).volume_hu)


def test_no_other_recipe_draws_a_form() -> None:
    assert set(RECIPES["forms"].styles) == set(FORMS)
    for name, recipe in RECIPES.items():
        assert name == "forms" or not set(FORMS) & set(recipe.styles)


def test_lobes_score_highest_along_ducts_that_begin_behind_the_nipple() -> None:
    score, grid, shape = _score("lobes")
    assert score.max() <= 0.0
    root = nipple_position(shape) - np.array([0.0, 4.0, 0.0])
    near = tuple(grid.nearest(root[None])[0])
    assert score[near] > np.quantile(score, 0.9)
    # One tree: what scores high hangs together.
    pieces, count = ndimage.label(score > -0.8)
    assert count > 0
    assert np.bincount(pieces.ravel())[1:].max() > 0.9 * np.count_nonzero(pieces)


def test_carved_fat_lies_in_lobules_with_walls_of_gland_between_them() -> None:
    score, _, _ = _score("carved", size=12.0)
    fat = score < 0.0
    pieces, count = ndimage.label(fat)
    sizes = np.bincount(pieces.ravel())[1:] * 1.5**3
    assert count > 20
    assert np.median(sizes[sizes > 50.0]) < 12.0**3
    assert fat.mean() < 0.8


def test_strands_are_thinner_than_the_gaps_between_them() -> None:
    score, _, _ = _score("strands", size=12.0)
    strands = score > np.quantile(score, 0.8)
    inside = ndimage.distance_transform_edt(strands).max()
    between = ndimage.distance_transform_edt(~strands).max()
    assert inside < between
