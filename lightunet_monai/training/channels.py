"""The lesion's channel, and those of all the rest, where a network knows more than the lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..labels import LESION


def lesion_channels(batch: Sequence[Mapping[str, Any]]) -> tuple[list[Tensor], list[Tensor]]:
    """Give the lesion's channel of predictions and labels, each (1, ...) of a one-hot (K, ...), for MONAI's metrics."""
    pred, label = ([item[key][LESION : LESION + 1] for item in batch] for key in ("pred", "label"))
    return pred, label


def rest_of(logits: Tensor) -> Tensor:
    """Give all channels but the lesion's, (B, K - 1, *spatial): background first, then the tissues."""
    return torch.cat([logits[:, :LESION], logits[:, LESION + 1 :]], dim=1)


def lesion_margin(logits: Tensor) -> Tensor:
    """Give the logit of lesion against the rest, (B, *spatial), of logits (B, K, *spatial)."""
    return logits[:, LESION] - rest_of(logits).logsumexp(1)
