"""When a training validates: every few epochs, after the last one, and once where it ended without a model."""

from __future__ import annotations

import logging
import math

from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler

from .batch_norm import PreciseBatchNorm, every_or_last
from .checkpoints import KeepBest

logger = logging.getLogger(__name__)


class Validation(ValidationHandler):
    """Validate after every few epochs and after the last one; attach it to the trainer, after `PreciseBatchNorm`.

    Before the first epoch every validation case is loaded once: one that is refused then costs no epoch, and what is
    prepared of it stays in the cache. A resumed training that has had its epochs and has no model is validated once.

    Parameters
    ----------
    interval : int
        Epochs between validations; may be more than there are.
    validator : Evaluator
    best : KeepBest
        That of the validator.
    batch_norm : PreciseBatchNorm
        That of the trainer, for a validation after no epoch.
    """

    def __init__(self, interval: int, validator: Evaluator, best: KeepBest, batch_norm: PreciseBatchNorm) -> None:
        super().__init__(interval=interval, validator=validator)
        self.best = best
        self.batch_norm = batch_norm

    def attach(self, engine: Engine) -> None:
        """Called by MONAI for each handler in a list."""
        engine.add_event_handler(Events.STARTED, self.prepare)
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=every_or_last(self.interval)), self)
        engine.add_event_handler(Events.COMPLETED, self.make_up)

    def prepare(self, engine: Engine) -> None:
        """Load every case of the validation."""
        cases = self.validator.data_loader.dataset
        logger.info("loading the cases of the validation (%d) before the first epoch", len(cases))
        for index in range(len(cases)):  # not by the loader: it would draw from the random numbers of the training
            cases[index]

    def make_up(self, engine: Engine) -> None:
        """Validate what was never validated, or whose model is gone."""
        # Not by the file: of several processes all must validate or none, and the first may be writing it.
        if math.isinf(self.best.best):
            logger.info("no model was kept: validating the state after epoch %d", engine.state.epoch)
            self.batch_norm(engine)
            self(engine)
