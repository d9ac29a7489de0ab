"""The files of a bundle: where it is, what belongs to which of its models, and a new one of new weights. No torch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BundleError, LightUNetError, UsageError
from ..labels import DEFAULT_MODEL, default_model, metadata_of

COPIED = ("configs", "models", "docs", "LICENSE")
"""What a new bundle takes over from the one it was trained with; whatever else lies there belongs to its owner."""

TRAINED_WITH = "trained_with"
"""In ``metadata.json``, of a model whose weights `write_bundle` put in: the rest of the bundle is that of others."""

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
"""The folder of the installed package."""

REQUIRED_FILES = ("configs/metadata.json", "configs/inference.json", "models/model.pt")

DEFAULT_WEIGHTS = "models/model.pt"

LEFT_OUT_WEIGHTS = "models/left_out.pt"
"""Of the small network that finds what the ranks leave out; not in every bundle."""

INT8_FILE = "int8.json"
"""In ``configs``: the ranges that `int8.quantize` needs, and the weights they belong to."""

DEFAULT_PIECES = "configs/pieces.json"
"""The regression that judges connected pieces, where the configuration names no other; not in every bundle."""


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
        If it is no JSON object.
    """
    metadata = _read_config(root, "metadata.json")
    models = metadata.get("models", {})
    if not isinstance(models, dict) or not all(isinstance(model, dict) for model in models.values()):
        raise BundleError(f"{root}: configs/metadata.json: 'models' must be an object of objects.")
    return metadata


def named_metadata(root: Path, metadata: dict[str, Any], model: str | None = None) -> dict[str, Any]:
    """Give what ``metadata.json`` says of one model, as `metadata_of`, which has to be named with its version.

    Raises
    ------
    BundleError
        If it is not.
    """
    found = metadata_of(metadata, model)
    unnamed = [key for key in ("name", "version") if key not in found]
    if unnamed:  # a report says which model it was
        raise BundleError(f"{root}: configs/metadata.json: the key {unnamed[0]!r} is missing.", hint="Add it.")
    return found


def weights_path(root: Path, model: str | None = None) -> Path:
    """The weights file of a model: ``weights`` in its configuration, whether it is there or not.

    Raises
    ------
    UsageError
        If the bundle has no such model.
    BundleError
        If the configuration cannot be read.
    """
    return _named_file(root, model, "weights", DEFAULT_WEIGHTS)


def pieces_path(root: Path, model: str | None = None) -> Path:
    """The judgement of pieces of a model: ``pieces`` in its configuration, whether it is there or not.

    Raises
    ------
    UsageError
        If the bundle has no such model.
    BundleError
        If the configuration cannot be read.
    """
    return _named_file(root, model, "pieces", DEFAULT_PIECES)


def _named_file(root: Path, model: str | None, key: str, name: str) -> Path:
    for config in ("inference.json", *overlays_of(read_metadata(root), model)):
        name = _read_config(root, config).get(key, name)
    if not isinstance(name, str):
        raise BundleError(f"{root}: the configuration gives {name!r} as {key!r}, expected the path of a file.")
    return root / name


def _read_config(root: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads((root / "configs" / name).read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{root}: configs/{name} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{root}: configs/{name} cannot be read: {error}.") from error
    if not isinstance(config, dict):
        raise BundleError(f"{root}: configs/{name}: found {type(config).__name__}, expected an object of ids.")
    return config


def check_configs(root: Path, names: Sequence[str]) -> None:
    """Check that configuration files are there and hold ids.

    Parameters
    ----------
    root : Path
        The bundle.
    names : sequence of str
        In ``configs``.

    Raises
    ------
    BundleError
        If one of them is missing or no JSON object; names it.
    """
    for name in names:
        _read_config(root, name)


def tissue_values(root: Path, model: str | None = None) -> dict[int, int]:
    """What the values of a tissue map are as labels of a model: ``label_values`` in its training configuration.

    Raises
    ------
    UsageError
        If the bundle has no such model.
    BundleError
        If the configuration cannot be read.
    """
    values: dict[str, int] = {}
    for config in overlays_of(read_metadata(root), model, for_training=True):
        values = _read_config(root, config).get("label_values", values)
    return {int(tissue): int(label) for tissue, label in values.items()}


def takes_pictures(metadata: Mapping[str, Any], model: str | None = None) -> bool:
    """Whether a model is for single 2-D images, not for volumes.

    Raises
    ------
    UsageError
        If the bundle has no such model.
    """
    model = model or default_model(metadata)
    overlays_of(metadata, model)
    # Bundles from before there was another model of volumes do not say it: theirs were for pictures.
    return model != DEFAULT_MODEL and bool(metadata["models"][model].get("is_picture", True))


def model_files(root: Path, model: str | None = None) -> list[Path]:
    """The files that decide on the results of a model, there or not: metadata, configuration, weights."""
    metadata = read_metadata(root)
    configs = [
        root / "configs" / name
        for name in ("metadata.json", "inference.json", *overlays_of(metadata, model), INT8_FILE)
    ]
    return [*configs, pieces_path(root, model), root / LEFT_OUT_WEIGHTS, weights_path(root, model)]


def settings_file(root: Path, model: str | None = None) -> Path:
    """The configuration file that decides on the thresholds of a model: its last one that names them."""
    names = ["inference.json", *overlays_of(read_metadata(root), model)]
    files = [root / "configs" / name for name in names]
    return [path for path in files if "threshold" in json.loads(path.read_text(encoding="utf-8"))][-1]


def training_ids(root: Path, model: str | None) -> set[str]:
    """Give the top-level ids that only the training has: what is not also decided when the model is used."""
    metadata = read_metadata(root)

    def ids(names: list[str]) -> set[str]:
        texts = [(root / "configs" / name).read_text(encoding="utf-8") for name in names]
        return {key.partition("#")[0] for text in texts for key in json.loads(text)}

    in_use = ids(["inference.json", *overlays_of(metadata, model)])
    return ids(["train.json", *overlays_of(metadata, model, for_training=True)]) - in_use


def overlays_of(metadata: Mapping[str, Any], model: str | None, *, for_training: bool = False) -> list[str]:
    """The configuration files that a model adds to ``inference.json`` (or to ``train.json``)."""
    is_asked_for = model is not None
    model = model or default_model(metadata)
    if model == DEFAULT_MODEL:
        return []
    models = metadata.get("models", {})
    if model not in models and not is_asked_for:
        raise BundleError(f"configs/metadata.json: default_model is {model!r}, which is not among its models.")
    if model not in models:
        raise UsageError(
            f"option --model: found {model!r}, expected one of {', '.join((DEFAULT_MODEL, *sorted(models)))}."
        )
    key = "train_overlays" if for_training else "overlays"
    if key not in models[model]:
        raise BundleError(f"configs/metadata.json: the model {model} has no {key!r}.")
    return list(models[model][key])


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
        Folder of the new bundle; replaced if it is there. Outside of the other bundle.
    version, data_source : str
        For its ``metadata.json``: what a report will say of results made with it.
    model : str, optional
        Which model of the bundle the weights are for; the others stay as they are. A model of volumes becomes the
        one that the new bundle means where none is asked for.

    Raises
    ------
    UsageError
        As `check_new_bundle`.
    BundleError
        If the other bundle is not complete.
    """
    root = find_bundle(template)
    check_new_bundle(root, target)
    metadata = read_metadata(root)
    metadata["changelog"] = {version: f"Trained on {data_source}", **metadata.get("changelog", {})}
    model = model or default_model(metadata)
    if model != default_model(metadata) and not takes_pictures(metadata, model):
        metadata["default_model"] = model
    stamped = metadata if model == DEFAULT_MODEL else metadata["models"][model].setdefault("metadata", {})
    stamped.update(version=version, data_source=data_source, eval_metrics={})
    stamped["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    stamped[TRAINED_WITH] = "lightunet train"
    place = weights_path(root, model).relative_to(root)
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for item in (root / name for name in COPIED):
        if item.is_dir():
            shutil.copytree(item, part / item.name, ignore=shutil.ignore_patterns(place.name, "*.ts", "*.onnx"))
        elif item.is_file():
            shutil.copyfile(item, part / item.name)
    (part / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(weights, part / place)
    (part / "configs" / "metadata.json").write_text(json.dumps(metadata, indent=4) + "\n", encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def holds_weights(bundle: Path, model: str, weights: Path) -> bool:
    """Whether a bundle, if it is there and whole, has these very weights for a model.

    Parameters
    ----------
    bundle : Path
        Its folder; it need not exist.
    model : str
        As in `weights_path`.
    weights : Path
        A file of weights.
    """
    try:
        own = weights_path(find_bundle(bundle), model)
    except LightUNetError:
        return False
    return own.is_file() and own.read_bytes() == weights.read_bytes()


def check_new_bundle(root: Path, target: Path) -> None:
    """Check, before a training starts, that the bundle it makes leaves the one it starts from as it is.

    Parameters
    ----------
    root : Path
        The bundle that the training starts from.
    target : Path
        Folder of the new one; it need not exist.

    Raises
    ------
    UsageError
        If one of the two is the other, or lies in it.
    """
    root, target = root.resolve(), target.resolve()
    if _holds(target, root):
        raise UsageError(
            f"{target}: the new bundle would replace {root}, which the training starts from.",
            hint="Choose another output folder.",
        )
    if _holds(root, target):
        raise UsageError(
            f"{target}: the new bundle would lie in {root}, which the training starts from.",
            hint="Choose an output folder outside of the bundle.",
        )


def _holds(folder: Path, path: Path) -> bool:
    """Whether a path is a folder or lies below it, however the two are spelled."""
    return folder.exists() and any(place.exists() and place.samefile(folder) for place in (path, *path.parents))


def calibration_warnings(root: Path, weights_sha256: str, model: str | None = None) -> list[str]:
    """Tell what a bundle that ``lightunet train`` made still has from the weights before.

    Parameters
    ----------
    root : Path
        The bundle.
    weights_sha256 : str
        Of the weights in use.
    model : str, optional
        As in `weights_path`.

    Returns
    -------
    list of str
        Sentences for a report; empty for every other bundle, and once its pieces were fitted to its own weights.

    Raises
    ------
    UsageError
        If the bundle has no such model.
    BundleError
        If metadata, configuration or ``pieces.json`` cannot be read.
    """
    metadata = read_metadata(root)
    model = model or default_model(metadata)
    if takes_pictures(metadata, model):  # of which no pieces are judged
        return []
    own = metadata if model == DEFAULT_MODEL else metadata["models"][model].get("metadata", {})
    path = pieces_path(root, model)
    if TRAINED_WITH not in own or not path.is_file():
        return []
    try:
        fitted_to = json.loads(path.read_text(encoding="utf-8")).get("weights_sha256", weights_sha256)
    except (OSError, ValueError, AttributeError) as error:
        raise BundleError(f"{path}: cannot be read: {type(error).__name__}.") from error
    if fitted_to == weights_sha256:
        return []
    return [
        "The model was trained anew, but how its pieces are judged was fitted to the weights before: run "
        "'lightunet calibrate --pieces --write' and then 'lightunet calibrate --write' on its bundle."
    ]
