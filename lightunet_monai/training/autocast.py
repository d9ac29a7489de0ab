"""Half the precision where the processor computes it several times as fast."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch import Tensor, nn

BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16")
"""Of a processor, as PyTorch names them."""


def multiplies_bfloat16() -> bool:
    """Whether this machine's processor multiplies bfloat16 several times as fast as float32."""
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(has.get(units, False) for units in BFLOAT16_UNITS)


class AutocastInferer(SimpleInferer):
    """Run the network of a MONAI trainer under PyTorch's autocast; the weights and the loss stay float32.

    MONAI's own ``amp`` switches autocast on for CUDA only. Under it, and on other devices, this one does nothing.

    Parameters
    ----------
    cpu_dtype : {"auto", "bfloat16", "float32"}
        What convolutions compute in on a CPU; ``auto`` is bfloat16 where the processor multiplies it (AMX, or
        AVX-512 with BF16), else float32.
    """

    def __init__(self, cpu_dtype: str = "auto") -> None:
        super().__init__()
        if cpu_dtype not in ("auto", "bfloat16", "float32"):
            raise ValueError(f"cpu_dtype is {cpu_dtype!r}, expected 'auto', 'bfloat16' or 'float32'.")
        if cpu_dtype == "auto":
            cpu_dtype = "bfloat16" if multiplies_bfloat16() else "float32"
        self.cpu_dtype = cpu_dtype

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Give the logits (B, K, H, W), float32 on a CPU."""
        if inputs.device.type != "cpu" or self.cpu_dtype == "float32":
            logits: Tensor = super().__call__(inputs, network, *args, **kwargs)
            return logits
        with torch.autocast("cpu", torch.bfloat16):
            logits = super().__call__(inputs, network, *args, **kwargs)
        return logits.float()
