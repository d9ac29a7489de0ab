"""Training that learns something new and keeps the lesions of a network that is trained already."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import WeightsError
from .channels import lesion_margin
from .checkpoints import start_from


class ImitatingInferer(Inferer):
    """Run the network that is trained, and a teacher that stays as it is beside it; give both answers as one tensor.

    Parameters
    ----------
    inferer : Inferer
        Runs either network.
    network : Module
        The one that is trained; the teacher is built like it.
    weights : path
        Of the teacher: those of `network`, or of one with fewer output channels, as `start_from` takes them.

    Raises
    ------
    WeightsError
        If the weights are not usable, or none are named.
    """

    def __init__(self, inferer: Inferer, network: nn.Module, weights: str | Path) -> None:
        super().__init__()
        if not weights:  # which would start a network at random
            raise WeightsError("imitated: found none, expected the weights of a teacher.", hint="Name a model.pt.")
        self.inferer = inferer
        self.teacher = copy.deepcopy(network)
        start_from(self.teacher, weights)
        self.teacher.eval().requires_grad_(False)

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Give (B, K + 1, H, W): the K logits of `network`, then the teacher's logit of lesion against the rest."""
        logits = self.inferer(inputs, network, *args, **kwargs)
        with torch.no_grad():
            taught = self.inferer(inputs, self.teacher.to(inputs.device), *args, **kwargs)
        return torch.cat([logits, lesion_margin(taught)[:, None].to(logits)], dim=1)


class ImitationLoss(nn.Module):
    """A loss against labels, plus how far the logit of lesion against the rest is from a teacher's.

    What a network knows of lesions came from more cases than a later training has; labels alone would change it to
    suit those few ("learning without forgetting", Li and Hoiem 2016, arXiv:1606.09282). The distance is the Huber loss
    of the difference, in logits, and the mean is over the voxels in which one of both sees a trace of a lesion: in all
    others it does not matter how sure they are.

    Parameters
    ----------
    loss : Module
        Takes logits (B, K, *spatial) and labels (B, 1, *spatial).
    share : float
        Factor of the distance in the sum; at least 0.
    floor : float
        Logit from which on there is a trace of a lesion.

    Raises
    ------
    ValueError
        If ``share`` is below 0.

    Notes
    -----
    Takes what `ImitatingInferer` gives, and labels; gives a scalar.
    """

    def __init__(self, loss: nn.Module, share: float = 1.0, floor: float = -6.0) -> None:
        super().__init__()
        if share < 0:
            raise ValueError(f"share: found {share}, expected 0 or more")
        self.loss = loss
        self.share = share
        self.floor = floor

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Give the loss."""
        logits, taught = outputs[:, :-1], outputs[:, -1].detach()
        margin = lesion_margin(logits)
        traced = torch.maximum(margin.detach(), taught) > self.floor
        distance = F.huber_loss(margin, taught.clamp_min(self.floor), reduction="none") * traced
        loss: Tensor = self.loss(logits, labels) + self.share * distance.sum() / traced.sum().clamp_min(1)
        return loss
