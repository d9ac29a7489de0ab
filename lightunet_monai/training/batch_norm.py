"""Batch-norm statistics that speak for all volumes, not for the last few batches."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import default_prepare_batch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

logger = logging.getLogger(__name__)


class PreciseBatchNorm:
    """Measure the statistics of all batch norms of a model anew before it is validated; attach it to the trainer.

    A batch holds slices of a few volumes, each of another breast and scanner, so running averages follow the last
    of them. Measured on the phantom volumes, a network that scored 0.39 with the statistics of each batch scored
    0.05 with the running averages and 0.44 with the mean over many batches. ("Precise batch norm": Wu and Johnson
    2021, arXiv:2105.07576.)

    Parameters
    ----------
    model : Module
        The one that is validated and kept.
    data_loader : iterable of dict
        Of the trainer.
    batches : int
        How many are measured, starting over where the loader ends; 0 leaves the running averages.
    interval : int
        Epochs between measurements, that of the validation; the last epoch is measured, too.
    prepare_batch : callable
        That of the trainer, so that what is measured on is what the network was trained on: (batch, device) to
        (image (B, C, H, W), label).
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        batches: int,
        interval: int = 1,
        prepare_batch: Callable[[Any, torch.device], Any] = default_prepare_batch,
    ) -> None:
        self.model = model
        self.data_loader = data_loader
        self.batches = batches
        self.interval = interval
        self.prepare_batch = prepare_batch

    def attach(self, engine: Engine) -> None:
        """Called by MONAI for each handler in a list; stands before the validation in it."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=every_or_last(self.interval)), self)

    def __call__(self, engine: Engine) -> None:
        """Measure."""
        if self.batches == 0:
            return
        norms = [module for module in self.model.modules() if isinstance(module, _BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches, each with the same weight
        was_training = self.model.training
        device = next(self.model.parameters()).device
        self.model.train()
        with torch.no_grad():
            for batch in itertools.islice(_endless(self.data_loader), self.batches):
                self.model(self.prepare_batch(batch, device)[0])
        self.model.train(was_training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        logger.info("batch norm measured on %d batches", self.batches)


def _endless(data_loader: Iterable[Any]) -> Iterable[Any]:
    while True:  # not itertools.cycle, which would keep every batch in memory
        yield from data_loader


def every_or_last(interval: int) -> Callable[[Engine, int], bool]:
    """Give a filter of ignite's epoch events: every `interval` epochs, and the last one."""
    return lambda engine, event: event % interval == 0 or event == engine.state.max_epochs
