"""The random numbers of a training, so that a resumed one goes on with those that it would have had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from monai.transforms import Compose, Randomizable


class RandomStates:
    """The states of PyTorch, NumPy and the random transforms of a dataset, for `ResumeState`.

    With several processes nothing is restored: they must not draw the same numbers.

    Parameters
    ----------
    transform : Compose
        Of the training dataset.
    """

    def __init__(self, transform: Compose) -> None:
        self._random = list(_random_steps(transform))

    def state_dict(self) -> dict[str, Any]:
        """Give all states, as tensors and numbers."""
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": _encoded(np.random.get_state()),
            "transforms": [_encoded(step.R.get_state()) for step in self._random],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave.

        Raises
        ------
        ValueError
            If it is of other transforms.
        """
        if len(state["transforms"]) != len(self._random):
            raise ValueError(f"{len(state['transforms'])} random transforms, found {len(self._random)}")
        if dist.is_available() and dist.is_initialized():
            return
        torch.set_rng_state(state["torch"])
        if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        np.random.set_state(_decoded(state["numpy"]))
        for step, saved in zip(self._random, state["transforms"], strict=True):
            step.R.set_state(_decoded(saved))


def _random_steps(step: Any) -> Iterator[Randomizable]:
    # `Compose.flatten` makes a new Compose, which seeds the steps anew.
    if isinstance(step, Randomizable):
        yield step
    if isinstance(step, Compose):
        for inner in step.transforms:
            yield from _random_steps(inner)


def _encoded(state: Any) -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = state
    return {
        "name": name,
        "keys": torch.from_numpy(keys.astype(np.int64)),
        "rest": [int(position), int(has_gauss), float(gauss)],
    }


def _decoded(state: Mapping[str, Any]) -> tuple[Any, ...]:
    return (state["name"], state["keys"].numpy().astype(np.uint32), *state["rest"])
