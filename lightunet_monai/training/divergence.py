"""A training that has diverged ends, and leaves no model behind that says nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys

from ..errors import InferenceError
from ..weights import not_finite

HINT = "Lower --learning-rate (learning_rate), and train into another folder (-o, output_dir)."


class CheckLoss:
    """End a training whose loss is not finite, before its gradient harms the weights; attach it to a MONAI trainer."""

    def attach(self, engine: Engine) -> None:
        """Called by MONAI for each handler in a list."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Check the loss of a batch.

        Raises
        ------
        InferenceError
            If it is infinite or not a number.
        """
        loss = float(engine.state.output[CommonKeys.LOSS].detach())
        if not math.isfinite(loss):
            raise InferenceError(
                f"the loss is not finite in epoch {engine.state.epoch} ({loss}): the training has diverged.",
                hint=HINT,
                reason="diverged",
            )


def check_state(state: Mapping[str, Any]) -> None:
    """Check that a state dict can be a model.

    Raises
    ------
    InferenceError
        If a value of it is infinite or not a number.
    """
    wrong = not_finite(state)
    if wrong:
        raise InferenceError(
            f"{len(wrong)} entries of the model are not finite, the first are {', '.join(wrong[:3])}: the training has "
            "diverged.",
            hint=HINT,
            reason="diverged",
        )
