"""Weights to start from, the state to resume from, the best model so far: each written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.handlers import EarlyStopHandler
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ..errors import OutputError, WeightsError
from ..weights import check_finite
from .divergence import check_state
from .widening import State, widened

logger = logging.getLogger(__name__)

SCHEDULE = ("t_total", "warmup_steps", "warmup_multiplier", "cycles", "end_lr", "base_lrs")
"""What MONAI's schedules keep in their state although their configuration decides it."""


UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, KeyError, UnpicklingError)
"""What `torch.load` raises of a file that is damaged, cut off or of another kind."""


def start_from(network: nn.Module, weights: str | Path) -> None:
    """Fill a network with the weights that training starts from.

    Weights of the same network with fewer output channels will do: all other layers are copied, and of the last one
    the rows that both have (background and lesion). Each further row begins as the background's, and they share its
    probability: lesion or not, the network starts with the answers of the weights. So it does with those of a narrower
    network, whose channels are copied (`widened`).

    Parameters
    ----------
    network : Module
    weights : path or ""
        A plain state dict; empty to keep the random initialisation.

    Raises
    ------
    WeightsError
        If the file is missing, belongs to another network, or holds values that are not finite.
    """
    if not weights:
        return
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict(widened(_with_more_channels(state, network.state_dict()), network))
    except (OSError, RuntimeError, AttributeError, TypeError) as error:
        raise WeightsError(
            f"{weights}: not usable as a start for {type(network).__name__}: {error}.",
            hint="Give the model.pt of a bundle with the same network, or leave it empty.",
        ) from error
    check_finite(network.state_dict(), weights)
    logger.info("starting from %s", weights)


def _with_more_channels(state: State, own: State) -> State:
    """Give a state of fewer output channels those of `own`, with the same answers; any other one as it is."""
    wider = {
        key: value
        for key, value in own.items()
        if key in state and value.shape[:1] > state[key].shape[:1] and value.shape[1:] == state[key].shape[1:]
    }
    layers = {key.rpartition(".")[0] for key in wider}
    if layers != {list(own)[-1].rpartition(".")[0]}:  # the last layer and no other
        return state
    widened = dict(state)
    for key, value in wider.items():
        rows, further = state[key].to(value), len(value) - len(state[key])
        if key.endswith(".bias"):  # the background and the rows taken from it share its probability
            rows = torch.cat([rows[:1] - math.log1p(further), rows[1:]])
        widened[key] = torch.cat([rows, rows[:1].expand(further, *rows.shape[1:])])
        logger.info("%s: %d of %d channels begin as the background's", key, further, len(value))
    return widened


class KeepBest:
    """Write a model each time its key metric has improved; attach it to the evaluator.

    As long as the metric is 0, which tells nothing, the newest model is kept: without a lesion in the validation
    cases it never is anything else.

    Parameters
    ----------
    model : Module
        Whose state dict is written.
    path : path
        Where to; replaced in one step.
    """

    def __init__(self, model: nn.Module, path: str | Path) -> None:
        self.model = model
        self.path = Path(path)
        self.best = float("-inf")

    def attach(self, engine: Engine) -> None:
        """Called by MONAI for each handler in a list."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Compare and write.

        Raises
        ------
        InferenceError
            If the model to be written is not finite: the last one that was written stays.
        """
        metric = float(engine.state.metrics[engine.state.key_metric_name])
        if metric > self.best or metric == self.best == 0:
            check_state(self.model.state_dict())
            self.best = metric
            write_state(self.model.state_dict(), self.path)
            logger.info("best so far: %.4f, written to %s", metric, self.path)
        if metric == 0:
            logger.warning(
                "the validation Dice is 0: nothing is found yet, or no validation case has a lesion; "
                "until it rises the newest model is kept, not the best"
            )

    def state_dict(self) -> dict[str, float]:
        """Give what a resumed training needs."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take what `state_dict` gave, where the model is still there; a lost one is no measure for the next."""
        self.best = state["best"] if self._is_there() else float("-inf")

    def _is_there(self) -> bool:
        try:
            torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return False
        except UNREADABLE as error:
            logger.warning("%s: cannot be read as weights, taken as lost: %s", self.path, error or type(error).__name__)
            return False
        return True


class EarlyStop(EarlyStopHandler):
    """MONAI's `EarlyStopHandler`, whose count goes on when a training is resumed: one that was stopped stays so."""

    def state_dict(self) -> dict[str, Any]:
        """Give what a resumed training needs."""
        return dict(self._handler.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave; end the training if that says so, and patience is no greater now."""
        handler = self._handler
        handler.load_state_dict(state)
        if handler.counter >= handler.patience:
            logger.warning(
                "this training was stopped after %d validations without a better model: nothing is trained. Ask for "
                "more patience, or train elsewhere (another output_dir, -o)",
                handler.counter,
            )
            handler.trainer.terminate()


class ResumeState:
    """Save everything a training needs to go on, once an epoch; load it when a training starts again.

    The length of a learning rate's schedule is not loaded: a training may go on for more or fewer epochs than it began
    with.

    Parameters
    ----------
    parts : mapping
        Name to object with ``state_dict`` and ``load_state_dict``. The trainer itself is added.
    path : path
        Where to; replaced in one step, so that a kill at any moment leaves the last whole state.
    settings : mapping of str
        What makes it this training and no other: a state of other settings is refused. One that does not name a
        setting, as it is older, agrees.
    """

    def __init__(self, parts: Mapping[str, Any], path: str | Path, settings: Mapping[str, Any] | None = None) -> None:
        self.parts = dict(parts)
        self.path = Path(path)
        self.settings = {name: repr(value) for name, value in (settings or {}).items()}

    def attach(self, engine: Engine) -> None:
        """Load the state, if there is one, and save it after each epoch."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def load(self, engine: Engine) -> None:
        """Go on where the saved state ended.

        Raises
        ------
        WeightsError
            If the file cannot be read, or the state belongs to another network, another optimiser or other settings.
        """
        if not self.path.exists():
            return
        state = _read_state(self.path)
        self._check_settings(state.get("settings", {}))
        try:
            for name, part in self.parts.items():
                part.load_state_dict(_without_length(part, state[name]))
        except (KeyError, RuntimeError, ValueError) as error:
            raise WeightsError(
                f"{self.path}: does not fit this training: {error}.", hint="Use another output_dir, or remove the file."
            ) from error
        engine.state.iteration = state["iteration"]
        engine.state.epoch = state["epoch"]
        logger.info("resumed after epoch %d from %s", engine.state.epoch, self.path)
        if engine.state.max_epochs is not None and engine.state.epoch >= engine.state.max_epochs:
            logger.warning(
                "this training has had its %d epochs: nothing is trained. Ask for more epochs, or train elsewhere "
                "(another output_dir, -o)",
                engine.state.max_epochs,
            )

    def save(self, engine: Engine) -> None:
        """Write the state after an epoch."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        counts = {"iteration": engine.state.iteration, "epoch": engine.state.epoch}
        write_state({**state, **counts, "settings": self.settings}, self.path)

    def _check_settings(self, saved: Mapping[str, str]) -> None:
        other = [name for name, value in saved.items() if not _agree(value, self.settings.get(name, value))]
        if other:
            found = ", ".join(f"{name} {saved[name]}, now {self.settings[name]}" for name in other)
            raise WeightsError(
                f"{self.path}: is of a training with other settings: {found}.",
                hint="Use another output_dir (-o), or remove the file to start anew.",
            )


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise _unreadable(path) from error
    if not isinstance(state, dict):
        raise _unreadable(path)
    return state


def _unreadable(path: Path) -> WeightsError:
    return WeightsError(
        f"{path}: cannot be read, expected the state of a training.", hint="Remove the file to start anew."
    )


def fingerprint(values: Any) -> str:
    """Give a short hash of lists of cases or of other values that JSON can hold."""
    return hashlib.sha256(json.dumps(values, default=str, sort_keys=True).encode()).hexdigest()[:16]


def _agree(saved: str, now: str) -> bool:
    """Whether two settings, as `repr` gives them, are the same; 15 and 15.0 are."""
    try:
        return float(saved) == float(now)
    except ValueError:
        return saved == now


def _without_length(part: Any, state: Any) -> Any:
    """A saved state; of a schedule without what its configuration decides: its form and its length."""
    if not isinstance(part, LRScheduler):
        return state
    own = part.state_dict()
    return {**state, **{name: own[name] for name in SCHEDULE if name in own}}


def write_state(state: Mapping[str, Any], path: Path) -> None:
    """Write a state with `torch.save` beside its target, flush it to disk, then put it in place.

    Of several processes that train one model, the first one writes.

    Raises
    ------
    OutputError
        If it cannot be written, as on a full disk; the last one that was written stays.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
        return
    write_whole(state, path, path.with_name(path.name + ".part"))


def write_whole(state: Mapping[str, Any], path: Path, temporary: Path) -> None:
    """Do what `write_state` does, in every process; those that write one file need a temporary name each.

    Raises
    ------
    OutputError
        If it cannot be written, as on a full disk; the last one that was written stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # PyTorch's writer tells of a full disk in words of its own
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}.",
            hint="Make room or choose another output folder, and give the same command again to go on.",
            reason="not-writable",
        ) from error
