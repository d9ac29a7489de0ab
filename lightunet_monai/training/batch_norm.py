"""Batch norm with fixed statistics, for batches too small to speak for all volumes."""

from __future__ import annotations

import itertools
import logging
import types
from collections.abc import Iterable
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

logger = logging.getLogger(__name__)


class FixBatchNorm:
    """Measure the statistics of all batch norms once, then train with them as they are; attach it to the trainer.

    A batch holds slices of a few volumes, each from another breast and scanner. Their statistics differ from
    those of all volumes, so a network that leans on them does not do the same in evaluation. With fixed statistics
    training and evaluation are the same function (the idea of "frozen" batch norm, He et al. 2016,
    arXiv:1512.03385, section 4).

    Parameters
    ----------
    network : Module
    data_loader : iterable of dict
        Its first batches are measured; ``batch["image"]`` is (B, C, H, W).
    batches : int
        How many; 0 leaves batch norm as it is.
    """

    def __init__(self, network: nn.Module, data_loader: Iterable[Any], batches: int) -> None:
        self.network = network
        self.data_loader = data_loader
        self.batches = batches

    def attach(self, engine: Engine) -> None:
        """Called by MONAI for each handler in a list."""
        if self.batches > 0:
            engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Measure, unless a resumed training has measured already, and fix."""
        norms = [module for module in self.network.modules() if isinstance(module, _BatchNorm)]
        if engine.state.iteration == 0:
            self._measure(norms)
        for norm in norms:
            # Each iteration puts the whole network into training mode; these stay in evaluation mode.
            norm.train = types.MethodType(_stay_in_evaluation, norm)  # type: ignore[method-assign]
            norm.train()

    def _measure(self, norms: list[_BatchNorm]) -> None:
        device = next(self.network.parameters()).device
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches, each with the same weight
        self.network.train()
        with torch.no_grad():
            for batch in itertools.islice(itertools.cycle(self.data_loader), self.batches):
                self.network(batch["image"].to(device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        logger.info("batch norm fixed to the statistics of %d batches", self.batches)


def _stay_in_evaluation(self: nn.Module, mode: bool = True) -> nn.Module:
    return nn.Module.train(self, False)
