"""Losses in which the few voxels of a lesion weigh more, and probabilities stay what they are."""

from __future__ import annotations

import math

import torch
from monai.losses import DiceLoss
from monai.networks.utils import one_hot
from torch import Tensor, nn
from torch.nn import functional as F

from ..labels import LESION
from .channels import rest_of


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
    small_weight : float
        Most that a voxel of a small lesion weighs against one of a large lesion, at least 1; 1 for no difference. A
        lesion of 20 mm has some ten times the voxels of one of 6 mm in a slice, and is found by any network. Above 1
        the logits at small lesions are too high, and `lightunet calibrate` has to put them right.
    small_size : int
        Lesion voxels nearby from which on a lesion is large; with fewer, n, its voxels weigh ``small_size / n`` times
        as much. About the area, in voxels, of the largest lesion that counts as small.
    nearby : int
        Edge of the square (or cube) about a voxel that is nearby, in voxels; odd.

    Raises
    ------
    ValueError
        If a weight is below 1 or ``nearby`` is even.

    Notes
    -----
    Takes logits (B, K, *spatial), K at least 2, and labels (B, 1, *spatial); gives a scalar.
    """

    def __init__(
        self,
        overlap: nn.Module,
        lesion_weight: float,
        cross_entropy_share: float = 0.5,
        small_weight: float = 1.0,
        small_size: int = 64,
        nearby: int = 17,
    ) -> None:
        super().__init__()
        for name, found in (("lesion_weight", lesion_weight), ("small_weight", small_weight)):
            if found < 1:
                raise ValueError(f"{name}: found {found}, expected 1 or more")
        if nearby % 2 == 0:
            raise ValueError(f"nearby: found {nearby}, expected an odd number")
        self.small_weight = float(small_weight)
        self.small_size = small_size
        self.nearby = nearby
        self.overlap = overlap
        self.lesion_weight = float(lesion_weight)
        self.cross_entropy_share = cross_entropy_share

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give the loss."""
        is_lesion = torch.zeros(logits.shape[1], dtype=logits.dtype, device=logits.device)
        is_lesion[LESION] = 1
        shift = (math.log(self.lesion_weight) * is_lesion).reshape(1, -1, *[1] * (logits.dim() - 2))
        weight = 1 + (self.lesion_weight - 1) * is_lesion
        target = labels[:, 0].long()
        factor = weight[target] * self._small(target == LESION).to(logits)
        each = F.cross_entropy(logits + shift, target, reduction="none")
        cross_entropy = (factor * each).sum() / factor.sum()
        loss: Tensor = self.overlap(logits + shift, labels) + self.cross_entropy_share * cross_entropy
        return loss

    def _small(self, lesion: Tensor) -> Tensor:
        # (B, *spatial): how much more a voxel weighs for being one of a small lesion; 1 elsewhere.
        pool = F.avg_pool2d if lesion.dim() == 3 else F.avg_pool3d
        mean = lesion[:, None].float()
        for axis in range(lesion.dim() - 1):  # one axis after the other: the same mean for less work
            edges = [self.nearby if i == axis else 1 for i in range(lesion.dim() - 1)]
            mean = pool(mean, edges, stride=1, padding=[edge // 2 for edge in edges])
        mean = mean[:, 0]
        voxels = (mean * self.nearby ** (lesion.dim() - 1)).clamp_min(1.0)
        return torch.where(lesion, (self.small_size / voxels).clamp(1.0, self.small_weight), 1.0)


class LesionAndTissueLoss(nn.Module):
    """A loss of two classes for the lesion against all the rest, and a loss of its own for which tissue the rest is.

    In one softmax over all structures lesions compete with tissues for the slope: nearly every voxel is tissue, and of
    an overlap loss over four structures a quarter is left to the lesion. Here the lesion's logit less the log-sum-exp
    of all others, the logit of "lesion or not", gets the loss that a model of two classes is trained with, unchanged,
    whatever the tissues are; and the other channels, compared with each other only, get Dice and cross-entropy in the
    voxels that are no lesion. The probabilities of both together are those of the one softmax: p(tissue) is
    p(no lesion) p(tissue | no lesion).

    Parameters
    ----------
    lesion : Module
        Takes logits (B, 2, *spatial) and labels (B, 1, *spatial) of 0 and 1, such as `LesionWeightedLoss`.
    tissue_share : float
        Factor of the loss of the tissues in the sum; at least 0.

    Raises
    ------
    ValueError
        If ``tissue_share`` is below 0.

    Notes
    -----
    Takes logits (B, K, *spatial) and labels (B, 1, *spatial) of 0 to K - 1; gives a scalar. With two channels there
    are no tissues, and it is the loss of the lesion alone.
    """

    def __init__(self, lesion: nn.Module, tissue_share: float = 1.0) -> None:
        super().__init__()
        if tissue_share < 0:
            raise ValueError(f"tissue_share: found {tissue_share}, expected 0 or more")
        self.lesion = lesion
        self.tissue_share = tissue_share
        self.overlap = DiceLoss(include_background=False, batch=True, smooth_nr=0.0, smooth_dr=1e-5)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give the loss."""
        rest = rest_of(logits)
        is_lesion = labels == LESION
        loss: Tensor = self.lesion(
            torch.stack([rest.logsumexp(1), logits[:, LESION]], dim=1), is_lesion.to(labels.dtype)
        )
        if rest.shape[1] == 1 or self.tissue_share == 0:
            return loss
        elsewhere = ~is_lesion
        target = torch.where(labels > LESION, labels - 1, labels).long() * elsewhere  # the channel among the rest
        each = F.cross_entropy(rest, target[:, 0], reduction="none")
        cross_entropy = (each * elsewhere[:, 0]).sum() / elsewhere.sum().clamp_min(1)
        truth = one_hot(target, rest.shape[1]) * elsewhere
        tissues: Tensor = self.overlap(rest.softmax(1) * elsewhere, truth) + cross_entropy
        return loss + self.tissue_share * tissues
