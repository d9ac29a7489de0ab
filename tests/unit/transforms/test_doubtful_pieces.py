"""Pieces without a sure voxel go, whole; the others keep their contour."""

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from lightunet_monai.errors import UsageError
from lightunet_monai.transforms import CapDoubtfulPiecesd, RestoreLabelMapd, RestoreProbabilityd


def _logits(margin):
    return torch.stack([torch.zeros_like(margin) - 0.3, margin - 0.3])


def _margin():
    margin = torch.full((12, 12, 12), -3.0)
    margin[1:4, 1:4, 1:4] = 0.5  # one voxel of it is sure
    margin[2, 2, 2] = 3.0
    margin[7:10, 7:10, 7:10] = 1.0  # doubtful all over
    return margin


def _probability(logits, temperature=1.0):
    return torch.sigmoid((logits[1] - logits[0]) / temperature)


def test_a_piece_without_a_sure_voxel_falls_below_the_threshold_and_the_other_stays_as_it_is():
    logits = _logits(_margin())
    capped = CapDoubtfulPiecesd("pred", threshold=0.5, sure_threshold=0.9)({"pred": logits})["pred"]
    before, after = _probability(logits), _probability(capped)
    assert (after[1:4, 1:4, 1:4] >= 0.5).all()
    assert torch.equal(after[:6], before[:6])
    assert (after[7:10, 7:10, 7:10] < 0.5).all()
    assert (after[7:10, 7:10, 7:10] > 0.49).all()
    assert torch.equal(logits[1] - logits[0], _margin())  # the input is not changed


def test_what_was_capped_is_told_with_its_place_the_surest_first():
    margin = _margin()
    margin[8, 9, 7] = 1.5
    margin[10:12, 1, 1] = 0.2
    affine = torch.tensor([[0.0, 2, 0, -5], [-2, 0, 0, 7], [0, 0, 1, 3], [0, 0, 0, 1]], dtype=torch.float64)
    image = MetaTensor(torch.zeros(1, 12, 12, 12), affine=affine)
    step = CapDoubtfulPiecesd("pred", threshold=0.5, sure_threshold=0.9, temperature=2.0)
    margin[2, 2, 2] = 5.0  # above 4.39, the logit of 0.9 at this temperature
    surest, other = step({"pred": _logits(margin), "image": image})["doubtful_pieces"]
    assert surest.probability == pytest.approx(1 / (1 + math.exp(-1.5 / 2.0)))
    assert surest.place_ras_mm == (2 * 9 - 5, -2 * 8 + 7, 7 + 3)
    assert surest.volume_ml == pytest.approx(27 * 4 / 1000)
    assert other.probability == pytest.approx(1 / (1 + math.exp(-0.1)))
    assert other.volume_ml == pytest.approx(2 * 4 / 1000)


def test_without_a_doubtful_piece_none_is_told():
    image = MetaTensor(torch.zeros(1, 12, 12, 12))
    step = CapDoubtfulPiecesd("pred", threshold=0.5, sure_threshold=0.6)
    assert step({"pred": _logits(_margin()), "image": image})["doubtful_pieces"] == []


def test_interpolation_brings_no_capped_piece_back():
    capped = CapDoubtfulPiecesd("pred", threshold=0.5, sure_threshold=0.9)({"pred": _logits(_margin())})["pred"]
    fine = torch.nn.functional.interpolate((capped[1] - capped[0])[None, None], scale_factor=3.7, mode="trilinear")
    assert (fine[0, 0, 22:, 22:, 22:] < 0).all()


@pytest.mark.parametrize("sure", [0.3, 0.5])
def test_a_sure_threshold_not_above_the_threshold_changes_nothing(sure):
    logits = _logits(_margin())
    assert CapDoubtfulPiecesd("pred", 0.5, sure)({"pred": logits})["pred"] is logits


def test_thresholds_are_calibrated_probabilities():
    temperature = 2.0
    cut = temperature * math.log(0.9 / 0.1)
    margin = torch.full((6, 6, 6), -5.0)
    margin[1, 1, 1], margin[4, 4, 4] = cut + 0.01, cut - 0.01
    capped = CapDoubtfulPiecesd("pred", 0.5, 0.9, temperature)({"pred": _logits(margin)})["pred"]
    kept = (_probability(capped, temperature) >= 0.5).numpy()
    assert np.argwhere(kept).tolist() == [[1, 1, 1]]


NO_PROBABILITIES = (0, 1, -0.2, 1.5, float("nan"), float("inf"), "0.5", "nan", None)


@pytest.mark.parametrize("value", NO_PROBABILITIES)
def test_a_threshold_that_is_no_probability_is_refused_when_the_step_is_made(value):
    for make in (lambda: CapDoubtfulPiecesd("pred", value, 0.5), lambda: RestoreLabelMapd("pred", threshold=value)):
        with pytest.raises(UsageError, match=r"^threshold: found .*, expected a number above 0 and below 1"):
            make()
    if value != 0:  # which asks for no sure voxel
        with pytest.raises(UsageError, match=r"^sure_threshold: found .*, expected"):
            CapDoubtfulPiecesd("pred", 0.5, value)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1"])
def test_a_temperature_that_is_no_positive_number_is_refused(value):
    for make in (
        lambda: CapDoubtfulPiecesd("pred", 0.5, 0.5, value),
        lambda: RestoreLabelMapd("pred", temperature=value),
        lambda: RestoreProbabilityd("pred", temperature=value),
    ):
        with pytest.raises(UsageError, match=r"temperature: found .*, expected a number above 0"):
            make()


def test_a_judge_that_is_the_word_null_is_refused_with_how_to_write_it():
    with pytest.raises(UsageError, match=r"piece_judge: found 'null'.*None on MONAI's command line"):
        CapDoubtfulPiecesd("pred", 0.5, 0.5, judge="null")
