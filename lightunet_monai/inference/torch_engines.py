"""PyTorch as engine: the reference, and the tuned one for CPU, CUDA and Apple MPS."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .engine import (
    TUNED_PRECISIONS,
    Engine,
    EngineRequest,
    EngineUnavailableError,
    fold_batch_norm,
    input_channels,
)

COMPILED_SIZES = 512
"""Sizes of a batch that are compiled at most. PyTorch's own limit of 8 is passed within the first study: it then runs
the network uncompiled without a word."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def start_reference(request: EngineRequest) -> Engine:
    """Run the bundle's network as it is, in float32: what every other engine is compared with."""
    precision = request.choose_precision("torch", ("float32",))
    return Engine(_in_full_float32(request.network, request.device), "torch", precision)


def start_tuned(request: EngineRequest) -> Engine:
    """Run the network with batch norms folded, channels last, and half weights where the device is faster with them.

    ``auto`` is float16 on CUDA, whose mantissa is longer than bfloat16's, and float32 elsewhere: on processors with
    bfloat16 units that precision is about twice as fast and is there for the asking.
    """
    supported = TUNED_PRECISIONS.get(request.device.type, TUNED_PRECISIONS["cpu"])
    precision = request.choose_precision("torch-tuned", supported)
    dtype = DTYPES[precision]
    folded: Any = fold_batch_norm(request.network).to(dtype)
    folded = folded.to(memory_format=torch.channels_last)
    network = _in_full_float32(folded, request.device) if dtype is torch.float32 else folded

    def call(x: Tensor) -> Tensor:
        logits: Tensor = network(x.to(dtype=dtype, memory_format=torch.channels_last))
        return logits.float()

    warnings = []
    if request.device.type == "cpu" and not computes_natively(precision):
        warnings.append(f"this processor has no {precision} units: the network runs slower than in float32.")
    return Engine(call, "torch-tuned", precision, warnings=warnings)


def start_compiled(request: EngineRequest) -> Engine:
    """Run the tuned network through ``torch.compile``; on CUDA with CUDA graphs.

    Compiling takes seconds to a minute for each new size of slice and needs a C++ compiler (on CUDA: Triton), so this
    engine is only there for the asking: it pays where many studies of one size follow one another.

    Raises
    ------
    EngineUnavailableError
        If nothing can be compiled here.
    UsageError
        If the device does not have the precision asked for.
    """
    kinds = {"cuda": ("float16", "bfloat16", "float32")}
    precision = request.choose_precision("torch-compiled", kinds.get(request.device.type, ("float32", "bfloat16")))
    dtype = DTYPES[precision]
    folded: Any = fold_batch_norm(request.network).to(dtype)
    folded = folded.to(memory_format=torch.channels_last)
    # Each size is compiled on its own: a study has few, and graphs need fixed ones.
    mode = "reduce-overhead" if request.device.type == "cuda" else "default"
    compiled = _compiled_for_many_sizes(torch.compile(folded, dynamic=False, mode=mode))
    network = _in_full_float32(compiled, request.device) if dtype is torch.float32 else compiled

    def call(x: Tensor) -> Tensor:
        logits: Tensor = network(x.to(dtype=dtype, memory_format=torch.channels_last))
        return logits.to(torch.float32, copy=True)  # the next run of a CUDA graph writes over its output

    try:
        with torch.inference_mode():
            call(torch.zeros(1, input_channels(request.network), 32, 32, device=request.device))
    except Exception as error:  # the compilers behind torch.compile raise whatever they met
        raise EngineUnavailableError(f"engine torch-compiled: {str(error).strip().splitlines()[0][:200]}") from error
    return Engine(call, "torch-compiled", precision)


def _compiled_for_many_sizes(compiled: Any) -> Any:
    from torch._dynamo import config  # takes a second to import, and is needed here only

    def call(x: Tensor) -> Tensor:
        with config.patch(recompile_limit=COMPILED_SIZES, accumulated_recompile_limit=COMPILED_SIZES):
            logits: Tensor = compiled(x)
        return logits

    return call


def _in_full_float32(network: Any, device: Any) -> Any:
    if device.type != "cuda":
        return network

    def call(x: Tensor) -> Tensor:
        # cuDNN rounds float32 convolutions to TF32 by default, ten bits of mantissa.
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
            logits: Tensor = network(x)
        return logits

    return call


def computes_natively(precision: str) -> bool:
    """Say whether this processor has units for a precision, as far as PyTorch knows."""
    if precision == "float32":
        return True
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    names = {"bfloat16": ("avx512_bf16", "amx_bf16", "bf16"), "float16": ("avx512_fp16", "amx_fp16", "fp16")}
    return any(flags.get(name, False) for name in names[precision])
