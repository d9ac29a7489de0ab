"""What a network costs at one input size: parameters, activations, operations, memory traffic.

The columns ``activations``, ``flops``, ``madd`` and ``memory`` count as torchstat 0.0.7 does, so that they can be
compared with published tables. What torchstat leaves out (Swish, transposed convolutions, the joining of skip
connections) stands in the columns ``uncounted_*``.

torchstat's rules, for n outputs of a layer: convolution with k taps and c input channels: n * c * k flops and n for
the bias, n * (2 * c * k - 1 + bias) madd; batch norm 2 * n flops, 4 * n madd; ReLU n and n; max-pool: its inputs as
flops, n * (k - 1) madd; transposed convolution 0 flops and,
for each input place and output channel, 2 * c * k - 1 + bias madd. Memory is
4 bytes for each input, parameter and output of these layers, of batch norm the parameters twice the channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from .layers import Swish

BYTES = 4
"""Bytes of a float32."""

SWISH_OPERATIONS = 5
"""Of one Swish: product with beta, exponential, sum, quotient, product with x."""


@dataclass(frozen=True)
class Profile:
    """Costs of one network at one input size.

    Parameters
    ----------
    parameters : int
        Learnable numbers.
    activations : int
        Bytes of the outputs of all leaf modules, float32.
    flops, madd, memory : int
        Operations, multiplications plus additions, bytes read and written; by torchstat's rules.
    uncounted_flops, uncounted_madd, uncounted_memory : int
        The same for what torchstat leaves out.
    """

    parameters: int = 0
    activations: int = 0
    flops: int = 0
    madd: int = 0
    memory: int = 0
    uncounted_flops: int = 0
    uncounted_madd: int = 0
    uncounted_memory: int = 0

    def __add__(self, other: Profile) -> Profile:
        return Profile(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def profile(network: nn.Module, input_shape: Sequence[int]) -> Profile:
    """Measure a network by running it once on meta tensors: no memory, no arithmetic.

    Parameters
    ----------
    network : Module
    input_shape : sequence of int
        Channels and spatial size, (C, H, W) or (C, D, H, W); the batch is 1.

    Returns
    -------
    Profile
    """
    total = Profile(parameters=sum(p.numel() for p in network.parameters()))
    hooks = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += _leaf(module, inputs[0], output)

    def record_join(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        below, skip = inputs
        joined = skip.numel() + below.numel() // below.shape[1] * skip.shape[1] * 2 ** (below.dim() - 2)
        total += Profile(uncounted_memory=2 * joined * BYTES)

    device = torch.device("meta")
    copied = _meta_copy(network)
    for module in copied.modules():
        if not any(True for _ in module.children()):
            hooks.append(module.register_forward_hook(record))
        elif type(module).__name__ == "Up":
            hooks.append(module.register_forward_hook(record_join))
    with torch.no_grad():
        copied.eval()(torch.empty((1, *input_shape), device=device))
    for hook in hooks:
        hook.remove()
    return total


def _meta_copy(network: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(network).to("meta")


def _leaf(module: nn.Module, x: Tensor, output: Tensor) -> Profile:
    n, read = output.numel(), x.numel()
    activations = n * BYTES
    if isinstance(module, (nn.Conv2d, nn.Conv3d)):
        weights, bias = module.weight, module.bias
        taps = module.in_channels * math.prod(module.kernel_size)
        has_bias = int(bias is not None)
        size = weights.numel() + (bias.numel() if bias is not None else 0)
        return Profile(
            activations=activations,
            flops=n * (taps + has_bias),
            madd=n * (2 * taps - 1 + has_bias),
            memory=(read + size + n) * BYTES,
        )
    if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
        return Profile(
            activations=activations, flops=2 * n, madd=4 * n, memory=(read + 2 * module.num_features + n) * BYTES
        )
    if isinstance(module, nn.ReLU):
        return Profile(activations=activations, flops=n, madd=n, memory=(read + n) * BYTES)
    if isinstance(module, (nn.MaxPool2d, nn.MaxPool3d)):
        window = int(module.kernel_size) ** (x.dim() - 2)  # type: ignore[arg-type]
        return Profile(activations=activations, flops=read, madd=n * (window - 1), memory=(read + n) * BYTES)
    if isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
        taps = module.in_channels * math.prod(module.kernel_size)
        places = read // module.in_channels * module.out_channels
        size = sum(p.numel() for p in module.parameters())
        # Kernel and stride are equal, so each output is one product a channel and the bias.
        operations = n * (module.in_channels + 1)
        return Profile(
            activations=activations,
            madd=places * (2 * taps - 1 + int(module.bias is not None)),
            uncounted_flops=operations,
            uncounted_memory=(read + size + n) * BYTES,
        )
    if isinstance(module, Swish):
        operations = SWISH_OPERATIONS * n
        return Profile(
            activations=activations,
            uncounted_flops=operations,
            uncounted_madd=operations,
            uncounted_memory=(read + n) * BYTES,
        )
    return Profile(activations=activations)


def format_table(profiles: dict[str, Profile]) -> str:
    """Write profiles side by side, a row a network.

    Parameters
    ----------
    profiles : dict of str to Profile

    Returns
    -------
    str
        Lines of a table; numbers in full.
    """
    header = ["network", *(f.name for f in fields(Profile))]
    rows: list[list[str]] = [header]
    rows += [[name, *(f"{getattr(p, f.name):,}" for f in fields(p))] for name, p in profiles.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = []
    for name, *numbers in rows:
        cells = [name.ljust(widths[0]), *(n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True))]
        lines.append("  ".join(cells))
    return "\n".join(lines)
