"""Which channel of the logits is the lesion, and how sure the network is of it against all others."""

from __future__ import annotations

import torch
from torch import Tensor

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


def rest_of(logits: Tensor) -> Tensor:
    """Give all channels but the lesion's, (K - 1, ...): background first, then the tissues."""
    return torch.cat([logits[:LESION], logits[LESION + 1 :]])
