"""Noisy volumes are smoothed to the noise that the model knows; others, and all but soft tissue, stay as they are."""

import numpy as np
import pytest
import scipy
import torch
from monai.data import MetaTensor

from lightunet_monai.transforms import SmoothNoised
from lightunet_monai.transforms.smooth_noise import noise_deviation

SPACING = 1.25
MEASURED = {"neighbourhood": 3, "block": 5, "least_blocks": 20, "smoothest_share": 0.2}
SMOOTH = SmoothNoised(
    "image", tissue_hu=-400, mineral_hu=300, limit_hu=12.0, most_mm=1.6, most_deviations=4.0, **MEASURED
)


def _volume(hu, spacing=(SPACING, SPACING, SPACING)):
    affine = np.diag([*spacing, 1.0])
    return MetaTensor(torch.as_tensor(hu, dtype=torch.float32)[None], affine=affine, meta={"from": "here"})


def _breast(noise, seed=0, shape=(60, 64, 56), adipose=-110.0):
    """A ball of adipose tissue with clumps of gland and a calcification; voxels without noise, with noise, the air."""
    random = np.random.default_rng(seed)
    axes = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    radius = np.sqrt((axes**2).sum(0))
    hu = np.where(radius < 26, adipose, -1000.0)
    texture = scipy.ndimage.gaussian_filter(random.normal(size=shape), 3.0)
    hu[(radius < 22) & (texture > 0.6 * texture.std())] = 30.0
    hu[30:32, 32:34, 28:30] = 900.0
    return hu, np.where(radius < 26, hu + random.normal(0, noise, shape), hu), radius >= 26


def _smoothed(hu, **arguments):
    return SMOOTH({"image": _volume(hu, **arguments)})["image"].numpy()[0]


@pytest.mark.parametrize("noise", [5.0, 10.0, 20.0, 40.0, 80.0])
def test_the_noise_is_measured_in_spite_of_texture(noise):
    _, noisy, air = _breast(noise)
    found = noise_deviation(noisy.astype(np.float32), ~air, **MEASURED)
    assert found == pytest.approx(noise, rel=0.15)


@pytest.mark.parametrize(
    ("adipose", "noise"), [(-110.0, 100.0), (-110.0, 140.0), (-110.0, 200.0), (-290.0, 60.0), (-290.0, 140.0)]
)
def test_noise_that_leaves_the_range_of_soft_tissue_is_measured_and_smoothed(adipose, noise):
    """With 140 HU, or 80 in tissue near the edge of the range, no block of voxels lies within it."""
    clean, noisy, air = _breast(noise, adipose=adipose)
    around = scipy.ndimage.uniform_filter(noisy.astype(np.float32), 3)
    found = noise_deviation(noisy.astype(np.float32), (around > -400) & (around < 300), **MEASURED)
    assert found == pytest.approx(noise, rel=0.15)
    inner = scipy.ndimage.binary_erosion((clean == adipose) & ~air, iterations=3)
    assert np.std(_smoothed(noisy)[inner]) < 0.45 * noise


@pytest.mark.parametrize("noise", [0.0, 5.0, 11.0])
def test_a_volume_as_noisy_as_the_model_knows_is_the_same_object(noise):
    volume = _volume(_breast(noise)[1])
    assert SMOOTH({"image": volume})["image"] is volume


@pytest.mark.parametrize(("noise", "left"), [(25.0, 16.0), (40.0, 16.0), (80.0, 25.0)])
def test_a_noisy_volume_keeps_about_the_noise_that_is_allowed(noise, left):
    clean, noisy, air = _breast(noise)
    adipose = scipy.ndimage.binary_erosion((clean == -110.0) & ~air, iterations=3)
    before, after = (np.std((hu - clean)[adipose]) for hu in (noisy, _smoothed(noisy)))
    assert before == pytest.approx(noise, rel=0.05)
    assert 0.6 * SMOOTH.limit_hu < after < left


def test_air_and_minerals_neither_change_nor_spread():
    clean, noisy, air = _breast(40.0)
    smoothed = _smoothed(noisy)
    assert np.array_equal(smoothed[air], noisy.astype(np.float32)[air])
    mineral = clean == 900.0
    assert np.array_equal(smoothed[mineral], noisy.astype(np.float32)[mineral])
    surface = scipy.ndimage.binary_dilation(air) & ~air
    assert smoothed[surface].mean() == pytest.approx(-110.0, abs=5.0)  # with air in it, it would be far below
    around = scipy.ndimage.binary_dilation(mineral, iterations=2) & ~mineral
    assert (smoothed - clean)[around].mean() == pytest.approx(0.0, abs=20.0)  # with mineral in it, some hundreds


def test_the_width_is_in_millimetres_on_voxels_of_unequal_edges():
    """Along a longer edge fewer voxels count: what one bright voxel gives to its neighbours tells it."""
    _, noisy, _ = _breast(60.0)
    bright = noisy.copy()
    bright[20, 32, 28] += 100.0
    spacing = (1.25, 1.25, 2.5)
    given = _smoothed(bright, spacing=spacing) - _smoothed(noisy, spacing=spacing)
    assert given[21, 32, 28] == pytest.approx(given[20, 33, 28], rel=0.05)
    assert 0 < given[20, 32, 29] < 0.7 * given[21, 32, 28]


@pytest.mark.parametrize("shape", [(3, 64, 64), (4, 4, 4), (1, 1, 1)])
def test_a_volume_too_small_to_measure_stays_as_it_is(shape):
    volume = _volume(np.random.default_rng(0).normal(0, 80, shape))
    assert SMOOTH({"image": volume})["image"] is volume


def test_a_volume_without_tissue_stays_as_it_is():
    volume = _volume(np.full((20, 20, 20), -1000.0))
    assert SMOOTH({"image": volume})["image"] is volume


def test_affine_and_facts_go_with_it():
    volume = _volume(_breast(40.0)[1])
    out = SMOOTH({"image": volume})["image"]
    assert out.meta["from"] == "here"
    assert np.array_equal(out.affine, volume.affine)
    assert out.dtype == torch.float32
