"""bfloat16 on the CPU: convolutions only, the rest and what comes out float32."""

import pytest
import torch
from monai.inferers import SimpleInferer

from lightunet_monai.networks import LightUNet
from lightunet_monai.training import AutocastInferer


def _pass(cpu_dtype):
    torch.manual_seed(0)
    network = LightUNet(in_channels=3, widths=(8, 16, 32, 64))
    x = torch.rand(2, 3, 32, 32)
    seen = []
    network.outc.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    inferer = SimpleInferer() if cpu_dtype is None else AutocastInferer(cpu_dtype)
    logits = inferer(x, network)
    logits.square().mean().backward()
    gradient = torch.cat([p.grad.flatten() for p in network.parameters()])
    return logits.detach(), gradient, seen[0]


def test_bfloat16_is_used_for_the_network_and_near_float32():
    logits, gradient, dtype = _pass("bfloat16")
    expected, true_gradient, _ = _pass(None)
    assert dtype == torch.bfloat16
    assert logits.dtype == gradient.dtype == torch.float32
    assert not torch.equal(logits, expected)
    torch.testing.assert_close(logits, expected, atol=0.05, rtol=0.05)
    assert torch.cosine_similarity(gradient, true_gradient, dim=0) > 0.99


def test_float32_is_what_monai_does():
    logits, gradient, dtype = _pass("float32")
    expected, true_gradient, _ = _pass(None)
    assert dtype == torch.float32
    assert torch.equal(logits, expected)
    assert torch.equal(gradient, true_gradient)


@pytest.mark.parametrize(
    ("has", "dtype"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_auto_asks_the_processor(monkeypatch, has, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert _pass("auto")[2] == dtype


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="'int8', expected 'auto'"):
        AutocastInferer("int8")
