"""The network in 8-bit integers: ranges, how near it stays to float32, and when it is refused."""

import hashlib
import json

import pytest
import torch

from lightunet_monai.errors import BundleError, UsageError
from lightunet_monai.inference import Predictor, engines, onnx_engines
from lightunet_monai.inference.engines import choose_engine
from lightunet_monai.inference.int8 import measure_ranges
from lightunet_monai.options import RunOptions
from tests.builders.bundle import random_network, tiny_bundle
from tests.builders.volume import make_nifti, make_voxels

CPU = torch.device("cpu")
INT8 = RunOptions(engine="onnxruntime", precision="int8", threads=1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _slices(count, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=generator)


def _bundle_with_ranges(folder):
    root = tiny_bundle(folder)
    network = random_network()
    content = {
        "weights_sha256": hashlib.sha256((root / "models" / "model.pt").read_bytes()).hexdigest(),
        "ranges": measure_ranges(network, [_slices(4, 64, 64)]),
    }
    (root / "configs" / "int8.json").write_text(json.dumps(content))
    return root


def test_every_convolution_has_a_range_that_holds_zero_and_what_it_saw():
    ranges = measure_ranges(random_network(), [_slices(2, 48, 40)])
    assert len(ranges) == sum(isinstance(m, torch.nn.Conv2d) for m in random_network().modules())
    assert all(
        low_in <= 0 <= high_in and low_out <= 0 <= high_out for low_in, high_in, low_out, high_out in ranges.values()
    )
    assert ranges["inc.0"][1] == pytest.approx(float(_slices(2, 48, 40).max()))


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 31, 50)])
def test_int8_stays_near_float32_at_any_size(shape):
    network = random_network()
    x = _slices(*shape, seed=1)
    engine = choose_engine(network, CPU, INT8, int8_ranges=measure_ranges(network, [_slices(4, 64, 64)]))
    with torch.inference_mode():
        found, expected = engine(x), network(x)
    assert engine.precision == "int8"
    assert 0 < (found - expected).abs().mean() < 0.1 * expected.std()  # rounded, so not equal


def test_the_shipped_ranges_belong_to_the_shipped_weights(tmp_path):
    predictor = Predictor(options=INT8)
    assert predictor.parts.int8_ranges
    result = predictor.segment(make_nifti(tmp_path / "a.nii.gz", make_voxels((40, 36, 30)))).segmentation
    assert result.provenance.precision == "int8"


def test_the_ranges_of_other_weights_are_not_used(tmp_path):
    root = _bundle_with_ranges(tmp_path / "bundle")
    assert Predictor(root, INT8).engine.precision == "int8"
    content = json.loads((root / "configs" / "int8.json").read_text())
    (root / "configs" / "int8.json").write_text(json.dumps({**content, "weights_sha256": "0" * 64}))
    with pytest.raises(UsageError, match="no ranges for its weights"):
        Predictor(root, INT8)


def test_a_missing_range_is_named(tmp_path):
    root = _bundle_with_ranges(tmp_path / "bundle")
    content = json.loads((root / "configs" / "int8.json").read_text())
    del content["ranges"]["up.1.conv.3"]
    (root / "configs" / "int8.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"up\.1\.conv\.3"):
        Predictor(root, INT8)


def test_a_damaged_file_of_ranges_is_named(tmp_path):
    root = _bundle_with_ranges(tmp_path / "bundle")
    (root / "configs" / "int8.json").write_text('{"weights_sha256": ')
    with pytest.raises(BundleError, match=r"int8\.json"):
        Predictor(root)


@pytest.mark.parametrize("engine", [None, "onnxruntime"])
def test_missing_ranges_are_told_with_the_way_to_measure_them(engine):
    with pytest.raises(UsageError, match="no ranges for its weights") as caught:
        choose_engine(random_network(), CPU, RunOptions(engine=engine, precision="int8", threads=1))
    assert "scripts/measure_int8.py" in caught.value.hint
    assert "--engine" not in caught.value.hint


def test_without_the_engine_that_has_int8_each_reason_is_told(monkeypatch):
    monkeypatch.setattr(engines, "is_installed", lambda module: module != "onnxruntime")
    with pytest.raises(UsageError, match="onnxruntime is not installed; openvino has no int8; torch-tuned has no int8"):
        choose_engine(random_network(), CPU, RunOptions(precision="int8", threads=1))


def test_another_version_of_what_rounds_is_another_compiled_model(monkeypatch):
    network = random_network()
    ranges = measure_ranges(network, [_slices(4, 64, 64)])
    rounded = []
    quantize = onnx_engines.quantize
    monkeypatch.setattr(onnx_engines, "quantize", lambda *given: rounded.append(1) or quantize(*given))
    for version, times in (("1.0", 1), ("1.0", 1), ("2.0", 2)):
        monkeypatch.setattr(onnx_engines, "version_of", lambda package, version=version: version)
        choose_engine(network, CPU, INT8, int8_ranges=ranges)
        assert len(rounded) == times


@pytest.mark.parametrize("engine", ["torch", "torch-tuned", "openvino"])
def test_engines_without_int8_refuse_it(engine):
    with pytest.raises(UsageError, match="precision") as caught:
        choose_engine(random_network(), CPU, RunOptions(engine=engine, precision="int8", threads=1))
    assert "torch-tuned" not in caught.value.hint
    assert "--engine onnxruntime" in caught.value.hint


def test_a_range_of_three_numbers_is_told_with_its_file(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    weights = hashlib.sha256((bundle / "models" / "model.pt").read_bytes()).hexdigest()
    content = {"weights_sha256": weights, "ranges": {"inc.0": [0, 1, 2]}}
    (bundle / "configs" / "int8.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"int8\.json: cannot be used: ValueError"):
        Predictor(bundle, RunOptions(engine="torch"))
