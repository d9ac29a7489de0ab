"""The bundle's network, or an equal callable that is faster on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..errors import UsageError
from ..options import RunOptions


@dataclass
class Engine:
    """A network ready to run: tensor (B, C, H, W) in, logits (B, K, H, W) out.

    Parameters
    ----------
    call : callable
    name : str
        ``"torch"`` is the reference.
    precision : str
        Of the arithmetic inside; logits are float32.
    reason : str
        Why this engine, for the report.
    warnings : list of str
    """

    call: Callable[[Tensor], Tensor]
    name: str
    precision: str
    reason: str = ""
    warnings: list[str] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Tensor:
        """Run the network."""
        return self.call(x)


def choose_engine(network: nn.Module, device: Any, options: RunOptions) -> Engine:
    """Choose what runs the network.

    Parameters
    ----------
    network : Module
        In evaluation mode, on ``device``. It is not changed.
    device : torch.device
    options : RunOptions
        ``engine`` and ``precision``; None and ``"auto"`` choose.

    Returns
    -------
    Engine

    Raises
    ------
    UsageError
        If the engine asked for is not available.
    """
    name = options.engine or "auto"
    if name == "torch":
        return Engine(network, "torch", "float32", "asked for")
    if name in ("auto", "torch-tuned"):
        reason = "asked for" if name == "torch-tuned" else "the fastest that is installed"
        return _tuned(network, device, reason)
    raise UsageError(f"engine {name} is not available.", hint="Use --engine torch.")


def _tuned(network: nn.Module, device: Any, reason: str) -> Engine:
    folded: nn.Module = fold_batch_norm(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def call(x: Tensor) -> Tensor:
        logits: Tensor = folded(x.contiguous(memory_format=torch.channels_last))
        return logits

    return Engine(call, "torch-tuned", "float32", reason)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Give a copy of a network in which batch norms are folded into the convolutions before them.

    Parameters
    ----------
    network : Module
        In evaluation mode; convolution and batch norm follow one another in `torch.nn.Sequential`.

    Returns
    -------
    Module
        Same tensor in, same logits out up to rounding.
    """
    import copy

    copied = copy.deepcopy(network).eval()
    for module in copied.modules():
        if isinstance(module, nn.Sequential):
            for index in range(len(module) - 1):
                first, second = module[index], module[index + 1]
                if isinstance(first, (nn.Conv2d, nn.Conv3d)) and isinstance(second, (nn.BatchNorm2d, nn.BatchNorm3d)):
                    module[index] = fuse_conv_bn_eval(first, second)
                    module[index + 1] = nn.Identity()
    return copied
