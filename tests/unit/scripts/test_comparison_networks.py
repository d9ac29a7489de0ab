"""The table of networks: each one builds, has the size its paper says, and gives logits of the input's size."""

import pytest
import torch
from comparison_networks import LESION, NETWORKS, AnySize, FrozenResNetUNet, MissingExtraError, two_classes

from lightunet_monai.networks.profile import profile

PARAMETERS = {
    "unet": 31_043_586,
    "light": 4_198_000,
    "light_fixed": 4_197_986,
    "attention": 31_740_402,
    "unet_plus_plus": 9_119_464,
    "light_3d": 11_890_288,
    "resnet34": 24_439_269,
}
RESNET_TRAINABLE = 3_154_597


def build(name, divisor=1):
    try:
        return NETWORKS[name].build(divisor)
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.filterwarnings("ignore")  # of the packages behind the extra
@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_has_its_size_and_answers_for_any_size(name):
    network = build(name).eval()
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]
    channels, *size = NETWORKS[name].profile_shape
    small = (40, 33) if len(size) == 2 else (10, 9, 8)
    with torch.inference_mode():
        logits = AnySize(network)(torch.rand(1, channels, *small))
    assert logits.shape == (1, 21 if name == "resnet34" else 2, *small)
    assert two_classes(logits).shape == (1, 2, *small)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["attention", "unet_plus_plus", "light_3d", "resnet34"])
def test_multiply_adds_can_be_counted_for_each(name):
    costs = profile(build(name), NETWORKS[name].profile_shape)
    assert costs.parameters == PARAMETERS[name]
    assert 1e10 < costs.madd < 1e11


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_divided_widths_give_the_same_kind_of_network_with_fewer_parameters(name):
    entry = NETWORKS[name]
    network = build(name, 4)
    costs = profile(network, entry.profile_shape)
    share = costs.parameters / PARAMETERS[name]
    assert share == 1 if entry.has_fixed_widths else 1 / 17 < share < 1 / 15
    assert type(network) is type(build(name))


@pytest.mark.filterwarnings("ignore")
def test_the_resnet_encoder_is_frozen_and_the_rest_is_trained():
    network = build("resnet34")
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == RESNET_TRAINABLE
    assert not any(".encoder." in name for name in trained)
    note = NETWORKS["resnet34"].note(network)
    assert ("RANDOM" in note) is (network.weights is None)
    assert isinstance(network, FrozenResNetUNet)


def test_many_classes_become_two_with_the_same_probability_of_the_lesion():
    logits = torch.randn(2, 21, 5, 4, generator=torch.Generator().manual_seed(0))
    expected = logits.softmax(dim=1)[:, LESION]
    assert torch.allclose(two_classes(logits).softmax(dim=1)[:, 1], expected, atol=1e-6)
    assert torch.equal(two_classes(logits[:, :2]), logits[:, :2])
