"""The bundle's network, or an equal callable that is faster on this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ..errors import InferenceError, LightUNetError, UsageError
from ..options import RunOptions
from .engine import LACKS_PRECISION, Engine, EngineRequest, EngineUnavailableError, fold_batch_norm
from .onnx_engines import start_onnxruntime, start_tensorrt
from .openvino_engine import start_openvino
from .optional import is_installed
from .torch_engines import start_compiled, start_reference, start_tuned

__all__ = ["Engine", "choose_engine", "fold_batch_norm"]

Start = Callable[[EngineRequest], Engine]

STARTS: dict[str, Start] = {
    "torch": start_reference,
    "torch-tuned": start_tuned,
    "torch-compiled": start_compiled,
    "openvino": start_openvino,
    "onnxruntime": start_onnxruntime,
    "tensorrt": start_tensorrt,
}

PACKAGES = {"openvino": "openvino", "onnxruntime": "onnxruntime", "tensorrt": "tensorrt"}

FASTEST_FIRST = {
    "cpu": ("onnxruntime", "openvino", "torch-tuned", "torch"),
    "cuda": ("torch-tuned", "torch"),
    "mps": ("torch-tuned", "torch"),
}
"""What ``auto`` tries, in the order that ``scripts/benchmark.py engines`` measured. On a CPU in float32, whatever units
the processor has: a label map must not depend on the machine or on the way in. TensorRT takes minutes to build: only
for the asking.
"""

_log = logging.getLogger(__name__)


def choose_engine(
    network: nn.Module,
    device: Any,
    options: RunOptions,
    *,
    int8_ranges: Mapping[str, tuple[float, float, float, float]] | None = None,
) -> Engine:
    """Choose what runs the network.

    Parameters
    ----------
    network : Module
        In evaluation mode, on ``device``. It is not changed.
    device : torch.device
    options : RunOptions
        ``engine``, ``precision`` and ``threads``; None and ``"auto"`` choose.
    int8_ranges : mapping, optional
        What the bundle knows for ``int8``.

    Returns
    -------
    Engine
        ``reason`` says why; ``warnings`` say what failed to start before it.

    Raises
    ------
    UsageError
        If the engine asked for is not available, or no engine has the precision asked for.
    InferenceError
        If the engine asked for is there and does not start.
    """
    device = torch.device(device)
    threads = options.threads or torch.get_num_threads()
    request = EngineRequest(network, device, options.precision, threads, int8_ranges or {})
    name = options.engine or "auto"
    if name == "auto":
        return _first_that_starts(request)
    try:
        engine = STARTS[name](request)
    except EngineUnavailableError as error:
        raise UsageError(f"{error}.", hint="Leave --engine out, and the fastest that is there is taken.") from error
    except LightUNetError:
        raise
    except Exception as error:  # the libraries behind an engine raise whatever they met
        raise InferenceError(
            f"engine {name} did not start: {_first_line(error)}.",
            hint="Leave --engine out, and the fastest that starts is taken.",
        ) from error
    engine.reason = "asked for"
    return engine


def _first_that_starts(request: EngineRequest) -> Engine:
    passed_over, causes, warnings = [], [], []
    refusal: UsageError | None = None
    for name in FASTEST_FIRST.get(request.device.type, ("torch",)):
        if name in PACKAGES and not is_installed(PACKAGES[name]):
            passed_over.append(f"{name} is not installed")
            causes.append(passed_over[-1])
            continue
        try:
            engine = STARTS[name](request)
        except UsageError as error:  # another engine may have the precision that this one lacks
            passed_over.append(f"{name} has no {request.precision}")
            causes.append(passed_over[-1])
            if error.reason != LACKS_PRECISION:  # it says what to do
                refusal = refusal or error
            continue
        except Exception as error:  # whatever an engine met when it started, the next one may work
            _log.warning("engine %s did not start", name, exc_info=True)
            passed_over.append(f"{name} did not start")
            causes.append(f"{name} did not start ({_first_line(error)})")
            warnings.append(f"engine {causes[-1]}; a slower one is used.")
            continue
        engine.reason = "; ".join(["the fastest that is installed", *passed_over])
        engine.warnings = [*warnings, *engine.warnings]
        return engine
    if refusal is not None:
        raise refusal
    if request.precision not in (None, "auto"):
        raise UsageError(
            f"option precision: found {request.precision}, but on {request.device} {'; '.join(causes)}.",
            hint="Leave --precision out.",
        )
    raise UsageError(
        f"no engine starts on {request.device}: {'; '.join(causes)}.", hint="Use --device cpu --engine torch."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
