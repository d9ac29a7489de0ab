"""Which channel of the logits is the lesion, and how sure the network is of it against all others."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import UsageError
from ..labels import LESION


def lesion_margin(logits: Tensor) -> Tensor:
    """Give the logit of the lesion against the rest.

    Parameters
    ----------
    logits : Tensor, shape (K, ...)
        Of exclusive classes, K at least 2.

    Returns
    -------
    Tensor, shape (...)
        Its sigmoid is the lesion's share of the softmax.
    """
    if logits.shape[0] == 2:
        return logits[LESION] - logits[0]
    return logits[LESION] - torch.logsumexp(rest_of(logits), dim=0)


def margin_at(probability: float, temperature: float = 1.0, *, what: str = "threshold") -> float:
    """Give the logit of the lesion, before the temperature, at a calibrated probability.

    Parameters
    ----------
    probability : float
        Above 0 and below 1.
    temperature : float
        Above 0.
    what : str
        Name of the probability, for the message.

    Raises
    ------
    UsageError
        If either has another value.
    """
    for name, value, most, expected in (
        (what, probability, 1.0, "a number above 0 and below 1"),
        ("temperature", temperature, math.inf, "a number above 0"),
    ):
        if not isinstance(value, (int, float)) or not 0 < value < most:
            raise UsageError(f"{name}: found {value!r}, expected {expected}.")
    return temperature * math.log(probability / (1 - probability))


def rest_of(logits: Tensor) -> Tensor:
    """Give all channels but the lesion's, (K - 1, ...): background first, then the tissues."""
    return torch.cat([logits[:LESION], logits[LESION + 1 :]])
