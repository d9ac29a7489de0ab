"""New weights in a bundle: in few bits, stamped, and opened by it."""

import hashlib
import json
import shutil

import pytest
import torch
from ship_weights import main, store

from lightunet_monai.inference.bundle import open_bundle
from tests.builders.bundle import tiny_bundle


def test_weights_are_stored_in_few_bits_and_stamped(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    file = bundle / "models" / "model.pt"
    before = torch.load(file, weights_only=True)
    name = next(key for key, value in before.items() if value.ndim > 1)
    shutil.copy(file, tmp_path / "new.pt")
    settings = bundle / "configs" / "metadata.json"
    old = hashlib.sha256(file.read_bytes()).hexdigest()
    metadata = settings.read_text().replace('"weights_sha256": ""', f'"weights_sha256": "{old}"', 1)
    settings.write_text(metadata)

    assert main([str(tmp_path / "new.pt"), "--bundle", str(bundle)]) == 0

    stored = torch.load(file, weights_only=True)
    assert file.stat().st_size < 0.75 * (tmp_path / "new.pt").stat().st_size
    assert stored[name].dtype == torch.float16
    assert {value.dtype for value in stored.values() if value.ndim == 1} == {torch.float32}
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert json.loads(settings.read_text())["weights_sha256"] == sha256
    assert settings.read_text() == metadata.replace(old, sha256)
    network = open_bundle(bundle).network
    assert network.state_dict()[name].dtype == torch.float32
    largest = before[name].abs().flatten(1).amax(dim=1).reshape(-1, 1, 1, 1)
    assert ((network.state_dict()[name] - before[name]).abs() <= largest / 256).all()
    nine_bits = file.stat().st_size
    assert main([str(tmp_path / "new.pt"), "--bundle", str(bundle), "--bits", "7"]) == 0
    assert file.stat().st_size < nine_bits
    assert ((open_bundle(bundle).network.state_dict()[name] - before[name]).abs() <= largest / 64).all()


def test_weights_that_find_left_out_are_stamped_in_the_configuration(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    settings = bundle / "configs" / "inference.json"
    before, metadata = settings.read_text(), (bundle / "configs" / "metadata.json").read_text()
    model = (bundle / "models" / "model.pt").read_bytes()
    shutil.copy(bundle / "models" / "left_out.pt", tmp_path / "new.pt")
    assert main([str(tmp_path / "new.pt"), "--bundle", str(bundle), "--left-out"]) == 0
    sha256 = hashlib.sha256((bundle / "models" / "left_out.pt").read_bytes()).hexdigest()
    assert settings.read_text() == before.replace('"left_out_sha256": ""', f'"left_out_sha256": "{sha256}"')
    assert (bundle / "configs" / "metadata.json").read_text() == metadata
    assert (bundle / "models" / "model.pt").read_bytes() == model
    assert open_bundle(bundle).settings["left_out_sha256"] == sha256


def test_a_bundle_that_cannot_be_stamped_keeps_its_weights(tmp_path, capsys):
    bundle = tiny_bundle(tmp_path / "bundle")  # with one empty hash for all models
    file = bundle / "models" / "tissues.pt"
    before = file.read_bytes()
    shutil.copy(file, tmp_path / "new.pt")
    with pytest.raises(SystemExit, match="found 3 times, expected once"):
        main([str(tmp_path / "new.pt"), "--bundle", str(bundle), "--model", "tissues"])
    with pytest.raises(SystemExit):
        main([str(tmp_path / "new.pt"), "--bundle", str(bundle), "--model", "liver"])
    assert "found liver, expected one of breast-ct, tissues, ultrasound" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_convolution_weights_become_multiples_of_a_step_of_their_row(tmp_path):
    values = torch.tensor([[1.0, 0.5 + 2**-8, 0.5 + 2**-9 + 2**-11, -0.3, 0.0, 3.0e-5], [6e-3, 5e-3, 0, 0, 0, -1e-3]])
    values = torch.cat([values, torch.zeros(1, 6)])
    torch.save({"a": values, "b": values[0]}, tmp_path / "in.pt")
    first = store(tmp_path / "in.pt", tmp_path / "out.pt")
    stored = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(stored["b"], values[0])
    assert stored["a"][0].tolist() == [1.0, 0.5 + 2**-8, 0.5 + 2**-8, -77 / 256, 0.0, 0.0]
    assert stored["a"][1, :3].tolist() == [round(x * 2**15) / 2**15 for x in (6e-3, 5e-3, 0)]
    assert (stored["a"][2] == 0).all()
    assert store(tmp_path / "in.pt", tmp_path / "out.pt") == first, "the same weights give the same file"


def test_what_float16_cannot_hold_is_refused_and_nothing_is_replaced(tmp_path):
    torch.save({"a": torch.full((2, 2), 1e6)}, tmp_path / "wide.pt")
    with pytest.raises(ValueError, match="beyond float16"):
        store(tmp_path / "wide.pt", tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()
    torch.save({"epoch": 3}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="plain state dict"):
        store(tmp_path / "run.pt", tmp_path / "out.pt")


def test_two_weights_are_stored_as_their_mean(tmp_path):
    first, second = torch.tensor([[1.0, 0.5]]), torch.tensor([[0.5, 0.25]])
    torch.save({"a": first, "b": first[0], "n": torch.tensor(3)}, tmp_path / "first.pt")
    torch.save({"a": second.half(), "b": second[0], "n": torch.tensor(5)}, tmp_path / "second.pt")
    store(tmp_path / "first.pt", tmp_path / "out.pt", other=tmp_path / "second.pt")
    stored = torch.load(tmp_path / "out.pt", weights_only=True)
    assert stored["a"].tolist() == [[0.75, 0.375]]
    assert stored["b"].tolist() == [0.75, 0.375]
    assert stored["n"] == 3  # a count, no weight

    torch.save({"a": second[:, :1], "b": second[0], "n": torch.tensor(5)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="another network"):
        store(tmp_path / "first.pt", tmp_path / "out.pt", other=tmp_path / "other.pt")
