"""OpenVINO as engine: the fastest on processors of Intel and AMD; also on those of Apple and Arm."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from .compiled_cache import network_key, read_compiled, write_compiled
from .engine import Engine, EngineRequest, EngineUnavailableError, trace
from .optional import import_openvino

DEVICE = "CPU"

TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}

CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}

KEEP_NO_SHAPES = {"CPU_RUNTIME_CACHE_CAPACITY": 0}
"""Else OpenVINO keeps what it prepared for every shape of slice it has met: memory grows with each volume."""


def start_openvino(request: EngineRequest) -> Engine:
    """Compile a network for the CPU, any batch and any size of slice, or take it from the cache.

    ``auto`` is float32. float16 and bfloat16 only for the asking, and only where the processor has them: labels near a
    contour change.

    Raises
    ------
    EngineUnavailableError
        If OpenVINO is not installed or the device is not a CPU.
    UsageError
        If the processor does not have the precision asked for.
    """
    if request.device.type != "cpu":
        raise EngineUnavailableError(f"engine openvino runs on the CPU, not on {request.device.type}")
    ov = import_openvino()
    core = ov.Core()
    capabilities = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    order = ("float32", "float16", "bfloat16")
    native = tuple(name for name in order if name == "float32" or CAPABILITIES[name] in capabilities)
    precision = request.choose_precision("openvino", native)
    with contextlib.suppress(RuntimeError):  # a version that has another name for it
        core.set_property(DEVICE, KEEP_NO_SHAPES)
    settings = {
        "INFERENCE_NUM_THREADS": request.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": TYPES[precision],
        "ENABLE_CPU_PINNING": False,  # runs side by side would be pinned to the same cores
    }
    compiled = _compile(ov, core, request.network, precision, settings)
    return Engine(_caller(compiled), "openvino", precision)


def _compile(ov: Any, core: Any, network: nn.Module, precision: str, settings: dict[str, object]) -> Any:
    processor = [str(core.get_property(DEVICE, name)) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    key = network_key(network, ["openvino", ov.get_version(), precision, *processor])
    content = read_compiled(key)
    if content is not None:
        try:
            return core.import_model(io.BytesIO(content), DEVICE, settings)
        except RuntimeError:  # made by a build that names itself alike; compiled anew below
            pass
    compiled = core.compile_model(_convert(network), DEVICE, settings)
    exported = compiled.export_model()
    write_compiled(key, exported.getvalue() if hasattr(exported, "getvalue") else bytes(exported))
    return compiled


def _convert(network: nn.Module) -> Any:
    # The front end is called directly: openvino.convert_model would send usage statistics.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    folded, example = trace(network)
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of TorchScript, and that sizes steer the padding
        traced = torch.jit.freeze(torch.jit.trace(folded, example, check_trace=False))  # type: ignore[no-untyped-call]
        front_end = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced)  # the front end does not keep it alive
        return front_end.convert(front_end.load(decoder))


def _caller(compiled: Any) -> Any:
    request = compiled.create_infer_request()
    lock = threading.Lock()  # a request works on one window at a time

    def call(x: Tensor) -> Tensor:
        with lock:
            logits = request.infer([x.float().contiguous().numpy()], share_inputs=True)[0]
        if logits.shape[2:] != x.shape[2:]:
            # OpenVINO 2026.4 gives an empty tensor, and no error, when an allocation fails.
            raise RuntimeError(f"OpenVINO ran out of memory: found logits of {logits.shape} for {tuple(x.shape)}")
        return torch.from_numpy(logits)

    return call
