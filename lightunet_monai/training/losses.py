"""A loss in which the few voxels of a lesion weigh more, and probabilities stay what they are."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..labels import LESION


class LesionWeightedLoss(nn.Module):
    """An overlap loss plus cross-entropy in which a lesion voxel weighs more than another.

    One voxel in some hundreds is lesion. Without weights a network learns the lesions that stand out and gives up
    the rest: there its probability is near 0, the overlap loss has no slope, and the mean cross-entropy hardly feels
    them. A weight alone would teach logits that are too high by the weight's logarithm. So that logarithm is added
    to the lesion's logit inside the loss ("logit adjustment", Menon et al. 2021, arXiv:2007.07314, with the weight as
    the ratio of the priors), and what the network gives stays the logit of the true frequency.

    Parameters
    ----------
    overlap : Module
        Takes (logits, labels), such as `monai.losses.DiceLoss`.
    lesion_weight : float
        Of a lesion voxel against any other; at least 1.
    cross_entropy_share : float
        Factor of the cross-entropy in the sum.

    Raises
    ------
    ValueError
        If the weight is below 1.

    Notes
    -----
    Takes logits (B, K, *spatial), K at least 2, and labels (B, 1, *spatial); gives a scalar.
    """

    def __init__(self, overlap: nn.Module, lesion_weight: float, cross_entropy_share: float = 0.5) -> None:
        super().__init__()
        if lesion_weight < 1:
            raise ValueError(f"lesion_weight: found {lesion_weight}, expected 1 or more")
        self.overlap = overlap
        self.lesion_weight = float(lesion_weight)
        self.cross_entropy_share = cross_entropy_share

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give the loss."""
        is_lesion = torch.zeros(logits.shape[1], dtype=logits.dtype, device=logits.device)
        is_lesion[LESION] = 1
        shift = (math.log(self.lesion_weight) * is_lesion).reshape(1, -1, *[1] * (logits.dim() - 2))
        weight = 1 + (self.lesion_weight - 1) * is_lesion
        cross_entropy = F.cross_entropy(logits + shift, labels[:, 0].long(), weight=weight)
        loss: Tensor = self.overlap(logits + shift, labels) + self.cross_entropy_share * cross_entropy
        return loss
