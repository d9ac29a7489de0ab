"""Training that keeps the lesions of a teacher."""

import pytest
import torch
from monai.inferers import SimpleInferer

from lightunet_monai.errors import WeightsError
from lightunet_monai.networks import LightUNet
from lightunet_monai.training import ImitatingInferer, ImitationLoss
from lightunet_monai.transforms.channels import lesion_margin


def _network(channels, seed):
    torch.manual_seed(seed)
    return LightUNet(2, in_channels=3, out_channels=channels, widths=(4, 8))


def _margins(logits):
    return lesion_margin(logits.transpose(0, 1))


def _no_labels(logits, labels):
    return logits.sum() * 0.0


@pytest.fixture
def teacher(tmp_path):
    """A network of two classes, and the file of its weights."""
    network = _network(2, 1).eval()
    torch.save(network.state_dict(), tmp_path / "teacher.pt")
    return network, str(tmp_path / "teacher.pt")


@pytest.mark.parametrize("channels", [2, 5])
def test_the_teacher_answers_beside_the_network_that_is_trained(teacher, channels):
    network = _network(channels, 2)
    inferer = ImitatingInferer(SimpleInferer(), network, teacher[1])
    images = torch.randn(2, 3, 16, 16)
    outputs = inferer(images, network)
    assert outputs.shape == (2, channels + 1, 16, 16)
    torch.testing.assert_close(outputs[:, -1], _margins(teacher[0](images)))
    network.eval()
    torch.testing.assert_close(inferer(images, network)[:, :-1], network(images))


def test_training_changes_the_network_and_never_the_teacher(teacher):
    network = _network(5, 2)
    inferer, loss = ImitatingInferer(SimpleInferer(), network, teacher[1]), ImitationLoss(_no_labels, floor=-20.0)
    before = {name: value.clone() for name, value in inferer.teacher.state_dict().items()}
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    images, labels = torch.randn(4, 3, 16, 16), torch.zeros(4, 1, 16, 16)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        value = loss(inferer(images, network), labels)
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses[-1] < 0.2 * losses[0]
    for name, value in inferer.teacher.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_the_distance_counts_where_one_of_both_sees_a_trace():
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 1, 0] = torch.tensor([-9.0, 1.0, -9.0, -2.0])  # the network's logits of the lesion
    taught = torch.tensor([-12.0, 3.0, -5.5, -50.0]).reshape(1, 1, 1, 4)
    value = ImitationLoss(_no_labels, share=2.0, floor=-6.0)(torch.cat([logits, taught], 1), torch.zeros(1, 1, 1, 4))
    # None in the first voxel; 2, 3.5 and, as the teacher sees none at -50 nor at the floor, 4 in the others.
    assert float(value) == pytest.approx(2 * sum(abs(d) - 0.5 for d in (2.0, 3.5, 4.0)) / 3)


def test_without_a_trace_the_loss_is_that_of_the_labels():
    outputs = torch.full((1, 3, 2, 2), 0.0)
    outputs[:, 1:] = -30.0
    loss = ImitationLoss(lambda logits, labels: (logits - labels).mean())
    assert float(loss(outputs, torch.ones(1, 1, 2, 2))) == pytest.approx(-16.0)


def test_a_share_below_zero_and_a_teacher_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(ValueError, match="share: found -1, expected 0 or more"):
        ImitationLoss(_no_labels, share=-1)
    with pytest.raises(WeightsError, match=r"none\.pt"):
        ImitatingInferer(SimpleInferer(), _network(2, 0), str(tmp_path / "none.pt"))
    with pytest.raises(WeightsError, match="imitated: found none"):
        ImitatingInferer(SimpleInferer(), _network(2, 0), "")
