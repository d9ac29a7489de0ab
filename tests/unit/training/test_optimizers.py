"""Convolutions step along orthogonal matrices, everything else as AdamW steps."""

import pytest
import torch
from torch import nn

from lightunet_monai.training import MuonAdamW, autocast
from lightunet_monai.training.optimizers import is_matrix, orthogonal

SETTINGS = {"lr": 0.02, "weight_decay": 0.3}


def gradients(shape, steps=4):
    random = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=random) for _ in range(steps)]


def walked(optimizer_class, start, grads, **settings):
    weight = nn.Parameter(start.clone())
    optimizer = optimizer_class([weight], **settings)
    for grad in grads:
        weight.grad = grad.clone()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("shape", [(24, 24), (16, 90), (90, 16)])
@pytest.mark.parametrize("fast", [True, False])
def test_the_iteration_gives_nearly_the_polar_factor(monkeypatch, shape, fast):
    monkeypatch.setattr(autocast.torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast}, raising=False)
    matrix = gradients(shape)[0].double()
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonal(matrix.float(), iterations=7)  # square ones have small singular values
    values = torch.linalg.svdvals(result.double())
    assert result.dtype == torch.float32
    assert values.max() < 1.25
    assert values.median() > 0.65
    assert torch.nn.functional.cosine_similarity(result.double().flatten(), (left @ right).flatten(), dim=0) > 0.95


def test_a_matrix_of_zeros_stays_one():
    assert torch.equal(orthogonal(torch.zeros(20, 30)), torch.zeros(20, 30))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch before 2.9 has no Muon to compare with")
def test_a_matrix_steps_as_pytorchs_own_muon(monkeypatch):
    monkeypatch.setattr(autocast.torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    start, grads = torch.zeros(20, 48), gradients((20, 48))
    theirs = walked(torch.optim.Muon, start, grads, adjust_lr_fn="match_rms_adamw", **SETTINGS)
    assert torch.allclose(walked(MuonAdamW, start, grads, **SETTINGS), theirs, atol=2e-4)
    assert theirs.square().mean().sqrt() > 0.004


def test_a_convolution_steps_as_the_matrix_of_its_output_channels():
    start, grads = torch.ones(20, 6, 3, 3), gradients((20, 6, 3, 3))
    flat = walked(MuonAdamW, start.flatten(1), [grad.flatten(1) for grad in grads], **SETTINGS)
    assert torch.allclose(walked(MuonAdamW, start, grads, **SETTINGS).flatten(1), flat, atol=1e-6)
    last = {"memory_format": torch.channels_last}
    kept = walked(MuonAdamW, start.to(**last), [grad.to(**last) for grad in grads], **SETTINGS)
    assert torch.allclose(kept.flatten(1), flat, atol=1e-6)


@pytest.mark.parametrize("shape", [(64,), (2, 64, 1, 1), (64, 5, 1, 1)])
def test_what_is_no_matrix_steps_as_adamw(shape):
    start, grads = torch.ones(shape), gradients(shape)
    assert not is_matrix(start)
    theirs = walked(torch.optim.AdamW, start, grads, **SETTINGS)
    assert torch.allclose(walked(MuonAdamW, start, grads, **SETTINGS), theirs, atol=1e-6)


def test_a_step_has_the_size_that_adamws_usually_has():
    for shape in [(32, 5, 3, 3), (512, 256, 2, 2), (64, 64)]:
        moved = walked(MuonAdamW, torch.zeros(shape), gradients(shape, 1), lr=1.0, weight_decay=0.0)
        assert 0.12 < float(moved.square().mean().sqrt()) < 0.25


def test_after_its_state_is_loaded_it_goes_on_as_if_never_stopped(tmp_path):
    def fresh():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(18, 16), nn.Linear(16, 2))
        return model, MuonAdamW(model.parameters(), **SETTINGS)

    def train(model, optimizer, first, last):
        for step in range(first, last):
            optimizer.zero_grad(set_to_none=True)
            model(torch.full((3, 18), float(step))).square().mean().backward()
            optimizer.step()

    whole, optimizer = fresh()
    train(whole, optimizer, 0, 6)
    half, optimizer = fresh()
    train(half, optimizer, 0, 3)
    torch.save({"model": half.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    rest, optimizer = fresh()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    rest.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    train(rest, optimizer, 3, 6)
    for one, other in zip(whole.parameters(), rest.parameters(), strict=True):
        assert torch.equal(one, other)


def test_parameters_without_a_gradient_stay_and_a_closure_gives_its_loss():
    used, unused = nn.Parameter(torch.ones(16, 16)), nn.Parameter(torch.ones(16, 16))
    optimizer = MuonAdamW([used, unused], **SETTINGS)

    def closure():
        loss = used.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 256
    assert torch.equal(unused, torch.ones(16, 16))
    assert not torch.equal(used, torch.ones(16, 16))


@pytest.mark.parametrize(
    "settings", [{"lr": -1.0}, {"weight_decay": -1.0}, {"eps": 0.0}, {"momentum": 1.0}, {"betas": (0.9, 1.0)}]
)
def test_numbers_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="expected 0 or more"):
        MuonAdamW([nn.Parameter(torch.ones(1))], **settings)


def test_the_state_of_another_optimizer_is_refused():
    weights = [nn.Parameter(torch.ones(16, 16))]
    state = torch.optim.AdamW(weights).state_dict()
    with pytest.raises(ValueError, match=r"another optimizer than MuonAdamW: no momentum"):
        MuonAdamW(weights).load_state_dict(state)
