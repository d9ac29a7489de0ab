"""What a validation compares where the network knows more than the lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..labels import LESION


def lesion_channels(batch: Sequence[Mapping[str, Any]]) -> tuple[list[Tensor], list[Tensor]]:
    """Give the lesion's channel of predictions and labels, each (1, ...) of a one-hot (K, ...), for MONAI's metrics."""
    pred, label = ([item[key][LESION : LESION + 1] for item in batch] for key in ("pred", "label"))
    return pred, label
