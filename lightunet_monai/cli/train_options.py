"""What ``lightunet train`` changes in the training of a bundle, checked before anything is opened."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import UsageError


@dataclass(frozen=True)
class Limits:
    """Which numbers an entry of train.json may be.

    Parameters
    ----------
    low, high : float
        Both allowed; infinity itself is not.
    is_whole : bool
        Whole numbers alone.
    """

    low: float = 0.0
    high: float = math.inf
    is_whole: bool = False

    def __contains__(self, value: object) -> bool:
        is_number = isinstance(value, int if self.is_whole else (int, float)) and not isinstance(value, bool)
        return is_number and math.isfinite(value) and self.low <= value <= self.high  # type: ignore[arg-type,operator]

    def __str__(self) -> str:
        kind = "a whole number" if self.is_whole else "a number"
        return (
            f"{kind} of {self.low:g} or more" if math.isinf(self.high) else f"{kind} from {self.low:g} to {self.high:g}"
        )


LIMITS = {
    "max_epochs": Limits(1, is_whole=True),
    "val_interval": Limits(1, is_whole=True),
    "patience": Limits(is_whole=True),
    "fold": Limits(is_whole=True),
    "seed": Limits(high=2**32 - 1, is_whole=True),  # what NumPy takes
    "volumes_per_batch": Limits(1, is_whole=True),
    "slices_per_volume": Limits(1, is_whole=True),
    "fewest_cases": Limits(is_whole=True),
    "warmup_steps": Limits(is_whole=True),
    "precise_batch_norm_batches": Limits(is_whole=True),
    "train_margin": Limits(is_whole=True),
    "learning_rate": Limits(),
    "weight_decay": Limits(),
    "max_gradient_norm": Limits(),
    "lesion_weight": Limits(),
    "small_lesion_weight": Limits(),
    "cross_entropy_share": Limits(high=1),
    "lesion_share": Limits(high=1),
    "bright_share": Limits(high=1),
    "ema_momentum": Limits(high=1),
}
"""Of the entries of train.json that are a number; what is not listed is the configuration's to refuse."""

FLAGS = ("max_epochs", "val_interval", "learning_rate", "seed", "loss", "fold", "patience")
"""Entries of train.json that have a flag of their own."""


def training_overrides(arguments: argparse.Namespace, root: Path, model: str) -> dict[str, Any]:
    """Give what the options of ``lightunet train`` change in the configuration of a bundle.

    Parameters
    ----------
    arguments : Namespace
        Of the subcommand.
    root : Path
        The bundle.
    model : str
        Which of its models is trained.

    Returns
    -------
    dict
        Id in the configuration to value.

    Raises
    ------
    UsageError
        If a value is out of its range, or an entry is not one of the training.
    """
    from ..inference.device import check_device

    overrides: dict[str, Any] = {
        "datalist": str(arguments.data.absolute()),
        "output_dir": str(arguments.output.absolute()),
        "pretrained": "" if arguments.from_scratch else str(_first_weights(root, model)),
    }
    for name in FLAGS:
        value = getattr(arguments, name)
        if value is not None:
            _check_range(f"--{name.replace('_', '-')}", name, value)
            overrides[name] = value
    if arguments.mlflow:
        if find_spec("mlflow") is None:
            raise UsageError("option --mlflow needs the package mlflow.", hint="pip install 'lightunet_monai[mlflow]'")
        overrides["mlflow_uri"] = arguments.mlflow
    if arguments.device:
        check_device(arguments.device)
        overrides["device"] = f"$torch.device({arguments.device!r})"
    return overrides | _set_entries(arguments.set, root, model)


def _set_entries(items: list[str], root: Path, model: str) -> dict[str, Any]:
    from ..inference.bundle_files import training_ids

    trained = training_ids(root, model)
    entries: dict[str, Any] = {}
    for item in items:
        key, separator, text = item.partition("=")
        if not separator:
            raise UsageError(f"option --set: found {item!r}, expected ID=VALUE.")
        if key.partition("#")[0] not in trained:
            raise UsageError(
                f"option --set: found {key}, expected an entry of train.json, such as max_epochs.",
                hint="What the model does to a volume is the same in training and in use: change it in a copy of the "
                "bundle, and give that with --bundle.",
            )
        value = _value(text)
        if not (isinstance(value, str) and value.startswith(("$", "@"))):  # an expression is seen when it is evaluated
            _check_range(f"--set {key}", key, value)
        entries[key] = value
    return entries


def _check_range(option: str, name: str, value: Any) -> None:
    limits = LIMITS.get(name)
    if limits is None or (name == "fold" and value is None) or value in limits:
        return
    raise UsageError(f"option {option}: found {value}, expected {limits}.")


def _first_weights(root: Path, model: str) -> Path:
    """The weights of the model, or of the bundle's first model where it has none yet: the network is the same."""
    from ..inference.bundle_files import weights_path
    from ..labels import DEFAULT_MODEL

    own = weights_path(root, model)
    return own if own.exists() else weights_path(root, DEFAULT_MODEL)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
