"""Finds and opens the bundle: configuration becomes its parts. The only module that knows MONAI's bundle API."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BundleError, UsageError, WeightsError
from ..labels import DEFAULT_MODEL, LabelTable, default_model, metadata_of
from ..options import RunOptions
from .startup import import_rest_of_monai

Step = Callable[[dict[str, Any]], dict[str, Any]]

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
"""The folder of the installed package."""

REQUIRED_FILES = ("configs/metadata.json", "configs/inference.json", "models/model.pt")

DEFAULT_WEIGHTS = "models/model.pt"

SETTING_IDS = (
    "model_spacing",
    "rank_range_ml",
    "model_size",
    "percentiles",
    "apply_voi",
    "threshold",
    "sure_threshold",
    "temperature",
    "minimum_diameter",
    "minimum_share",
)
"""Ids whose values a report names, where the model has them."""

INT8_FILE = "int8.json"
"""In ``configs``: the ranges that `int8.quantize` needs, and the weights they belong to."""

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


def find_bundle(path: str | Path | None = None) -> Path:
    """Find the bundle: the path given, else the copy in the installed package, else the one beside it.

    Parameters
    ----------
    path : path, optional
        A bundle's folder.

    Returns
    -------
    Path
        Absolute; holds ``configs/metadata.json``, ``configs/inference.json`` and ``models/model.pt``.

    Raises
    ------
    BundleError
        If there is none, or a file of it is missing.
    """
    if path is not None:
        root = Path(path).resolve()
        missing = [name for name in REQUIRED_FILES if not (root / name).is_file()]
        if missing:
            raise BundleError(
                f"{root}: not a complete bundle, {', '.join(missing)} is missing.",
                hint="Give the folder that holds configs/ and models/.",
            )
        return root
    for root in (PACKAGE_ROOT / "monai_bundle", PACKAGE_ROOT.parent / "monai_bundle"):
        if all((root / name).is_file() for name in REQUIRED_FILES):
            return root
    raise BundleError("no bundle in or beside the package.", hint="Reinstall the package, or give --bundle FOLDER.")


def read_metadata(root: Path) -> dict[str, Any]:
    """Read ``metadata.json`` alone: quick, no torch.

    Raises
    ------
    BundleError
        If it is not JSON.
    """
    try:
        metadata: dict[str, Any] = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{root}: metadata.json cannot be read: {error}.") from error
    return metadata


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
        If the bundle has no such model.
    BundleError
        If the configuration or metadata cannot be used.
    WeightsError
        If the weights are missing, damaged or of another network.
    """
    root = find_bundle(path)
    options = options or RunOptions()
    metadata = read_metadata(root)
    overlays = _overlays(metadata, model)
    overrides: dict[str, Any] = {"bundle_root": str(root)}
    for name, config_id in OPTION_IDS.items():
        value = getattr(options, name)
        if value is not None:
            overrides[config_id] = f"$torch.device({value!r})" if name == "device" else value
    if threshold is not None:
        overrides["threshold"] = threshold
    if sure_threshold is not None:
        overrides["sure_threshold"] = sure_threshold
    try:
        parts, settings = _parse(root, overlays, overrides)
    except (KeyError, ValueError, RuntimeError, ModuleNotFoundError) as error:
        raise BundleError(f"{root}: inference.json cannot be used: {error}.") from error
    network, device = parts["network"], parts.pop("device")
    metadata = metadata_of(metadata, model)
    sha256 = _load_weights(network, weights_path(root, model), metadata.get("weights_sha256", ""))
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


def _read_int8_ranges(root: Path, weights_sha256: str) -> dict[str, tuple[float, float, float, float]]:
    """Ranges for int8 if they were measured with these weights; those of other weights would be wrong."""
    path = root / "configs" / INT8_FILE
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["weights_sha256"] != weights_sha256:
            return {}
        ranges = {str(name): tuple(map(float, values)) for name, values in content["ranges"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: cannot be used: {error!r}.", hint="Reinstall the bundle.") from error
    return {name: (low_in, high_in, low_out, high_out) for name, (low_in, high_in, low_out, high_out) in ranges.items()}


def weights_path(root: Path, model: str | None = None) -> Path:
    """The weights file of a model: ``weights`` in its overlay, whether it is there or not.

    Raises
    ------
    UsageError
        If the bundle has no such model.
    BundleError
        If the overlay cannot be read.
    """
    name = DEFAULT_WEIGHTS
    for overlay in _overlays(read_metadata(root), model):
        try:
            name = json.loads((root / "configs" / overlay).read_text(encoding="utf-8")).get("weights", name)
        except (OSError, ValueError) as error:
            raise BundleError(f"{root}: configs/{overlay} cannot be read: {error}.") from error
    return root / name


def takes_pictures(metadata: Mapping[str, Any], model: str | None = None) -> bool:
    """Whether a model is for single 2-D images, not for volumes.

    Raises
    ------
    UsageError
        If the bundle has no such model.
    """
    model = model or default_model(metadata)
    _overlays(metadata, model)
    # Bundles from before there was another model of volumes do not say it: theirs were for pictures.
    return model != DEFAULT_MODEL and bool(metadata["models"][model].get("is_picture", True))


def model_files(root: Path, model: str | None = None) -> list[Path]:
    """The files that decide on the results of a model, there or not: metadata, configuration, int8 ranges, weights."""
    metadata = read_metadata(root)
    configs = [
        root / "configs" / name for name in ("metadata.json", "inference.json", *_overlays(metadata, model), INT8_FILE)
    ]
    return [*configs, weights_path(root, model)]


def settings_file(root: Path, model: str | None = None) -> Path:
    """The configuration file that decides on the thresholds of a model: its last one that names them."""
    names = ["inference.json", *_overlays(read_metadata(root), model)]
    files = [root / "configs" / name for name in names]
    return [path for path in files if "threshold" in json.loads(path.read_text(encoding="utf-8"))][-1]


def _overlays(metadata: Mapping[str, Any], model: str | None, *, for_training: bool = False) -> list[str]:
    """The configuration files that a model adds to ``inference.json`` (or to ``train.json``)."""
    model = model or default_model(metadata)
    if model == DEFAULT_MODEL:
        return []
    models = metadata.get("models", {})
    if model not in models:
        raise UsageError(
            f"option --model: found {model!r}, expected one of {', '.join((DEFAULT_MODEL, *sorted(models)))}."
        )
    return list(models[model]["train_overlays" if for_training else "overlays"])


def _parse(root: Path, overlays: list[str], overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the parts and the settings of a configuration."""
    try:
        return _resolve(root, overlays, overrides)
    except (ModuleNotFoundError, AttributeError):
        if not import_rest_of_monai():  # what is named is nowhere
            raise
        return _resolve(root, overlays, overrides)


def _resolve(root: Path, overlays: list[str], overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    from monai.bundle import ConfigWorkflow

    # MONAI warns on standard output that it leaves our logging alone, which is what we asked for.
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    parser = ConfigWorkflow(
        config_file=[str(root / "configs" / name) for name in ("inference.json", *overlays)],
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="inference",
        **overrides,
    ).parser
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
        If the bundle has no ``train.json``.
    """
    root = find_bundle(path)
    config = root / "configs" / "train.json"
    if not config.is_file():
        raise BundleError(f"{root}: has no configs/train.json.", hint="Use a bundle that can be trained.")
    metadata = read_metadata(root)
    names = [
        "inference.json",
        *_overlays(metadata, model),
        "train.json",
        *_overlays(metadata, model, for_training=True),
    ]
    from monai.bundle import ConfigWorkflow

    return ConfigWorkflow(
        config_file=[str(root / "configs" / name) for name in names],
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(root),
        **overrides,
    )


def write_bundle(
    template: str | Path | None,
    weights: Path,
    target: Path,
    *,
    version: str,
    data_source: str,
    model: str | None = None,
) -> None:
    """Make a bundle of new weights: the configuration of another one, stamped.

    Parameters
    ----------
    template : path, optional
        The bundle the weights were trained with, as in `find_bundle`.
    weights : Path
        A plain state dict.
    target : Path
        Folder of the new bundle; replaced if it is there.
    version, data_source : str
        For its ``metadata.json``: what a report will say of results made with it.
    model : str, optional
        Which model of the bundle the weights are for; the others stay as they are. A model of volumes becomes the
        one that the new bundle means where none is asked for.
    """
    root = find_bundle(template)
    metadata = read_metadata(root)
    metadata["changelog"] = {version: f"Trained on {data_source}", **metadata["changelog"]}
    model = model or default_model(metadata)
    if model != default_model(metadata) and not takes_pictures(metadata, model):
        metadata["default_model"] = model
    stamped = metadata if model == DEFAULT_MODEL else metadata["models"][model]["metadata"]
    stamped.update(version=version, data_source=data_source, eval_metrics={})
    stamped["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    place = weights_path(root, model).relative_to(root)
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(root, part, ignore=shutil.ignore_patterns(place.name, "*.ts", "*.onnx"))
    (part / place).parent.mkdir(exist_ok=True)
    shutil.copyfile(weights, part / place)
    (part / "configs" / "metadata.json").write_text(json.dumps(metadata, indent=4) + "\n", encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def _load_weights(network: Any, path: Path, expected_sha256: str) -> str:
    import torch

    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{path}: the weights of this model are not there: {error.strerror}.",
            hint="Train them with 'lightunet train --model NAME', then give --bundle OUT/bundle.",
        ) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if expected_sha256 and sha256 != expected_sha256:
        raise WeightsError(
            f"{path}: its SHA-256 starts with {sha256[:12]}, metadata.json says {expected_sha256[:12]}.",
            hint="The file is damaged or was replaced; reinstall, or use the bundle that 'lightunet train' wrote.",
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler met
        raise WeightsError(f"{path}: cannot be read as weights: {error}.", hint="Reinstall the bundle.") from error
    own = network.state_dict()
    differing = [
        key
        for key in sorted(set(own) | set(state))
        if key not in own or key not in state or own[key].shape != state[key].shape
    ]
    if differing:
        raise WeightsError(
            f"{path}: {len(differing)} of {len(own)} entries do not fit {type(network).__name__}, "
            f"the first are {', '.join(differing[:3])}.",
            hint="Use the weights that belong to this bundle's network_def.",
        )
    network.load_state_dict(state)
    return sha256
