"""nnU-Net's own predictor around any 2-D network, for the benchmark. Needs nnunetv2, which no extra installs.

See docs/benchmarks.md for how to install it beside the package.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def open_nnunet(network: nn.Module, window: Sequence[int], classes: int, device: torch.device) -> Any | None:
    """Put a network into nnU-Net's predictor, with its defaults but for mirroring.

    Parameters
    ----------
    network : Module
        (B, C, H, W) to logits (B, K, H, W).
    window : sequence of int
        nnU-Net's patch size, H and W.
    classes : int
        K, background included.
    device : torch.device

    Returns
    -------
    nnUNetPredictor or None
        None where nnunetv2 or something it imports is not installed; a printed line says so.
    """
    try:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    except ImportError as error:
        print(f"left out: nnU-Net: {error}")
        return None
    labels = {"background": 0, **{f"label {value}": value for value in range(1, classes)}}
    plans = PlansManager(
        {"label_manager": "LabelManager", "configurations": {"2d": {"patch_size": list(window), "architecture": {}}}}
    )
    with contextlib.redirect_stdout(io.StringIO()):  # a remark for each CPU run
        predictor = nnUNetPredictor(use_mirroring=False, device=device, allow_tqdm=False)
    predictor.manual_initialization(
        network, plans, plans.get_configuration("2d"), None, {"labels": labels}, "none", None
    )
    return predictor


def nnunet_slices(stack: Tensor, predictor: Any) -> Tensor:
    """Logits of slices: (S, C, H, W) to (K, S, H, W), as nnU-Net's 2-D configuration goes through a volume."""
    logits: Tensor = predictor.predict_sliding_window_return_logits(stack.movedim(1, 0))
    return logits.to(stack.dtype)
