"""Every engine against the reference, on random and on the shipped weights; how one is chosen."""

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from lightunet_monai.errors import InferenceError, UsageError
from lightunet_monai.inference import compiled_cache, engines, onnx_engines
from lightunet_monai.inference.engine import Engine, EngineRequest, EngineUnavailableError, input_channels
from lightunet_monai.inference.engines import choose_engine
from lightunet_monai.inference.onnx_engines import start_tensorrt
from lightunet_monai.inference.openvino_engine import start_openvino
from lightunet_monai.inference.torch_engines import computes_natively, start_tuned
from lightunet_monai.networks import LightUNet
from lightunet_monai.options import RunOptions
from tests.builders.bundle import SHIPPED, random_network

CPU = torch.device("cpu")
INSTALLED = ("torch", "torch-tuned", "openvino", "onnxruntime")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    # One folder for the module: what one test compiles the next one reads.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.fixture(scope="module")
def shipped_network():
    state = torch.load(SHIPPED / "models" / "model.pt", map_location="cpu", weights_only=True)
    network = LightUNet(in_channels=next(iter(state.values())).shape[1]).eval()
    network.load_state_dict(state)
    return network


def _slices(batch, height, width, channels=3, seed=0):
    # Smooth shapes under noise, so that both labels occur in pieces that have contours.
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, channels, height // 8 + 2, width // 8 + 2, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


def _dice(found, expected):
    return float(2 * (found & expected).sum() / (found.sum() + expected.sum()))


def _margin(logits):
    return logits[:, 1] - logits[:, 0]


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("shape", [(1, 64, 64), (4, 83, 98), (3, 31, 50), (2, 9, 120)])
def test_an_engine_gives_the_logits_of_the_reference_at_any_size(name, shape):
    network = random_network()
    engine = choose_engine(network, CPU, RunOptions(engine=name, threads=1))
    x = _slices(*shape)
    with torch.inference_mode():
        torch.testing.assert_close(engine(x), network(x), rtol=1e-4, atol=1e-4)
    assert (engine.name, engine.precision, engine.reason) == (name, "float32", "asked for")


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("weights", ["random", "shipped"])
def test_an_engine_gives_the_label_map_of_the_reference(name, weights, shipped_network):
    network = shipped_network if weights == "shipped" else random_network(2)
    engine = choose_engine(network, CPU, RunOptions(engine=name, threads=1))
    x = _slices(2, 104, 97, input_channels(network))
    with torch.inference_mode():
        expected, found = _margin(network(x)), _margin(engine(x))
    cut = expected.median()  # whatever the weights, both labels occur and contours are many
    assert _dice(found > cut, expected > cut) >= 0.999
    assert (found - expected).abs().max() < 1e-3


def test_the_compiled_network_gives_the_logits_of_the_reference():
    network = random_network()
    engine = choose_engine(network, CPU, RunOptions(engine="torch-compiled", threads=1))
    assert (engine.name, engine.precision) == ("torch-compiled", "float32")
    for shape in ((2, 40, 48), (1, 31, 50)):
        x = _slices(*shape)
        with torch.inference_mode():
            torch.testing.assert_close(engine(x), network(x), rtol=1e-4, atol=1e-4)


def test_without_a_compiler_the_compiled_network_is_refused_with_the_cause(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda network, **options: fail)
    with pytest.raises(UsageError, match=r"no C\+\+ compiler"):
        choose_engine(random_network(), CPU, RunOptions(engine="torch-compiled", threads=1))


def test_every_size_of_slice_is_compiled_not_the_first_eight_alone(monkeypatch):
    compiled = []

    def backend(graph, examples):
        compiled.append(tuple(examples[-1].shape))
        return graph.forward

    compile_with = torch.compile
    torch.compiler.reset()
    monkeypatch.setattr(
        torch, "compile", lambda net, dynamic, mode: compile_with(net, dynamic=dynamic, backend=backend)
    )
    network = random_network()
    engine = choose_engine(network, CPU, RunOptions(engine="torch-compiled", threads=1))
    with torch.inference_mode():
        for width in range(40, 136, 8):
            x = _slices(1, 32, width)
            torch.testing.assert_close(engine(x), network(x), rtol=1e-4, atol=1e-4)
    assert len(compiled) == 13  # the first one when the engine started


@pytest.mark.parametrize(("precision", "bound"), [("float16", 0.02), ("bfloat16", 0.15)])
def test_half_weights_stay_near_the_reference(precision, bound, shipped_network):
    engine = start_tuned(EngineRequest(shipped_network, CPU, precision, 1))
    x = _slices(1, 64, 72, input_channels(shipped_network))
    with torch.inference_mode():
        logits = engine(x)
        difference = (logits - shipped_network(x)).abs().max()
    assert logits.dtype == torch.float32
    assert 0 < difference < bound
    assert engine.precision == precision


def test_float16_keeps_the_label_map_of_the_shipped_weights(shipped_network):
    engine = start_tuned(EngineRequest(shipped_network, CPU, "float16", 1))
    x = _slices(4, 104, 97, input_channels(shipped_network))  # of a single one, ten voxels at the cut would decide
    with torch.inference_mode():
        expected, found = _margin(shipped_network(x)), _margin(engine(x))
    cut = expected.median()  # whatever the weights, both labels occur and contours are many
    assert _dice(found > cut, expected > cut) >= 0.997  # in noise one voxel in 200 lies within 0.01 of any cut
    assert (found - expected).abs().max() < 0.03


@pytest.mark.skipif(not computes_natively("float16"), reason="this processor has no float16 units")
def test_float16_for_the_asking_keeps_the_label_map_on_a_processor_with_its_units(shipped_network):
    engine = choose_engine(shipped_network, CPU, RunOptions(precision="float16", threads=1))
    assert (engine.name, engine.precision) == ("openvino", "float16")
    x = _slices(2, 104, 97, input_channels(shipped_network))
    with torch.inference_mode():
        expected, found = _margin(shipped_network(x)), _margin(engine(x))
    cut = expected.median()  # whatever the weights, both labels occur and contours are many
    assert _dice(found > cut, expected > cut) >= 0.997
    assert (found - expected).abs().max() < 0.03


def test_auto_takes_the_fastest_that_is_installed_and_says_so():
    engine = choose_engine(random_network(), CPU, RunOptions(threads=1, precision="float32"))
    assert (engine.name, engine.reason, engine.warnings) == ("onnxruntime", "the fastest that is installed", [])


@pytest.mark.parametrize("name", [None, *INSTALLED])
def test_without_the_asking_every_cpu_computes_in_float32_whatever_units_it_has(name):
    assert choose_engine(random_network(), CPU, RunOptions(engine=name, threads=1)).precision == "float32"


def test_auto_says_what_is_not_installed(monkeypatch):
    monkeypatch.setattr(engines, "is_installed", lambda module: False)
    engine = choose_engine(random_network(), CPU, RunOptions(precision="float32"))
    assert engine.name == "torch-tuned"
    assert engine.reason == "the fastest that is installed; onnxruntime is not installed; openvino is not installed"


def test_auto_goes_on_with_a_warning_when_an_engine_does_not_start(monkeypatch):
    def broken(request):
        raise RuntimeError("no such instruction\nmore")

    monkeypatch.setitem(engines.STARTS, "onnxruntime", broken)
    engine = choose_engine(random_network(), CPU, RunOptions(threads=1, precision="float32"))
    assert engine.name == "openvino"
    assert engine.reason == "the fastest that is installed; onnxruntime did not start"
    assert engine.warnings == ["engine onnxruntime did not start (no such instruction); a slower one is used."]


def test_an_engine_asked_for_by_name_that_does_not_start_is_named(monkeypatch):
    def broken(request):
        raise RuntimeError("no such instruction.\nmore")

    monkeypatch.setitem(engines.STARTS, "openvino", broken)
    with pytest.raises(InferenceError, match=r"engine openvino did not start: no such instruction\. ") as caught:
        choose_engine(random_network(), CPU, RunOptions(engine="openvino", threads=1))
    assert "--engine" in caught.value.hint


def test_where_no_engine_starts_each_cause_is_told(monkeypatch):
    def broken(request):
        raise RuntimeError("no such instruction")

    for name in engines.STARTS:
        monkeypatch.setitem(engines.STARTS, name, broken)
    with pytest.raises(
        UsageError, match=r"no engine starts on cpu: onnxruntime did not start \(no such instruction\); "
    ):
        choose_engine(random_network(), CPU, RunOptions(threads=1))


def test_auto_with_a_precision_takes_the_first_engine_that_has_it():
    has_it = "BF16" in __import__("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    engine = choose_engine(random_network(), CPU, RunOptions(precision="bfloat16", threads=1))
    assert engine.name == ("openvino" if has_it else "torch-tuned")
    assert engine.precision == "bfloat16"


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_a_precision_that_an_engine_lacks_is_refused_by_name(name):
    with pytest.raises(UsageError, match=f"found bfloat16, expected float32.* with engine {name} on this CPU"):
        choose_engine(random_network(), CPU, RunOptions(engine=name, precision="bfloat16"))


def test_an_engine_of_another_device_is_refused_by_name():
    with pytest.raises(UsageError, match="tensorrt runs on NVIDIA GPUs, not on cpu"):
        choose_engine(random_network(), CPU, RunOptions(engine="tensorrt"))
    with pytest.raises(EngineUnavailableError, match="runs on the CPU, not on cuda"):
        start_openvino(EngineRequest(random_network(), torch.device("cuda"), None, 1))


@pytest.mark.parametrize(("name", "module"), [("openvino", "openvino"), ("onnxruntime", "onnxruntime")])
def test_a_missing_package_names_the_extra_that_installs_it(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"needs the package {module}: pip install 'lightunet_monai\[{name}\]'"):
        choose_engine(random_network(), CPU, RunOptions(engine=name))


def test_tensorrt_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineUnavailableError, match="needs the package tensorrt"):
        start_tensorrt(EngineRequest(random_network(), torch.device("cuda"), None, 1))


class _TensorRT:
    """As much of the package as an engine needs to start: plans that were kept elsewhere cannot be read."""

    __version__ = "1"

    class Logger:
        ERROR = 0

        def __init__(self, level):
            self.level = level

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, plan):
            return "engine" if plan == b"built here" else None


def test_a_tensorrt_plan_that_cannot_be_read_is_built_anew(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", _TensorRT)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(onnx_engines, "read_compiled", lambda key: b"built elsewhere")
    kept = []
    monkeypatch.setattr(onnx_engines, "write_compiled", lambda key, body: kept.append(body))
    monkeypatch.setattr(onnx_engines, "_build_plan", lambda *_, half: b"built here")
    monkeypatch.setattr(onnx_engines, "_tensorrt_caller", lambda engine, device: engine)
    assert start_tensorrt(EngineRequest(random_network(), torch.device("cuda"), None, 1)).call == "engine"
    assert kept == [b"built here"]


def test_an_input_beyond_the_limits_of_tensorrt_is_told_with_them():
    class Context:
        def set_input_shape(self, name, shape):
            return False

    class Plan:
        def create_execution_context(self):
            return Context()

    call = onnx_engines._tensorrt_caller(Plan(), CPU)
    with pytest.raises(InferenceError, match="found 32 windows of 9 x 600 voxels, expected at most 16, of 8 to 512"):
        call(torch.zeros(32, 3, 9, 600))


def test_a_compiled_model_is_read_the_second_time(monkeypatch):
    network = random_network(11)
    first = start_openvino(EngineRequest(network, CPU, None, 1))
    monkeypatch.setattr("lightunet_monai.inference.openvino_engine._convert", lambda network: pytest.fail("converted"))
    second = start_openvino(EngineRequest(network, CPU, None, 2))
    x = _slices(1, 40, 40)
    assert torch.equal(first(x), second(x))


def test_other_weights_are_another_compiled_model():
    x = _slices(1, 40, 40)
    for seed in (21, 22):
        network = random_network(seed)
        engine = start_openvino(EngineRequest(network, CPU, None, 1))
        with torch.inference_mode():
            torch.testing.assert_close(engine(x), network(x), rtol=1e-4, atol=1e-4)


def _network_of(path, body):
    path.write_text(f"import torch\n\nclass Own(torch.nn.Module):\n    def forward(self, x):\n        return {body}\n")
    spec = importlib.util.spec_from_file_location("own_network", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["own_network"] = module
    spec.loader.exec_module(module)
    compiled_cache._content_hash.cache_clear()  # as in a new process
    return module.Own()


def test_other_code_of_the_network_is_another_compiled_model(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "own_network", None)
    keys = [compiled_cache.network_key(_network_of(tmp_path / f"{n}.py", f"x * {n}"), ["onnx"]) for n in (2, 3, 2)]
    assert keys[0] != keys[1]
    again = [compiled_cache.network_key(_network_of(tmp_path / "a.py", "x * 2"), ["onnx"]) for _ in range(2)]
    assert keys[0] == keys[2] == again[0] == again[1]


def test_other_code_of_what_exports_is_another_compiled_model(tmp_path, monkeypatch):
    network = random_network()
    before = compiled_cache.network_key(network, ["onnx"])
    names = {Path(path).name for path in compiled_cache._files_of(network)}
    assert names == {"light_unet.py", "layers.py"}
    (tmp_path / "onnx_engines.py").write_text("OPSET = 18")
    monkeypatch.setattr(compiled_cache, "EXPORTING", (str(tmp_path / "onnx_engines.py"),))
    assert compiled_cache.network_key(network, ["onnx"]) != before


@pytest.mark.parametrize("damage", [lambda content: content[:5000], lambda content: content[:-1] + b"x"])
def test_a_damaged_compiled_model_is_made_anew(damage):
    network = random_network(31)
    first = start_openvino(EngineRequest(network, CPU, None, 1))
    paths = sorted(compiled_cache.cache_folder().iterdir(), key=lambda path: path.stat().st_mtime_ns)
    newest = paths[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    assert compiled_cache.read_compiled(newest.name) is None
    second = start_openvino(EngineRequest(network, CPU, None, 1))
    x = _slices(1, 40, 40)
    assert torch.equal(first(x), second(x))
    assert compiled_cache.read_compiled(newest.name) is not None  # its size differs by the numbers in OpenVINO's names


def test_a_cache_that_cannot_be_written_costs_time_only(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    engine = start_openvino(EngineRequest(random_network(), CPU, None, 1))
    assert engine(_slices(1, 16, 16)).shape == (1, 2, 16, 16)


def test_without_a_home_folder_nothing_is_kept_and_engines_start(monkeypatch):
    def refuse():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", refuse)
    engine = choose_engine(random_network(), CPU, RunOptions(engine="onnxruntime", threads=1))
    assert engine(_slices(1, 16, 16)).shape == (1, 2, 16, 16)


def test_engines_that_start_at_once_leave_whole_files_only(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    body = bytes(range(256)) * 4000
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            list(pool.map(lambda _: compiled_cache.write_compiled("key", body), range(4)))
            assert compiled_cache.read_compiled("key") == body
    assert [path.name for path in compiled_cache.cache_folder().iterdir()] == ["key"]


def test_the_cache_keeps_what_was_used_last(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for index in range(compiled_cache.KEPT_FILES + 3):
        compiled_cache.write_compiled(f"key{index}", b"body")
        compiled_cache.read_compiled("key0")
    assert len(list(compiled_cache.cache_folder().iterdir())) == compiled_cache.KEPT_FILES
    assert compiled_cache.read_compiled("key0") == b"body"


def test_a_compiled_model_that_may_be_read_but_not_touched_is_used(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise PermissionError("read-only file system")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled_cache.write_compiled("key", b"body")
    monkeypatch.setattr("os.utime", refuse)
    assert compiled_cache.read_compiled("key") == b"body"


def test_several_threads_may_share_an_engine():
    engine = choose_engine(random_network(), CPU, RunOptions(engine="openvino", threads=1))
    inputs = [_slices(1, 40 + 8 * (index % 3), 48, seed=index) for index in range(12)]
    expected = [engine(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine, inputs))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_an_engine_is_called_like_the_network():
    assert Engine(lambda x: x + 1, "torch", "float32")(torch.ones(1)).item() == 2


GROWTH = """
import sys
import torch
from lightunet_monai.inference import openvino_engine
from lightunet_monai.inference.engine import EngineRequest
from lightunet_monai.networks import LightUNet

if "keep" in sys.argv:
    openvino_engine.KEEP_NO_SHAPES.clear()
request = EngineRequest(LightUNet(in_channels=5).eval(), torch.device("cpu"), precision=None, threads=1)
engine = openvino_engine.start_openvino(request)
engine(torch.zeros(1, 5, 112, 112))  # the largest: what a slice needs itself is there
for number in range(60):
    engine(torch.zeros(1, 5, 32 + 8 * (number % 10), 32 + 8 * (number // 10)))
    if number in (19, 59):
        with open("/proc/self/statm") as facts:
            print(int(facts.read().split()[1]) * 4096)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
def test_memory_does_not_grow_with_the_shapes_of_slices():
    """A batch of studies in one process: each has other slices."""

    def growth(*words):
        command = [sys.executable, "-c", GROWTH, *words]
        before, after = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return int(after) - int(before)

    assert growth() < 0.6 * growth("keep")
