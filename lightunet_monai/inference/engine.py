"""What an engine is: a network that is ready to run, and what was asked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError

TUNED_PRECISIONS = {
    "cpu": ("float32", "bfloat16", "float16"),
    "cuda": ("float16", "bfloat16", "float32"),
    "mps": ("float32", "float16"),
}
"""What the engine torch-tuned has on each kind of device, its own choice first."""

LACKS_PRECISION = "precision"
"""The reason of a `UsageError` that says only that an engine does not compute in the precision asked for."""


class EngineUnavailableError(Exception):
    """An engine cannot run here: not installed, or it failed to start. `choose_engine` turns it into an answer."""


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
        What a reader of the report should know.
    """

    call: Callable[[Tensor], Tensor]
    name: str
    precision: str
    reason: str = ""
    warnings: list[str] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Tensor:
        """Run the network."""
        return self.call(x)


@dataclass(frozen=True)
class EngineRequest:
    """What an engine is started with.

    Parameters
    ----------
    network : Module
        In evaluation mode, on ``device``. Engines copy it; they never change it.
    device : torch.device
    precision : str or None
        One of `options.PRECISIONS`; None and ``"auto"`` let the engine choose.
    threads : int
        CPU threads.
    int8_ranges : mapping
        What `int8.quantize` needs; empty where the bundle has none for these weights.
    """

    network: nn.Module
    device: Any
    precision: str | None
    threads: int
    int8_ranges: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)

    def choose_precision(self, engine: str, supported: tuple[str, ...]) -> str:
        """Give the precision asked for, or the first that the engine supports.

        Raises
        ------
        UsageError
            If the engine does not support what was asked for.
        """
        if self.precision in (None, "auto"):
            return supported[0]
        if self.precision not in supported:
            raise UsageError(
                f"option precision: found {self.precision}, expected {' or '.join(sorted(supported))} "
                f"with engine {engine} on this {self.device.type.upper()}.",
                hint=f"Leave --precision out{self._engine_with_precision(engine)}.",
                reason=LACKS_PRECISION,
            )
        return self.precision or supported[0]

    def _engine_with_precision(self, refusing: str) -> str:
        kind = self.device.type
        if self.precision in TUNED_PRECISIONS.get(kind, ()) and refusing != "torch-tuned":
            return ", or use --engine torch-tuned"
        if self.precision == "int8" and kind == "cpu" and refusing != "onnxruntime":
            return ", or use --engine onnxruntime"
        return ""


def input_channels(network: nn.Module) -> int:
    """Count the channels that the first convolution of a network takes."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    raise EngineUnavailableError("the network has no 2-D convolution")


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

    from torch.nn.utils.fusion import fuse_conv_bn_eval

    copied = copy.deepcopy(network).eval()
    for module in copied.modules():
        if isinstance(module, nn.Sequential):
            for index in range(len(module) - 1):
                first, second = module[index], module[index + 1]
                if isinstance(first, (nn.Conv2d, nn.Conv3d)) and isinstance(second, (nn.BatchNorm2d, nn.BatchNorm3d)):
                    module[index] = fuse_conv_bn_eval(first, second)
                    module[index + 1] = nn.Identity()
    return copied


EXAMPLE_SIZE = 31
"""Size of the slice a network is traced on: odd at each of five levels, so that the trace holds the padding of odd
sizes everywhere. The amounts are part of the trace's arithmetic and are zero where a size is even."""


def trace(network: nn.Module) -> tuple[nn.Module, Tensor]:
    """Fold a network and give it, on the CPU, with an input to trace it on that leaves all sizes free."""
    folded = fold_batch_norm(network).cpu().float()
    example = torch.zeros(1, input_channels(network), EXAMPLE_SIZE, EXAMPLE_SIZE)
    return folded, example
