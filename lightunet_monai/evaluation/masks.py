"""What the bundle's evaluator compares: the lesions of two label maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..labels import LESION


def lesion_masks(batch: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Give the lesions of predictions and labels, each a `MetaTensor` (1, X, Y, Z) of 0 and 1, for MONAI's metrics."""
    pred, label = ([(item[key] == LESION).to(item[key].dtype) for item in batch] for key in ("pred", "label"))
    return pred, label
