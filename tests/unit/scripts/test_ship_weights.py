"""New weights in a bundle: half the size, stamped, and opened by it."""

import hashlib
import json
import shutil

import pytest
import torch
from ship_weights import main, store

from lightunet_monai.inference.bundle import open_bundle
from tests.builders.bundle import tiny_bundle


def test_weights_are_stored_by_half_and_stamped(tmp_path):
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
    assert torch.allclose(network.state_dict()[name], before[name], rtol=2**-8, atol=1e-6)


def test_weights_that_find_muscle_are_stamped_in_the_configuration(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    settings = bundle / "configs" / "inference.json"
    before, metadata = settings.read_text(), (bundle / "configs" / "metadata.json").read_text()
    model = (bundle / "models" / "model.pt").read_bytes()
    shutil.copy(bundle / "models" / "muscle.pt", tmp_path / "new.pt")
    assert main([str(tmp_path / "new.pt"), "--bundle", str(bundle), "--muscle"]) == 0
    sha256 = hashlib.sha256((bundle / "models" / "muscle.pt").read_bytes()).hexdigest()
    assert settings.read_text() == before.replace('"muscle_sha256": ""', f'"muscle_sha256": "{sha256}"')
    assert (bundle / "configs" / "metadata.json").read_text() == metadata
    assert (bundle / "models" / "model.pt").read_bytes() == model
    assert open_bundle(bundle).settings["muscle_sha256"] == sha256


def test_convolution_weights_keep_eight_significant_bits(tmp_path):
    values = torch.tensor([[1.0, 1.0 + 2**-7, 1.0 + 2**-9, -0.3, 0.0, 3.0e-5]])
    torch.save({"a": values, "b": values[0]}, tmp_path / "in.pt")
    store(tmp_path / "in.pt", tmp_path / "out.pt")
    stored = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(stored["b"], values[0])
    assert stored["a"][0, :3].tolist() == [1.0, 1.0 + 2**-7, 1.0]
    assert stored["a"][0, 4] == 0
    torch.testing.assert_close(stored["a"].float(), values, rtol=2**-8, atol=1e-7)
    assert ((stored["a"].view(torch.int16) & 0b111)[0, :4] == 0).all()


def test_what_float16_cannot_hold_is_refused_and_nothing_is_replaced(tmp_path):
    torch.save({"a": torch.full((2, 2), 1e6)}, tmp_path / "wide.pt")
    with pytest.raises(ValueError, match="beyond float16"):
        store(tmp_path / "wide.pt", tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()
    torch.save({"epoch": 3}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="plain state dict"):
        store(tmp_path / "run.pt", tmp_path / "out.pt")
