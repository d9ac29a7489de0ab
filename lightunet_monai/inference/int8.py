"""The network in 8-bit integers, for ONNX Runtime.

Each convolution but the last works on integers: weights with one scale for each output channel, activations with one
range for each tensor. The ranges come with the bundle (``configs/int8.json``, made by ``scripts/measure_int8.py``), so
that every machine computes with the same ones. The last convolution stays in float32: 8 bits are too few
for logits whose margin decides a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .engine import fold_batch_norm
from .optional import import_optional

Ranges = Mapping[str, tuple[float, float, float, float]]
"""Name of a convolution to lowest and highest value of what it takes, then of what it gives."""

MEASURE_HINT = (
    "Leave --precision out, or measure the ranges: "
    "python scripts/measure_int8.py --bundle BUNDLE --data datalist.json --write."
)


def measure_ranges(network: nn.Module, batches: Iterable[Tensor]) -> dict[str, tuple[float, float, float, float]]:
    """Find the ranges of what the convolutions of a network take and give.

    Parameters
    ----------
    network : Module
        In evaluation mode, on the CPU. Its batch norms are folded in a copy.
    batches : iterable of Tensor
        Inputs (B, C, H, W) as a study gives them.

    Returns
    -------
    dict
        As `Ranges`; zero lies in every range, because padding is zero.
    """
    folded = fold_batch_norm(network)
    found: dict[str, tuple[float, float, float, float]] = {}

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            low_in, high_in, low_out, high_out = found.get(name, (0.0, 0.0, 0.0, 0.0))
            found[name] = (
                min(low_in, float(inputs[0].min())),
                max(high_in, float(inputs[0].max())),
                min(low_out, float(output.min())),
                max(high_out, float(output.max())),
            )

        return hook

    for name, module in folded.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(watch(name))
    with torch.inference_mode():
        for batch in batches:
            folded(batch)
    return found


def quantize(content: bytes, ranges: Ranges) -> bytes:
    """Rewrite a network in ONNX so that its convolutions, but for the last, work on 8-bit integers.

    Parameters
    ----------
    content : bytes
        As `export_onnx` writes it.
    ranges : Ranges
        Of every convolution.

    Returns
    -------
    bytes
        ONNX with pairs of quantisation and dequantisation; float32 in, float32 out.

    Raises
    ------
    EngineUnavailableError
        If the package onnx is not installed.
    UsageError
        If the range of a convolution is missing.
    """
    onnx = import_optional("onnx", "precision int8", "onnxruntime")
    numpy = import_optional("numpy", "precision int8", "onnxruntime")
    calibrate = import_optional("onnxruntime.quantization.calibrate", "precision int8", "onnxruntime")
    quantizer = import_optional("onnxruntime.quantization.qdq_quantizer", "precision int8", "onnxruntime")
    kinds = import_optional("onnxruntime.quantization", "precision int8", "onnxruntime").QuantType

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    outputs = {output.name for output in model.graph.output}
    limits, convolutions = {}, []
    for node in model.graph.node:
        if node.op_type != "Conv" or node.output[0] in outputs:
            continue
        name = node.input[1].removesuffix(".weight")
        if name not in ranges:
            raise UsageError(
                f"precision int8: this bundle has no range for the convolution {name} in configs/int8.json.",
                hint=MEASURE_HINT,
            )
        low_in, high_in, low_out, high_out = (numpy.float32(value) for value in ranges[name])
        limits[node.input[0]] = (low_in, high_in)
        limits[node.output[0]] = (low_out, high_out)
        convolutions.append(node.name)
    work = quantizer.QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=True,  # sums of products of 8 bits overflow 16 on processors without VNNI
        weight_qType=kinds.QInt8,
        activation_qType=kinds.QUInt8,
        tensors_range=calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, limits),
        nodes_to_quantize=convolutions,
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"],
        extra_options={},
    )
    work.quantize_model()
    return bytes(work.model.model.SerializeToString())
