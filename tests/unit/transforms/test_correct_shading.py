"""Shading that adipose tissue shows is taken away; what is bright is not."""

import numpy as np
import pytest
import scipy
import torch
from monai.data import MetaTensor

from lightunet_monai.transforms import CorrectShadingd
from lightunet_monai.transforms.correct_shading import _without_outermost, local_mean, otsu_threshold

SPACING = 2.0
CORRECT = CorrectShadingd(
    "image", tissue_hu=-400, mineral_hu=300, skin_mm=4.0, sigma_mm=12.0, deviations=(2.5, 1.5), rounds=3, least_ml=1.0
)


def _volume(hu, spacing=SPACING):
    affine = np.diag([spacing, spacing, spacing, 1.0])
    return MetaTensor(torch.as_tensor(hu, dtype=torch.float32)[None], affine=affine, meta={"from": "here"})


def _breast(noise=10.0, seed=0):
    """A ball of 90 mm: bright skin, adipose tissue, clumps of gland, a tumour; the map of its parts."""
    random = np.random.default_rng(seed)
    axes = np.indices((56, 56, 56)) - 27.5
    radius = np.sqrt((axes**2).sum(0)) * SPACING
    hu = np.where(radius < 45, -120.0, -1000.0)
    gland = np.zeros(hu.shape, dtype=bool)
    for centre in random.uniform(-25, 25, (25, 3)):
        gland |= np.sqrt(((axes * SPACING - centre[:, None, None, None]) ** 2).sum(0)) < 7
    hu[gland] = 30.0
    tumour = np.sqrt(((axes * SPACING - np.array([20.0, 0, 0])[:, None, None, None]) ** 2).sum(0)) < 6
    hu[tumour] = 65.0
    skin = (radius < 45) & (radius > 42.5)
    hu[skin] = 50.0
    hu = hu + np.where(radius < 45, random.normal(0, noise, hu.shape), 0.0)
    adipose = (radius < 40) & ~gland & ~tumour
    return hu, radius, {"adipose": adipose, "gland": gland & ~tumour, "tumour": tumour, "air": radius >= 45}


def _spread(values, radius):
    return np.ptp([values[(radius >= low) & (radius < low + 10)].mean() for low in (0, 10, 20, 30)])


def test_cupping_is_taken_away():
    hu, radius, parts = _breast()
    cupped = np.where(parts["air"], hu, hu - 80.0 * (1.0 - (radius / 45.0) ** 2))
    fat = parts["adipose"]
    before = _spread(cupped[fat], radius[fat])
    corrected = CORRECT({"image": _volume(cupped), "other": 3})
    after = corrected["image"].as_tensor()[0].numpy()
    assert before > 40.0
    assert _spread(after[fat], radius[fat]) < before / 3.0
    gland = parts["gland"]
    assert _spread(after[gland], radius[gland]) < 0.5 * _spread(cupped[gland], radius[gland])
    np.testing.assert_array_equal(after[parts["air"]], cupped[parts["air"]].astype(np.float32))
    np.testing.assert_array_equal(corrected["image"].affine, _volume(hu).affine)
    assert corrected["image"].meta["from"] == "here"
    assert corrected["other"] == 3


def test_without_shading_tissues_stay_where_they_are():
    hu, _, parts = _breast()
    after = CORRECT({"image": _volume(hu)})["image"].as_tensor()[0].numpy()
    for name in ("adipose", "gland", "tumour"):
        assert after[parts[name]].mean() == pytest.approx(hu[parts[name]].mean(), abs=3.0), name


def test_a_scale_that_is_off_is_kept_and_does_not_matter():
    hu, radius, parts = _breast()
    cupped = np.where(parts["air"], hu, hu - 80.0 * (1.0 - (radius / 45.0) ** 2))
    plain = CORRECT({"image": _volume(cupped)})["image"].as_tensor()[0].numpy()
    off = np.where(parts["air"], -1000.0, 1.15 * cupped + 30.0)
    after = CORRECT({"image": _volume(off)})["image"].as_tensor()[0].numpy()
    inside = ~parts["air"]
    np.testing.assert_allclose(after[inside], (1.15 * plain + 30.0)[inside], atol=4.0)


@pytest.mark.parametrize("value", [-1000.0, 40.0])
def test_a_volume_without_two_tissues_comes_out_finite(value):
    same = np.full((30, 30, 30), value)
    after = CORRECT({"image": _volume(same)})["image"].as_tensor()[0].numpy()
    np.testing.assert_allclose(after, same, atol=1e-3)


def test_too_little_adipose_tissue_leaves_the_volume_as_it_is():
    hu, _, parts = _breast()
    little = CorrectShadingd(
        "image",
        tissue_hu=-400,
        mineral_hu=300,
        skin_mm=4.0,
        sigma_mm=12.0,
        deviations=(2.5, 1.5),
        rounds=3,
        least_ml=400.0,
    )
    volume = _volume(hu)
    assert little({"image": volume})["image"] is volume
    assert parts["adipose"].sum() * SPACING**3 / 1000.0 < 400.0


def test_values_that_are_not_numbers_are_left_where_they_are():
    hu, _, _ = _breast()
    hu[27, 27, 27] = np.nan
    volume = _volume(hu)
    corrected = CORRECT({"image": volume})["image"]
    assert corrected is not volume
    after = corrected.as_tensor()[0].numpy()
    assert np.isnan(after[27, 27, 27])
    assert np.isfinite(after).sum() == after.size - 1


def test_an_implant_does_not_decide_what_is_adipose():
    hu, radius, parts = _breast()
    implant = (radius < 40) & (np.indices(hu.shape)[0] < 20)
    hu = np.where(implant, 600.0, hu)
    after = CORRECT({"image": _volume(hu)})["image"].as_tensor()[0].numpy()
    for name in ("adipose", "gland", "tumour"):
        part = parts[name] & ~implant
        assert after[part].mean() == pytest.approx(hu[part].mean(), abs=4.0), name


def test_the_outermost_voxels_are_those_that_an_erosion_takes():
    mask = np.random.default_rng(0).random((9, 8, 7)) < 0.9
    np.testing.assert_array_equal(_without_outermost(mask), scipy.ndimage.binary_erosion(mask))
    thin = np.ones((1, 5, 5), dtype=bool)
    assert not _without_outermost(thin).any()


def test_otsu_parts_two_classes_in_the_middle():
    random = np.random.default_rng(0)
    sample = np.concatenate([random.normal(-120, 15, 9000), random.normal(40, 15, 3000)])
    assert otsu_threshold(sample) == pytest.approx(-40, abs=60)


def test_the_local_mean_is_that_of_the_chosen_voxels_and_falls_back_on_what_is_further_off():
    hu = np.zeros((60, 20, 20), dtype=np.float32)
    hu[30:] = 100.0
    everything = local_mean(hu, np.ones(hu.shape, dtype=bool), np.array([3.0, 3.0, 3.0]))
    assert everything.shape == hu.shape
    assert everything[2, 10, 10] == pytest.approx(0.0, abs=1.0)
    assert everything[57, 10, 10] == pytest.approx(100.0, abs=1.0)
    assert everything[30, 10, 10] == pytest.approx(50.0, abs=20.0)
    one_side = np.zeros(hu.shape, dtype=bool)
    one_side[:10] = True
    assert local_mean(hu, one_side, np.array([3.0, 3.0, 3.0])).max() == pytest.approx(0.0, abs=1e-3)
