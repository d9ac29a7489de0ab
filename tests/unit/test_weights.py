"""Weights of a training that has diverged are no model: nothing is segmented or compared with them."""

import hashlib
import json

import pytest
import torch

from lightunet_monai.cli import main
from lightunet_monai.errors import WeightsError
from lightunet_monai.weights import load_weights, not_finite
from tests.builders.bundle import tiny_bundle
from tests.builders.volume import make_nifti, make_voxels


def test_entries_that_are_not_finite_are_named_and_counts_are_not_looked_at():
    state = {"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")]), "count": torch.tensor(3)}
    assert not_finite(state) == ["b"]
    assert not_finite({"half": torch.tensor([float("inf")], dtype=torch.float16)}) == ["half"]


@pytest.mark.parametrize("content", [[1, 2], 3, None, torch.ones(3), {"outc.bias": 1.0}, {"model": {"outc.bias": 1.0}}])
def test_a_file_that_holds_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=rf"model\.pt: found a {type(content).__name__}, expected a state dict"):
        load_weights(torch.nn.Linear(2, 2), tmp_path / "model.pt")


def test_entries_that_do_not_fit_are_named_whatever_their_names_are(tmp_path):
    torch.save({1: torch.ones(2), "bias": torch.ones(2)}, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"2 of 2 entries do not fit Linear, the first are 1, weight\."):
        load_weights(torch.nn.Linear(2, 2), tmp_path / "model.pt")


@pytest.mark.parametrize("command", ["segment", "evaluate"])
def test_weights_that_are_not_finite_are_refused(tmp_path, capsys, command):
    bundle = tiny_bundle(tmp_path / "bundle")
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    state["outc.bias"][1] = float("nan")
    torch.save(state, bundle / "models" / "model.pt")
    image = make_nifti(tmp_path / "image.nii.gz")
    label = make_nifti(tmp_path / "label.nii.gz", (make_voxels() > 40).astype("uint8"))
    (tmp_path / "list.json").write_text(json.dumps({"test": [{"image": image.name, "label": label.name}]}))
    given = [str(image)] if command == "segment" else ["--data", str(tmp_path / "list.json")]
    assert main([command, *given, "-o", str(tmp_path / "out"), "--bundle", str(bundle), "--device", "cpu"]) == 1
    message = capsys.readouterr().err
    assert "model.pt: 1 of" in message
    assert "entries are not finite, the first are outc.bias" in message
    assert "lower --learning-rate" in message
    assert not (tmp_path / "out" / "report.json").exists()


def test_the_hash_is_that_of_the_weights_in_the_network_though_the_file_is_replaced_meanwhile(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    network = torch.nn.Linear(2, 2)
    torch.save({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, path)
    read = type(path).read_bytes

    def read_and_replace(self):
        content = read(self)
        torch.save({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, path)
        return content

    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(type(path), "read_bytes", read_and_replace)
    assert load_weights(network, path) == expected
    assert network.weight.detach().eq(1).all()
