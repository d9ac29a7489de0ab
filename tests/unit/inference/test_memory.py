"""What happens when memory runs out."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightunet_monai.errors import DeviceMemoryError
from lightunet_monai.inference import Predictor
from lightunet_monai.inference.engine import Engine
from lightunet_monai.inference.memory import Load, MemoryLadder, is_out_of_memory, lighter_loads, smallest_window
from lightunet_monai.inference.predictor import _ladder
from lightunet_monai.inferers import SliceInferer
from lightunet_monai.options import RunOptions
from tests.builders.bundle import tiny_bundle
from tests.builders.volume import make_affine, make_nifti, make_voxels


def _fails_above(engine, voxels, error):
    def call(x):
        if x.shape[0] * x.shape[-1] * x.shape[-2] > voxels:
            raise error
        return engine(x)

    return Engine(call, engine.name, engine.precision)


def test_loads_get_lighter_windows_first_then_size_then_the_cpu():
    said = [text for _, text in lighter_loads(Load(4, (512, 512), "cuda"), smallest=176)]
    assert said == [
        "memory ran out on cuda: 2 windows at once.",
        "memory ran out on cuda: 1 windows at once.",
        "memory ran out on cuda: windows of 256 x 256 voxels.",
        "memory ran out on cuda: windows of 176 x 176 voxels.",
        "memory ran out on cuda: the network runs on the CPU.",
        "memory ran out on cpu: 2 windows at once.",
        "memory ran out on cpu: 1 windows at once.",
        "memory ran out on cpu: windows of 256 x 256 voxels.",
        "memory ran out on cpu: windows of 176 x 176 voxels.",
    ]


@pytest.mark.parametrize(("halo", "smallest"), [(56, 176), (96, 256)])
def test_the_smallest_window_of_a_predictor_has_room_between_the_halos_of_its_inferer(halo, smallest):
    parts = SimpleNamespace(inferer=SliceInferer((512, 512), sw_batch_size=1, halo=halo), device="cpu")
    tried = []

    def work(load):
        tried.append(load.roi_size[0])
        raise MemoryError

    with pytest.raises(DeviceMemoryError):
        _ladder(parts).run(work)
    assert tried[-1] == smallest_window(halo) == smallest  # two halos and 64 voxels that are kept


def test_blended_windows_keep_their_size_because_the_result_depends_on_it():
    loads = [load for load, _ in lighter_loads(Load(2, (512, 512), "cpu"), smallest=None)]
    assert loads == [Load(1, (512, 512), "cpu")]


def test_what_one_case_needed_is_kept_for_the_next():
    ladder = MemoryLadder(Load(4, (160, 160), "cpu"), smallest=176)
    tried = []

    def work(load):
        tried.append(load.sw_batch_size)
        if load.sw_batch_size > 2:
            raise MemoryError
        return "done"

    assert [ladder.run(work), ladder.run(work)] == ["done", "done"]
    assert tried == [4, 2, 2]
    assert ladder.steps == [
        "memory ran out in an earlier case: since then the network runs on cpu with windows of 160 x 160 voxels, "
        "2 at once."
    ]


def test_a_case_that_nothing_fits_leaves_no_trace():
    ladder = MemoryLadder(Load(4, (512, 512), "cuda"), smallest=176)

    def work(load):
        raise MemoryError

    with pytest.raises(DeviceMemoryError):
        ladder.run(work)
    assert ladder.run(lambda load: load) == Load(4, (512, 512), "cuda")
    assert ladder.steps == []


def test_when_nothing_fits_the_error_names_the_device_and_the_window():
    ladder = MemoryLadder(Load(2, (160, 160), "cpu"), smallest=176)

    def work(load):
        raise RuntimeError("std::bad_alloc")

    with pytest.raises(DeviceMemoryError, match="memory of cpu, one window of 160 x 160 voxels at a time: std::bad_al"):
        ladder.run(work)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    ladder = MemoryLadder(Load(4, (160, 160), "cpu"), smallest=176)

    def work(load):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        ladder.run(work)
    assert ladder.steps == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 34359738368 bytes."),
        RuntimeError("bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 536870912"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned: bad allocation"),
    ],
)
def test_each_library_says_it_in_its_own_words(error):
    assert is_out_of_memory(error)


def test_torch_itself_is_understood_when_it_cannot_allocate():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert is_out_of_memory(caught.value)


def test_a_case_that_does_not_fit_gives_the_same_labels_and_says_what_it_took(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    config = bundle / "configs" / "inference.json"
    content = json.loads(config.read_text())
    content["inferer"].update(roi_size=[512, 512], sw_batch_size=2)
    content["model_spacing"] = [1.5, 1.5, 3.0]
    config.write_text(json.dumps(content))
    # 360 x 336 mm: more than one of the smallest windows
    image = make_nifti(tmp_path / "a.nii.gz", make_voxels((60, 56, 12)), make_affine((6.0, 6.0, 3.0)))
    predictor = Predictor(bundle, RunOptions(threads=1))
    expected = predictor.segment(image)
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    predictor.engine = _fails_above(predictor.engine, 176 * 176, error)
    found = predictor.segment(image)
    steps = ["1 windows at once", "windows of 256 x 256 voxels", "windows of 176 x 176 voxels"]
    assert found.warnings == [*expected.warnings, *(f"memory ran out on cpu: {step}." for step in steps)]
    assert np.any(expected.segmentation.label_map)
    assert (expected.segmentation.label_map != found.segmentation.label_map).mean() < 1e-4


def test_after_a_case_that_fits_nowhere_the_next_one_runs_as_the_first_did(tmp_path, monkeypatch):
    image = make_nifti(tmp_path / "a.nii.gz", make_voxels((40, 36, 30)))
    predictor = Predictor(tiny_bundle(tmp_path / "bundle"), RunOptions(threads=1))
    expected, network, engine = predictor.segment(image), predictor.parts.network, predictor.engine
    monkeypatch.setattr("lightunet_monai.inference.predictor._upload", lambda volume, device: volume)
    predictor.parts = dataclasses.replace(predictor.parts, device=torch.device("cuda"))  # as if there were one
    predictor._ladder = MemoryLadder(Load(2, (160, 160), "cuda"), smallest=176)
    chosen = []

    def choose(network, device, options):
        chosen.append((network, device.type))
        return _fails_above(engine, 0, MemoryError())

    monkeypatch.setattr("lightunet_monai.inference.predictor.choose_engine", choose)
    predictor.engine = _fails_above(engine, 0, MemoryError())
    with pytest.raises(DeviceMemoryError, match="memory of cpu"):
        predictor.segment(image)
    ((copied, device),) = chosen
    assert device == "cpu"
    assert copied is not network
    assert all(torch.equal(value, copied.state_dict()[name]) for name, value in network.state_dict().items())
    assert (predictor.parts.network, predictor.parts.device.type) == (network, "cuda")
    predictor.engine = engine
    found = predictor.segment(image)
    assert found.warnings == expected.warnings
    np.testing.assert_array_equal(found.segmentation.label_map, expected.segmentation.label_map)
