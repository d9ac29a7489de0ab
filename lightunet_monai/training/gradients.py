"""Gradients kept within bounds."""

from __future__ import annotations

from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import nn
from torch.nn.utils import clip_grad_norm_


class ClipGradients:
    """Scale the gradient down where its norm is too large; attach it to a MONAI trainer.

    Works with mixed precision: the gradient is unscaled first. Not for accumulated gradients.

    Parameters
    ----------
    model : Module
        Whose parameters are trained.
    max_norm : float
        Largest L2 norm over all parameters.
    """

    def __init__(self, model: nn.Module, max_norm: float) -> None:
        self.model = model
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Called by MONAI for each handler in a list."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Clip, between the backward pass and the step of the optimiser."""
        if engine.amp and engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        clip_grad_norm_(self.model.parameters(), self.max_norm)
