"""Weights from a file into a network, with all checks."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import WeightsError

if TYPE_CHECKING:
    import torch


def load_weights(network: torch.nn.Module, path: Path, expected_sha256: str = "") -> str:
    """Put the weights of a file into a network.

    Parameters
    ----------
    network : Module
        Its entries must have the names and shapes of the file's.
    path : Path
        A plain state dict.
    expected_sha256 : str
        Hash that the file must have; empty for none.

    Returns
    -------
    str
        The SHA-256 of the file.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, not the expected one, of another network, or holds values that are not finite.
    """
    import torch

    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{path}: the weights of this network are not there: {error.strerror}.",
            hint="Reinstall the bundle, or train them: 'lightunet train --model NAME', then --bundle OUT/bundle.",
        ) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if expected_sha256 and sha256 != expected_sha256:
        raise WeightsError(
            f"{path}: its SHA-256 starts with {sha256[:12]}, the bundle says {expected_sha256[:12]}.",
            hint="The file is damaged or was replaced; reinstall, or use the bundle that 'lightunet train' wrote.",
        )
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler met
        raise WeightsError(f"{path}: cannot be read as weights: {error}.", hint="Reinstall the bundle.") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(
            f"{path}: found a {type(state).__name__}, expected a state dict: names and tensors alone.",
            hint="Save network.state_dict() alone.",
        )
    own = network.state_dict()
    differing = [
        key
        for key in sorted(set(own) | set(state), key=str)
        if key not in own or key not in state or own[key].shape != state[key].shape
    ]
    if differing:
        raise WeightsError(
            f"{path}: {len(differing)} of {len(own)} entries do not fit {type(network).__name__}, "
            f"the first are {', '.join(map(str, differing[:3]))}.",
            hint="Use the weights that belong to this bundle's network_def.",
        )
    check_finite(state, path)
    network.load_state_dict(state)
    return sha256


def check_finite(state: Mapping[str, Any], path: str | Path) -> None:
    """Refuse weights with which a network answers nothing but NaN, which is a label map without a lesion.

    Parameters
    ----------
    state : mapping of str to Tensor
        A state dict.
    path : path
        The file that they come from.

    Raises
    ------
    WeightsError
        If an entry is infinite or not a number.
    """
    wrong = not_finite(state)
    if wrong:
        raise WeightsError(
            f"{path}: {len(wrong)} of {len(state)} entries are not finite, the first are {', '.join(wrong[:3])}.",
            hint="The training that made them has diverged: give others, or train again with a lower --learning-rate.",
        )


def not_finite(state: Mapping[str, Any]) -> list[str]:
    """Name the entries of a state dict that hold an infinite value or one that is not a number."""
    floating = {key: value for key, value in state.items() if value.is_floating_point()}
    return [key for key, value in floating.items() if not bool(value.isfinite().all())]
