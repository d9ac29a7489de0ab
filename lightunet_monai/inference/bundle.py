"""Opens a bundle: configuration becomes its parts. The only module that knows MONAI's bundle API."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BundleError, UsageError
from ..labels import LabelTable
from ..options import RunOptions
from ..weights import load_weights
from .bundle_files import (
    INT8_FILE,
    check_configs,
    find_bundle,
    named_metadata,
    overlays_of,
    read_metadata,
    weights_path,
)
from .device import check_device
from .startup import import_rest_of_monai

Step = Callable[[dict[str, Any]], dict[str, Any]]

SETTING_IDS = (
    "model_spacing",
    "left_out_spacing",
    "left_out_sha256",
    "rank_range_ml",
    "model_size",
    "percentiles",
    "apply_voi",
    "slice_axes",
    "refine_logit",
    "threshold",
    "piece_threshold",
    "sure_threshold",
    "temperature",
    "minimum_diameter",
    "minimum_share",
)
"""Ids whose values a report names, where the model has them."""

PART_IDS = ("network", "device", "preprocessing", "inferer", "postprocessing", "probability")
"""Ids that are taken out of the configuration, in this order."""

OPTION_IDS = {"device": "device", "sw_batch_size": "inferer#sw_batch_size", "overlap": "inferer#overlap"}
"""Field of `RunOptions` to id in the configuration. The other fields choose how the network is run, not what it is."""


@dataclass(frozen=True)
class BundleParts:
    """What an opened bundle is made of.

    Parameters
    ----------
    preprocessing, postprocessing, probability : callable
        Dictionary in, dictionary out, as ``inference.json`` composes them.
    inferer : callable
        ``inferer(inputs, network, progress=...)``, (1, 1, X, Y, Z) to logits (1, K, X, Y, Z).
    network : Module
        In evaluation mode, with its weights, on its device.
    metadata : mapping
        The content of ``metadata.json``, as this model sees it.
    labels : LabelTable
        Read from it.
    device : torch.device
        Where the network is.
    weights_sha256 : str
        Hash of ``model.pt``.
    settings : dict
        The numbers of the configuration that a report names: spacing, threshold, temperature.
    int8_ranges : mapping
        From ``int8.json`` of the CT model, where it was made for these weights; else empty.
    """

    preprocessing: Step
    inferer: Callable[..., Any]
    network: Any
    postprocessing: Step
    probability: Step
    metadata: Mapping[str, Any]
    labels: LabelTable
    device: Any
    weights_sha256: str
    settings: dict[str, object]
    int8_ranges: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)


def open_bundle(
    path: str | Path | None = None,
    options: RunOptions | None = None,
    *,
    threshold: float | None = None,
    sure_threshold: float | None = None,
    model: str | None = None,
) -> BundleParts:
    """Open a bundle and take out its parts.

    Parameters
    ----------
    path : path, optional
        As in `find_bundle`. A configuration is a program: open only bundles you trust.
    options : RunOptions, optional
        Fields that are None stay as the bundle says.
    threshold : float, optional
        Operating threshold in place of the bundle's; the report records it.
    sure_threshold : float, optional
        Highest probability that a piece must reach in place of the bundle's; 0 asks for none.
    model : str, optional
        `DEFAULT_MODEL`, or a key under ``models`` in ``metadata.json``; left out, the bundle's ``default_model``.

    Returns
    -------
    BundleParts

    Raises
    ------
    UsageError
        If the bundle has no such model, this machine not the device of the options, or a threshold is no probability.
    BundleError
        If the configuration or metadata cannot be used.
    WeightsError
        If the weights are missing, damaged or of another network.
    """
    root = find_bundle(path)
    options = options or RunOptions()
    if options.device is not None:
        check_device(options.device)
    if threshold is not None and not 0 < threshold < 1:
        raise UsageError(f"option threshold: found {threshold}, expected above 0 and below 1.")
    if sure_threshold is not None and not 0 <= sure_threshold < 1:
        raise UsageError(f"option sure_threshold: found {sure_threshold}, expected 0 or more and below 1.")
    metadata = read_metadata(root)
    names = ["inference.json", *overlays_of(metadata, model)]
    check_configs(root, names)
    overrides: dict[str, Any] = {"bundle_root": str(root)}
    for name, config_id in OPTION_IDS.items():
        value = getattr(options, name)
        if value is not None:
            overrides[config_id] = f"$torch.device({str(value)!r})" if name == "device" else value
    if threshold is not None:
        overrides["threshold"] = threshold
    if sure_threshold is not None:
        overrides["sure_threshold"] = sure_threshold
    try:
        parts, settings = _parse(root, names, overrides)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, ModuleNotFoundError, SyntaxError) as error:
        if isinstance(error.__cause__, BundleError):  # a part that found its file missing or damaged
            raise error.__cause__ from error
        files = " with ".join(f"configs/{name}" for name in names)
        raise BundleError(f"{root}: {files} cannot be used: {_describe(error)}.") from error
    network, device = parts["network"], _device(parts.pop("device"))
    metadata = named_metadata(root, metadata, model)
    sha256 = load_weights(network, weights_path(root, model), str(metadata.get("weights_sha256") or ""))
    network.eval()
    return BundleParts(
        **parts,
        metadata=metadata,
        labels=LabelTable.from_metadata(metadata),
        device=device,
        weights_sha256=sha256,
        settings=settings,
        int8_ranges=_read_int8_ranges(root, sha256),
    )


def _device(said: Any) -> Any:
    """The device that a configuration gives, which may be its name."""
    import torch

    return torch.device(said)


def _describe(error: BaseException) -> str:
    """What MONAI was about, and what stopped it: the first line of its error, and of the first one behind it."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    said = [f"{found}".strip().partition("\n")[0].rstrip(".") for found in dict.fromkeys((error, cause))]
    return ": ".join(said)


def _read_int8_ranges(root: Path, weights_sha256: str) -> dict[str, tuple[float, float, float, float]]:
    """Ranges for int8 if they were measured with these weights; those of other weights would be wrong."""
    path = root / "configs" / INT8_FILE
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["weights_sha256"] != weights_sha256:
            return {}
        ranges = {}
        for name, values in content["ranges"].items():
            low_in, high_in, low_out, high_out = map(float, values)
            ranges[str(name)] = (low_in, high_in, low_out, high_out)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: cannot be used: {type(error).__name__}.", hint="Reinstall the bundle.") from error
    return ranges


def _parse(root: Path, names: list[str], overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the parts and the settings of a configuration."""
    try:
        return _resolve(root, names, overrides)
    except (ModuleNotFoundError, AttributeError):
        if not import_rest_of_monai():  # what is named is nowhere
            raise
        return _resolve(root, names, overrides)


def _resolve(root: Path, names: list[str], overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    parser = _workflow(root, names, "inference", overrides).parser
    parts = {name: parser.get_parsed_content(name) for name in PART_IDS}
    settings = {name: parser.get_parsed_content(name, default=None) for name in SETTING_IDS}
    return parts, {name: value for name, value in settings.items() if value is not None}


def open_training(path: str | Path | None, overrides: Mapping[str, Any], model: str | None = None) -> Any:
    """Open a bundle for training: ``train.json`` on top of ``inference.json``, each with what the model adds.

    Parameters
    ----------
    path : path, optional
        As in `find_bundle`.
    overrides : mapping
        Id in the configuration to value, such as ``{"max_epochs": 5}``.
    model : str, optional
        As in `open_bundle`.

    Returns
    -------
    monai.bundle.ConfigWorkflow
        Not initialised yet; ``parser`` holds the parts.

    Raises
    ------
    BundleError
        If the bundle has no ``train.json``, or a configuration file is missing or damaged.
    """
    root = find_bundle(path)
    config = root / "configs" / "train.json"
    if not config.is_file():
        raise BundleError(f"{root}: has no configs/train.json.", hint="Use a bundle that can be trained.")
    metadata = read_metadata(root)
    names = [
        "inference.json",
        *overlays_of(metadata, model),
        "train.json",
        *overlays_of(metadata, model, for_training=True),
    ]
    check_configs(root, names)
    return _workflow(root, names, "train", {"bundle_root": str(root), **overrides})


def _workflow(root: Path, names: list[str], kind: str, overrides: Mapping[str, Any]) -> Any:
    from monai.bundle import ConfigWorkflow

    # MONAI warns on standard output that it leaves our logging alone, which is what we asked for.
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    return ConfigWorkflow(
        config_file=[str(root / "configs" / name) for name in names],
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        **overrides,
    )
