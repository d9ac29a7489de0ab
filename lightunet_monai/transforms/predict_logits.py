"""A network as a step of a transform."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..weights import load_weights


class PredictLogitsd(MapTransform):
    """Run a network with weights of its own over a volume, on the CPU in float32, and keep the logits.

    For what the main network needs to know before it starts. Takes (1, X, Y, Z) under each key and puts the logits
    (K, X, Y, Z) under the key of the same place in ``output_keys``. The weights are read when the first volume comes.

    Parameters
    ----------
    keys : keys of the volumes
    network : Module
    inferer : callable
        ``inferer(inputs, network)``, (1, 1, X, Y, Z) to logits (1, K, X, Y, Z).
    weights : path
        A plain state dict.
    weights_sha256 : str
        Hash that the file must have; empty for none.
    output_keys : keys, as many as ``keys``

    Raises
    ------
    WeightsError
        If the weights are missing, damaged or of another network.
    """

    def __init__(
        self,
        keys: KeysCollection,
        network: torch.nn.Module,
        inferer: Callable[..., torch.Tensor],
        weights: str | Path,
        weights_sha256: str = "",
        output_keys: KeysCollection = "pred",
    ) -> None:
        super().__init__(keys)
        self.network = network.eval()
        self.inferer = inferer
        self.weights = Path(weights)
        self.weights_sha256 = weights_sha256
        self.output_keys = (output_keys,) if isinstance(output_keys, str) else tuple(output_keys)
        self.is_loaded = False

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Predict each key; other entries pass through."""
        if not self.is_loaded:
            load_weights(self.network, self.weights, self.weights_sha256)
            self.is_loaded = True
        out = dict(data)
        for key, output_key in self.key_iterator(out, self.output_keys):
            with torch.no_grad():
                out[output_key] = self.inferer(out[key].as_tensor()[None].cpu(), self.network)[0]
        return out
