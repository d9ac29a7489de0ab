"""Random changes of a batch: labels go with their voxels, air stays air, what is switched off does nothing."""

import math

import pytest
import torch

from lightunet_monai.training import AugmentBatch


def _batch(count=64, size=32, channels=3):
    """A bright ellipse off the middle, in each channel a little brighter; the label is the ellipse."""
    rows, columns = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    inside = ((rows - 12) / 5) ** 2 + ((columns - 18) / 3) ** 2 < 1
    image = (0.5 * inside)[None, None] + 0.1 * torch.arange(1.0, channels + 1)[None, :, None, None]
    return image.expand(count, -1, -1, -1).clone(), inside[None, None].expand(count, -1, -1, -1).to(torch.uint8)


def test_without_any_change_the_middle_is_cut_out():
    image, label = _batch()
    changed = AugmentBatch((20, 16)).augment(image, label)
    assert torch.equal(changed[0], image[:, :, 6:26, 8:24])
    assert torch.equal(changed[1], label[:, :, 6:26, 8:24])
    assert changed[1].dtype == torch.uint8


@pytest.mark.parametrize(
    "change",
    [
        {"flip_probability": (0.5, 0.0)},
        {"flip_probability": (0.0, 0.5)},
        {"quarter_turn_probability": 0.5},
        {"affine_probability": 0.5, "rotate_range": 0.6},
        {"affine_probability": 0.5, "scale_range": 0.25},
        {"affine_probability": 0.5, "shift_range": 0.2},
        {"bend_probability": 0.5, "bend_range": 0.02},
    ],
    ids=lambda change: " ".join(change),
)
def test_the_label_goes_where_its_voxels_go(change):
    torch.manual_seed(0)
    image, label = _batch()
    changed, moved = AugmentBatch((32, 32), **change).augment(image, label)
    middle = changed[:, 1]
    again = middle > 0.2 + 0.25
    overlap = 2 * (again & (moved[:, 0] > 0)).sum((1, 2)) / (again.sum((1, 2)) + moved[:, 0].sum((1, 2)))
    assert overlap.min() > 0.85
    same = (changed == image).flatten(1).all(1)
    assert 0.25 < same.float().mean() < 0.75  # about half of the samples, each drawn for itself


def test_a_rotation_keeps_areas_and_a_scaling_stays_in_its_range():
    torch.manual_seed(0)
    image, label = _batch(count=200)
    area = float(label[0].sum())
    turned = AugmentBatch((32, 32), affine_probability=1.0, rotate_range=0.6).augment(image, label)[1]
    assert turned.sum((1, 2, 3)).float().mean() == pytest.approx(area, rel=0.03)
    scaled = AugmentBatch((32, 32), affine_probability=1.0, scale_range=0.25).augment(image, label)[1]
    ratio = scaled.sum((1, 2, 3)) / area
    assert 1 / 1.25**2 - 0.15 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.25**2 + 0.15


def test_a_shift_and_a_bending_go_as_far_as_they_may():
    torch.manual_seed(0)
    image, label = _batch(count=200)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")

    def middles(labels):
        share = labels[:, 0].float() / labels[:, 0].float().sum((1, 2), keepdim=True)
        return torch.stack([(share * rows).sum((1, 2)), (share * columns).sum((1, 2))], 1) - torch.tensor([12.0, 18.0])

    change = {"affine_probability": 1.0, "shift_range": 0.2}
    moved = middles(AugmentBatch((32, 32), **change).augment(image, label)[1])
    assert 0.15 * 32 < moved.abs().max() < 0.2 * 32 + 0.6  # to the nearest voxel
    assert moved.mean(0).abs().max() < 0.6
    bent = middles(AugmentBatch((32, 32), bend_probability=1.0, bend_range=0.05).augment(image, label)[1])
    assert 0.6 < bent.std(0).mean() < 0.05 * 32  # a mass lies between points of the grid, whose mean moves less


def test_values_of_images_are_taken_to_a_power_in_their_range():
    torch.manual_seed(0)
    grey, label = torch.full((200, 3, 32, 32), 0.5), torch.zeros(200, 1, 32, 32)
    changed, _ = AugmentBatch((32, 32), gamma_range=0.4).augment(grey, label)
    power = changed[:, 0, 0, 0].log2().neg()
    assert power.min() == pytest.approx(math.exp(-0.4), abs=0.03)
    assert power.max() == pytest.approx(math.exp(0.4), abs=0.06)
    assert (changed == changed[:, :1, :1, :1]).all()


def test_brightness_leaves_air_alone_unless_there_is_none():
    torch.manual_seed(0)
    image, label = _batch()
    image[:, :, :8] = 0
    change = {"intensity_probability": 1.0, "factor_range": 0.06, "offset_range": 0.06}
    changed, _ = AugmentBatch((32, 32), **change, background=0.0).augment(image, label)
    assert (changed[:, :, :8] == 0).all()
    difference = (changed - image)[:, :, 8:]
    assert difference.abs().amax((1, 2, 3)).min() > 0
    assert difference.abs().max() <= 0.06 * float(image.max()) + 0.06 + 1e-6
    changed, _ = AugmentBatch((32, 32), **change).augment(image, label)
    assert (changed[:, :, :8] != 0).float().mean() > 0.9


def test_noise_and_smoothing_have_the_strength_that_was_asked_for():
    torch.manual_seed(0)
    flat, label = torch.full((200, 3, 32, 32), 0.5), torch.zeros(200, 1, 32, 32)
    noisy, _ = AugmentBatch((32, 32), noise_probability=1.0, noise_std=0.04).augment(flat, label)
    deviation = noisy.flatten(1).std(1)
    assert deviation.max() < 0.043
    assert deviation.mean() == pytest.approx(0.02, abs=0.003)
    smooth = AugmentBatch((32, 32), smooth_probability=1.0, smooth_sigma=(1.0, 1.0))
    torch.testing.assert_close(smooth.augment(flat, label)[0], flat)
    point = torch.zeros(4, 2, 32, 32)
    point[:, :, 16, 16] = 1
    spread = smooth.augment(point, label[:4])[0]
    assert spread.sum((2, 3)).flatten().tolist() == pytest.approx([1.0] * 8, abs=1e-4)
    places = torch.arange(32.0) - 16
    assert (spread[0, 1].sum(0) * places**2).sum() == pytest.approx(1.0, abs=0.05)  # variance, voxels squared


def test_the_order_of_slices_is_turned_round_for_some():
    torch.manual_seed(0)
    image, label = _batch()
    changed, kept = AugmentBatch((32, 32), channel_flip_probability=0.5).augment(image, label)
    turned = (changed == image.flip(1)).flatten(1).all(1)
    assert ((changed == image).flatten(1).all(1) | turned).all()
    assert 0.25 < turned.float().mean() < 0.75
    assert torch.equal(kept, label)


def test_the_same_seed_gives_the_same_batch_and_another_one_another():
    image, label = _batch()
    change = AugmentBatch((24, 24), flip_probability=(0.5, 0.5), noise_probability=1.0, noise_std=0.04)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(change.augment(image, label)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
