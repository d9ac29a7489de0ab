"""Engines that read ONNX: ONNX Runtime on the CPU, TensorRT on NVIDIA GPUs."""

from __future__ import annotations

import io
import threading
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InferenceError, UsageError
from .compiled_cache import network_key, read_compiled, write_compiled
from .engine import Engine, EngineRequest, EngineUnavailableError, trace
from .int8 import MEASURE_HINT, quantize
from .optional import import_optional, version_of

OPSET = 17

TENSORRT_SHAPES = ((1, 8), (4, 256), (16, 512))
"""Smallest, usual and largest (windows, voxels a side) of a TensorRT engine; larger inputs are refused by it."""


def export_onnx(network: nn.Module) -> bytes:
    """Write a network as ONNX, batch norms folded; batch and size of the slice stay free.

    Returns
    -------
    bytes
        Input ``x`` (B, C, H, W), output ``logits`` (B, K, H, W), float32.

    Raises
    ------
    EngineUnavailableError
        If the package onnx is not installed.
    """
    import_optional("onnx", "writing ONNX", "onnxruntime")
    folded, example = trace(network)
    free = {0: "batch", 2: "height", 3: "width"}
    buffer: Any = io.BytesIO()
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of this exporter: the new one takes ten times as long
        torch.onnx.export(
            folded,
            (example,),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=["x"],
            output_names=["logits"],
            dynamic_axes={"x": free, "logits": free},
        )
    return bytes(buffer.getvalue())


def start_onnxruntime(request: EngineRequest) -> Engine:
    """Run a network in ONNX Runtime on the CPU, in float32 or, for the asking, in int8 (`quantize`).

    Raises
    ------
    EngineUnavailableError
        If ONNX Runtime is not installed or the device is not a CPU.
    UsageError
        If another precision is asked for, or int8 of a bundle that has no ranges for it.
    """
    if request.device.type != "cpu":
        raise EngineUnavailableError(f"engine onnxruntime runs on the CPU, not on {request.device.type}")
    ort = import_optional("onnxruntime", "engine onnxruntime", "onnxruntime")
    precision = request.choose_precision("onnxruntime", ("float32", "int8"))
    options = ort.SessionOptions()
    options.intra_op_num_threads = request.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors arrive as exceptions
    # Idle threads that spin would take the cores from the steps before and after the network.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = _cached_int8(request, ort.__version__) if precision == "int8" else _cached_onnx(request.network)
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    state = ort.capi.onnxruntime_pybind11_state
    failures = (state.RuntimeException, state.Fail, state.EPFail)  # none of them is a RuntimeError

    def call(x: Tensor) -> Tensor:
        try:
            return torch.from_numpy(session.run(["logits"], {"x": x.float().contiguous().numpy()})[0])
        except failures as error:
            raise RuntimeError(str(error)) from error

    return Engine(call, "onnxruntime", precision)


def start_tensorrt(request: EngineRequest) -> Engine:
    """Build a TensorRT engine for an NVIDIA GPU, or take it from the cache.

    Raises
    ------
    EngineUnavailableError
        If TensorRT is not installed, the device is not a GPU, or the engine cannot be built.
    """
    if request.device.type != "cuda":
        raise EngineUnavailableError(f"engine tensorrt runs on NVIDIA GPUs, not on {request.device.type}")
    trt = import_optional("tensorrt", "engine tensorrt", "tensorrt")
    precision = request.choose_precision("tensorrt", ("float16", "float32"))
    logger = trt.Logger(trt.Logger.ERROR)
    gpu = torch.cuda.get_device_name(request.device)
    key = network_key(request.network, ["tensorrt", trt.__version__, precision, gpu, str(TENSORRT_SHAPES)])
    runtime = trt.Runtime(logger)
    plan = read_compiled(key)
    engine = None if plan is None else runtime.deserialize_cuda_engine(plan)
    if engine is None:  # none is there, or it was made on a machine that names itself alike
        plan = _build_plan(trt, logger, request.network, half=precision == "float16")
        write_compiled(key, plan)
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineUnavailableError("TensorRT cannot read the engine it built")
    return Engine(_tensorrt_caller(engine, request.device), "tensorrt", precision)


def _cached_onnx(network: nn.Module) -> bytes:
    key = network_key(network, ["onnx", str(OPSET), torch.__version__])
    content = read_compiled(key)
    if content is None:
        content = export_onnx(network)
        write_compiled(key, content)
    return content


def _cached_int8(request: EngineRequest, version: str) -> bytes:
    if not request.int8_ranges:
        raise UsageError(
            "precision int8: this bundle has no ranges for its weights in configs/int8.json.", hint=MEASURE_HINT
        )
    ranges = repr(sorted(request.int8_ranges.items()))
    key = network_key(request.network, ["int8", str(OPSET), torch.__version__, version, version_of("onnx"), ranges])
    content = read_compiled(key)
    if content is None:
        content = quantize(_cached_onnx(request.network), request.int8_ranges)
        write_compiled(key, content)
    return content


def _build_plan(trt: Any, logger: Any, network: nn.Module, *, half: bool) -> bytes:
    builder = trt.Builder(logger)
    definition = builder.create_network(0)
    parser = trt.OnnxParser(definition, logger)
    if not parser.parse(_cached_onnx(network)):
        raise EngineUnavailableError(f"TensorRT cannot read the network: {parser.get_error(0)}")
    config = builder.create_builder_config()
    if half:
        config.set_flag(trt.BuilderFlag.FP16)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    channels = definition.get_input(0).shape[1]
    profile.set_shape("x", *((windows, channels, size, size) for windows, size in TENSORRT_SHAPES))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(definition, config)
    if plan is None:
        raise EngineUnavailableError("TensorRT could not build an engine")
    return bytes(plan)


def _outside_of_tensorrt_shapes(x: Tensor) -> InferenceError:
    (_, least), _, (windows, most) = TENSORRT_SHAPES
    return InferenceError(
        f"engine tensorrt: found {x.shape[0]} windows of {x.shape[2]} x {x.shape[3]} voxels, "
        f"expected at most {windows}, of {least} to {most} voxels a side.",
        hint=f"Give --sw-batch-size {windows} or less, or leave --engine out.",
    )


def _tensorrt_caller(engine: Any, device: Any) -> Any:
    context = engine.create_execution_context()
    lock = threading.Lock()

    def call(x: Tensor) -> Tensor:
        x = x.float().contiguous()
        with lock:
            if not context.set_input_shape("x", tuple(x.shape)):
                raise _outside_of_tensorrt_shapes(x)
            logits = torch.empty(tuple(context.get_tensor_shape("logits")), dtype=torch.float32, device=device)
            context.set_tensor_address("x", x.data_ptr())
            context.set_tensor_address("logits", logits.data_ptr())
            stream = torch.cuda.current_stream(device)
            if not context.execute_async_v3(stream.cuda_stream):
                raise RuntimeError("TensorRT could not run the network")
            stream.synchronize()  # the input may be freed once this returns
        return logits

    return call
