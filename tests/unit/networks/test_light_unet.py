"""The networks: sizes, parameters, every figure of the paper's table, export."""

import pytest
import torch

from lightunet_monai.networks import LightUNet, UNet
from lightunet_monai.networks.layers import Swish
from lightunet_monai.networks.profile import Profile, format_table, profile

# Counted by torchstat 0.0.7 on the paper's code at 3 x 256 x 256.
PAPER = {
    "plain": (31_043_586, 404.00, 96_508_968_960, 46_160_019_456, 944_812_296),
    "light, beta fixed": (4_197_986, 296.50, 38_478_807_040, 17_656_315_904, 438_973_064),
    "light": (4_198_000, 296.50, 38_478_807_040, 17_656_315_904, 438_973_064),
}
NETWORKS = {
    "plain": UNet,
    "light, beta fixed": lambda: LightUNet(learnable_beta=False),
    "light": LightUNet,
}


@pytest.mark.parametrize("name", PAPER)
def test_every_figure_of_the_table_is_met_to_the_last_digit(name):
    costs = profile(NETWORKS[name](), (3, 256, 256))
    found = (costs.parameters, costs.activations / 2**20, costs.madd, costs.flops, costs.memory)
    assert found == PAPER[name]


def test_what_torchstat_leaves_out_has_columns_of_its_own():
    costs = profile(LightUNet(), (3, 256, 256))
    ups = 256 * 64**2 * 513 + 128 * 128**2 * 257 + 64 * 256**2 * 129  # outputs x (channels below + bias)
    widths = [
        (32 + 64, 256),
        (64 + 128, 128),
        (128 + 256, 64),
        (256 + 512, 32),
        (128 + 256, 64),
        (64 + 128, 128),
        (32 + 64, 256),
    ]
    swish = 5 * sum(channels * size**2 for channels, size in widths)
    assert costs.uncounted_flops == ups + swish
    assert costs.uncounted_madd == swish
    assert costs.uncounted_memory > 0
    assert profile(UNet(), (3, 64, 64)).uncounted_madd == 0


def test_the_table_has_a_row_a_network_and_a_column_a_figure():
    lines = format_table({"a": Profile(parameters=1234567), "b": Profile()}).splitlines()
    assert len(lines) == 3
    assert "1,234,567" in lines[1]
    assert "uncounted_flops" in lines[0]


def test_swish_has_one_learnable_slope_each_starting_at_one():
    slopes = [m.beta for m in LightUNet().modules() if isinstance(m, Swish)]
    assert len(slopes) == 14
    assert all(slope.shape == () and slope.item() == 1.0 for slope in slopes)
    x = torch.linspace(-4, 4, 9)
    swish = Swish()
    with torch.no_grad():
        swish.beta.fill_(2.0)
    torch.testing.assert_close(swish(x), x * torch.sigmoid(2 * x))
    torch.testing.assert_close(Swish(learnable=False)(x), torch.nn.functional.silu(x))


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (33, 250), (64, 17)])
def test_any_size_from_eight_on_gives_logits_of_the_same_size(size):
    network = LightUNet(widths=(8, 16, 32, 64)).eval()
    assert network(torch.rand(2, 3, *size)).shape == (2, 2, *size)


def test_three_dimensions_other_channels_and_widths_work():
    network = LightUNet(3, in_channels=1, out_channels=4, widths=(4, 8, 16)).eval()
    assert network(torch.rand(1, 1, 9, 12, 15)).shape == (1, 4, 9, 12, 15)
    assert UNet(3, 1, 2, widths=(4, 8, 16)).eval()(torch.rand(1, 1, 8, 9, 10)).shape == (1, 2, 8, 9, 10)


@pytest.mark.parametrize("widths", [(32, 48, 64), (16, 16, 32), (1, 2, 4), ()])
def test_widths_that_cannot_meet_on_the_way_up_are_refused(widths):
    with pytest.raises(ValueError, match=r"widths: found .* each twice the one before"):
        LightUNet(widths=widths)


def test_the_output_is_logits_not_probabilities():
    torch.manual_seed(0)
    logits = LightUNet(widths=(8, 16, 32, 64))(torch.rand(4, 3, 32, 32))
    assert logits.min() < 0


def test_gradients_reach_every_parameter():
    network = LightUNet(widths=(8, 16, 32, 64))
    network(torch.rand(2, 3, 32, 32)).square().mean().backward()
    biases_before_norm = {name for name, p in network.named_parameters() if p.grad is None}
    assert biases_before_norm == set()


def test_the_receptive_field_reaches_51_voxels():
    network = LightUNet(widths=(8, 16, 32, 64)).double().eval()
    x = torch.rand(1, 3, 161, 161, dtype=torch.float64, requires_grad=True)
    network(x)[0, :, 80, 80].sum().backward()
    reach = (x.grad.abs().sum(dim=(0, 1)) > 0).nonzero() - 80
    assert reach.abs().max() <= 51
    assert reach.abs().max() >= 44


def test_shifts_by_eight_move_the_logits_and_change_none():
    torch.manual_seed(1)
    network = LightUNet(widths=(8, 16, 32, 64)).eval()
    x = torch.rand(1, 3, 144, 144)
    with torch.inference_mode():
        whole, part = network(x), network(x[..., 8:, 16:])
    torch.testing.assert_close(whole[..., 8 + 56 :, 16 + 56 :], part[..., 56:, 56:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_it_scripts_and_traces(dims):
    network = LightUNet(dims, widths=(4, 8, 16, 32)).eval()
    x = torch.rand(1, 3, *(24,) * dims)
    expected = network(x)
    torch.testing.assert_close(torch.jit.script(network)(x), expected)
    torch.testing.assert_close(torch.jit.trace(network, x)(x), expected)
    odd = torch.rand(1, 3, *(19,) * dims)
    torch.testing.assert_close(torch.jit.script(network)(odd), network(odd))


def test_an_exported_program_takes_other_batches_and_sizes():
    network = LightUNet(widths=(4, 8, 16, 32)).eval()
    batch, h, w = (torch.export.Dim(name, min=low, max=64) for name, low in (("batch", 1), ("h", 2), ("w", 2)))
    program = torch.export.export(
        network, (torch.rand(2, 3, 32, 48),), dynamic_shapes={"x": {0: batch, 2: 8 * h, 3: 8 * w}}, strict=False
    )
    x = torch.rand(5, 3, 64, 24)
    torch.testing.assert_close(program.module()(x), network(x))
