"""The loss in which a lesion voxel weighs more."""

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss

from lightunet_monai.training import LesionAndTissueLoss, LesionWeightedLoss


def _logits_and_labels(seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(3, 1, 12, 10, generator=generator) < 0.1).float()
    return torch.randn(3, 2, 12, 10, generator=generator), labels


def _dice():
    return DiceLoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)


def test_with_a_weight_of_one_it_is_monais_dice_and_cross_entropy():
    logits, labels = _logits_and_labels()
    monai = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    ours = LesionWeightedLoss(_dice(), lesion_weight=1.0, cross_entropy_share=1.0)
    torch.testing.assert_close(ours(logits, labels), monai(logits, labels))


def test_the_best_probability_is_the_true_share_whatever_the_weight():
    # One logit for all voxels, cross-entropy alone: its minimum is at the frequency of the lesion, 3 of 100.
    labels = torch.zeros(1, 1, 10, 10)
    labels[..., 0, :3] = 1
    loss = LesionWeightedLoss(lambda logits, labels: 0.0, lesion_weight=15.0, cross_entropy_share=1.0)
    margin = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([margin], max_iter=100, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def step():
        optimizer.zero_grad()
        value = loss(torch.stack([torch.zeros(1, 10, 10), margin.expand(1, 10, 10)], dim=1), labels)
        value.backward()
        return value

    optimizer.step(step)
    assert float(torch.sigmoid(margin.detach())) == pytest.approx(0.03, abs=1e-4)


def test_a_missed_lesion_costs_more_and_pulls_harder_with_a_weight():
    labels = torch.zeros(1, 1, 16, 16)
    labels[..., 4:7, 4:7] = 1
    pulls = []
    for weight in (1.0, 15.0):
        logits = torch.stack([torch.full((1, 16, 16), 4.0), torch.full((1, 16, 16), -4.0)], dim=1).requires_grad_()
        LesionWeightedLoss(_dice(), weight, cross_entropy_share=0.5)(logits, labels).backward()
        pulls.append(-float(logits.grad[0, 1, 5, 5]))
    assert pulls[1] > 5 * pulls[0] > 0


def test_with_tissues_the_true_shares_are_the_best_probabilities_too():
    labels = torch.randint(0, 5, (1, 1, 20, 20), generator=torch.Generator().manual_seed(1))
    shares = torch.bincount(labels.flatten(), minlength=5) / labels.numel()
    logits = shares.log().requires_grad_()
    loss = LesionWeightedLoss(lambda logits, labels: 0.0, lesion_weight=15.0)
    loss(logits.reshape(1, 5, 1, 1).expand(1, 5, 20, 20), labels).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(5), atol=1e-6, rtol=0)


def test_a_weight_below_one_is_refused():
    with pytest.raises(ValueError, match=r"lesion_weight: found 0.5, expected 1 or more"):
        LesionWeightedLoss(_dice(), lesion_weight=0.5)


def _pull_on(labels, point, **options):
    logits = torch.stack([torch.full(labels[:, 0].shape, 4.0), torch.full(labels[:, 0].shape, -4.0)], dim=1)
    logits.requires_grad_()
    LesionWeightedLoss(lambda logits, labels: 0.0, 15.0, 0.5, **options)(logits, labels).backward()
    return -float(logits.grad[(0, 1, *point)])


@pytest.mark.parametrize("dims", [2, 3])
def test_a_voxel_of_a_small_lesion_pulls_harder_than_one_of_a_large_lesion(dims):
    labels = torch.zeros(1, 1, *[40] * dims)
    labels[(..., *[slice(2, 6)] * dims)] = 1  # 16 or 64 voxels
    labels[(..., *[slice(20, 36)] * dims)] = 1  # 256 or 4096 voxels
    small, large = [4] * dims, [28] * dims
    options = {"small_size": 2 * 4**dims, "nearby": 17}
    assert _pull_on(labels, small) == pytest.approx(_pull_on(labels, large))
    ratio = _pull_on(labels, small, small_weight=6.0, **options) / _pull_on(labels, large, small_weight=6.0, **options)
    assert ratio == pytest.approx(2.0, rel=1e-4)
    ratio = _pull_on(labels, small, small_weight=1.5, **options) / _pull_on(labels, large, small_weight=1.5, **options)
    assert ratio == pytest.approx(1.5, rel=1e-4)


@pytest.mark.parametrize("options", [{"small_weight": 0.5}, {"nearby": 16}])
def test_refuses_weights_below_one_and_even_neighbourhoods(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LesionWeightedLoss(_dice(), 15.0, **options)


class _NoOverlap(torch.nn.Module):
    def forward(self, probabilities, truth):
        return torch.zeros(())


def _two_classes():
    return LesionWeightedLoss(_dice(), lesion_weight=15.0)


def _five_classes(seed=2):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 5, (2, 1, 12, 10), generator=generator).float()
    return torch.randn(2, 5, 12, 10, generator=generator), labels


def test_with_two_channels_the_loss_of_lesion_and_tissues_is_that_of_the_lesion():
    logits, labels = _logits_and_labels()
    torch.testing.assert_close(LesionAndTissueLoss(_two_classes())(logits, labels), _two_classes()(logits, labels))


def test_the_lesion_has_the_loss_of_two_classes_and_feels_no_tissue():
    logits, labels = _five_classes()
    two = torch.stack([logits[:, [0, 2, 3, 4]].logsumexp(1), logits[:, 1]], dim=1)
    alone = LesionAndTissueLoss(_two_classes(), tissue_share=0.0)
    torch.testing.assert_close(alone(logits, labels), _two_classes()(two, (labels == 1).float()))

    # The slope of the lesion's own logit is the same, whichever tissue the rest is.
    other = torch.where(labels == 0, 4, torch.where(labels > 2, labels - 1, torch.where(labels == 2, 0, labels)))
    slopes = []
    for found in (labels, other):
        given = logits.clone().requires_grad_()
        LesionAndTissueLoss(_two_classes())(given, found).backward()
        slopes.append(given.grad)
    torch.testing.assert_close(slopes[0][:, 1], slopes[1][:, 1])
    assert (slopes[0][:, 2] - slopes[1][:, 2]).abs().max() > 1e-4


def test_tissues_are_compared_outside_of_lesions_only():
    logits, labels = _five_classes()
    logits[:, 1] = torch.where(labels[:, 0] == 1, 30.0, -30.0)  # the lesion is right
    sure = torch.where(torch.arange(5)[None, :, None, None] == labels.long(), 30.0, logits.clamp(-9, 9))
    sure[:, [0, 2, 3, 4]] = torch.where(labels == 1, logits[:, [0, 2, 3, 4]], sure[:, [0, 2, 3, 4]])  # any, in lesions
    loss = LesionAndTissueLoss(_two_classes())
    assert float(loss(sure, labels)) == pytest.approx(0.0, abs=1e-4)
    wrong = sure.clone()
    wrong[:, [2, 3]] = sure[:, [3, 2]]  # two tissues for each other
    assert float(loss(wrong, labels)) > 1


def test_true_shares_are_the_best_probabilities_of_lesion_and_tissues_together():
    labels = torch.randint(0, 5, (1, 1, 20, 20), generator=torch.Generator().manual_seed(1))
    shares = torch.bincount(labels.flatten(), minlength=5) / labels.numel()
    logits = shares.log().requires_grad_()
    loss = LesionAndTissueLoss(LesionWeightedLoss(lambda logits, labels: 0.0, lesion_weight=15.0))
    loss.overlap = _NoOverlap()
    loss(logits.reshape(1, 5, 1, 1).expand(1, 5, 20, 20), labels).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(5), atol=1e-6, rtol=0)


def test_windows_of_lesion_alone_have_a_loss():
    value = LesionAndTissueLoss(_two_classes())(torch.zeros(1, 5, 4, 4, requires_grad=True), torch.ones(1, 1, 4, 4))
    value.backward()
    assert torch.isfinite(value)


def test_a_tissue_share_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"tissue_share: found -1, expected 0 or more"):
        LesionAndTissueLoss(_two_classes(), tissue_share=-1)
