"""The classical methods: a disc is found, settings are chosen on what they are shown."""

import numpy as np
import pytest
from classical_baselines import BASELINES, Baseline, mask_dice, tune


def a_disc(*, dark, dims=2, size=48, seed=0):
    """Noisy tissue with a ball that is darker or brighter, air around it, and the ball's mask."""
    generator = np.random.default_rng(seed)
    places = np.indices((size,) * dims) - np.array([size * 0.55, *[size * 0.45] * (dims - 1)]).reshape(-1, *[1] * dims)
    mask = np.sqrt((places**2).sum(axis=0)) < size * 0.18
    image = np.where(mask, 0.2 if dark else 0.8, 0.5) + generator.normal(0, 0.03, mask.shape)
    image[:3] = 0
    return image.clip(0, 1).astype(np.float32), mask


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("dark", [True, False])
def test_tuned_on_one_disc_each_method_finds_another(name, dark):
    baseline = BASELINES[name]
    settings, reached = tune(baseline, *zip(a_disc(dark=dark, seed=1), strict=True))
    image, mask = a_disc(dark=dark, seed=2)
    found = baseline.segment(image, **settings)
    assert found.dtype == bool
    assert settings["dark"] is dark
    assert reached > 0.8
    assert mask_dice(found, mask) > 0.8


@pytest.mark.parametrize("name", BASELINES)
def test_each_method_takes_volumes_too(name):
    image, mask = a_disc(dark=False, dims=3, size=28)
    scores = [
        mask_dice(BASELINES[name].segment(image, **settings), mask)
        for settings in BASELINES[name].settings()
        if not settings["dark"] and settings["sigma"] <= 1
    ]
    assert max(scores) > 0.6


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_an_image_of_one_value_gives_a_mask_and_no_error(name, value):
    for settings in BASELINES[name].settings()[::5]:
        mask = BASELINES[name].segment(np.full((24, 20), value, np.float32), **settings)
        assert mask.shape == (24, 20)
        assert mask.dtype == bool


def test_of_equal_settings_the_first_is_taken_and_the_best_otherwise():
    methods = Baseline("x", lambda image, *, level: image > level, {"level": (0.9, 0.1, 0.2, 0.3)})
    image = np.array([[0.0, 0.5], [0.5, 0.0]], np.float32)
    assert tune(methods, [image], [image > 0]) == ({"level": 0.1}, 1.0)
