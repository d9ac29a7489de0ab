"""A network as a step of a transform: the logits are the network's, and its weights are checked."""

import hashlib

import pytest
import torch
from monai.data import MetaTensor

from lightunet_monai.errors import WeightsError
from lightunet_monai.inferers import SliceInferer
from lightunet_monai.networks import LightUNet
from lightunet_monai.transforms import PredictLogitsd
from tests.builders.bundle import WIDTHS, random_network

INFERER = SliceInferer([64, 64], neighbours=1, slice_axes=[2, 0])


def _network():
    return LightUNet(in_channels=3, out_channels=2, widths=WIDTHS)


@pytest.fixture
def the_weights(tmp_path):
    path = tmp_path / "small.pt"
    torch.save(random_network(5).state_dict(), path)
    return path


@pytest.fixture
def a_volume():
    return MetaTensor(torch.rand((1, 20, 17, 24), generator=torch.Generator().manual_seed(0)))


def test_the_logits_are_those_of_the_network_with_the_weights_of_the_file(the_weights, a_volume):
    sha256 = hashlib.sha256(the_weights.read_bytes()).hexdigest()
    predict = PredictLogitsd("image", _network(), INFERER, the_weights, sha256, output_keys="logits")
    out = predict({"image": a_volume, "other": 3})
    expected = INFERER(a_volume.as_tensor()[None], random_network(5))[0]
    assert out["logits"].shape == (2, 20, 17, 24)
    torch.testing.assert_close(out["logits"], expected.detach())
    assert not out["logits"].requires_grad
    assert out["image"] is a_volume
    assert out["other"] == 3


def test_the_weights_are_read_once_and_only_when_a_volume_comes(the_weights, a_volume):
    predict = PredictLogitsd("image", _network(), INFERER, the_weights)
    first = predict({"image": a_volume})["pred"]
    the_weights.unlink()
    torch.testing.assert_close(predict({"image": a_volume})["pred"], first)
    not_asked = PredictLogitsd("image", _network(), INFERER, the_weights)
    with pytest.raises(WeightsError, match=r"small\.pt: the weights .* are not there"):
        not_asked({"image": a_volume})


def test_weights_of_another_file_or_another_network_are_refused(the_weights, a_volume):
    with pytest.raises(WeightsError, match="SHA-256 starts with"):
        PredictLogitsd("image", _network(), INFERER, the_weights, "0" * 64)({"image": a_volume})
    wide = LightUNet(in_channels=3, out_channels=2, widths=(16, 32, 64, 128))
    with pytest.raises(WeightsError, match="entries do not fit LightUNet"):
        PredictLogitsd("image", wide, INFERER, the_weights)({"image": a_volume})
