"""``lightunet train``: train or fine-tune the model on labelled cases."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import InferenceError, LightUNetError, UsageError, find_own_error
from .progress import choose_reporter, print_event

LOSSES = ("weighted_dice_ce", "dice_ce", "dice", "ce", "focal", "dice_focal")
"""Keys under ``losses`` in train.json."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DATALIST", help="datalist.json, as 'lightunet datalist' writes it"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the new model goes")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="bundle to start from (the shipped one)")
    parser.add_argument(
        "--model", metavar="NAME", help="breast-ct, tissues, or ultrasound for 2-D images and masks (the bundle's)"
    )
    parser.add_argument("--from-scratch", action="store_true", help="start from random weights, not the bundle's")
    parser.add_argument("--max-epochs", type=int, metavar="N", help="passes over the training cases (the bundle's)")
    parser.add_argument("--val-interval", type=int, metavar="N", help="epochs between validations (the bundle's)")
    parser.add_argument("--learning-rate", type=float, metavar="R", help="largest learning rate (the bundle's)")
    parser.add_argument("--loss", choices=LOSSES, help="what is minimised (the bundle's: weighted_dice_ce)")
    parser.add_argument("--fold", type=int, metavar="K", help="cross-validation: hold out this fold of the datalist")
    parser.add_argument("--patience", type=int, metavar="N", help="stop after N validations without a better model")
    parser.add_argument("--mlflow", metavar="URI", help="also log to MLflow, for example sqlite:///mlflow.db")
    parser.add_argument("--seed", type=int, metavar="N", help="of all that is random (the bundle's)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="ID=VALUE",
        help="any other entry of train.json, for example volumes_per_batch=2",
    )
    parser.add_argument(
        "--progress", choices=("auto", "bar", "json", "none"), default="auto", help="a bar, or JSON lines"
    )


def run(arguments: argparse.Namespace) -> int:
    """Train; an interrupted training goes on when the same command is given again."""
    try:
        return _train(arguments)
    except LightUNetError as error:
        if arguments.progress == "json":
            print_event("error", kind=type(error).__name__, reason=error.reason, message=error.message, hint=error.hint)
        raise


def _train(arguments: argparse.Namespace) -> int:
    import logging

    from ..inference.bundle import open_training
    from ..inference.bundle_files import find_bundle, read_metadata, takes_pictures, write_bundle
    from ..labels import default_model

    logging.getLogger().setLevel(logging.INFO)
    root = find_bundle(arguments.bundle)
    metadata = read_metadata(root)
    model = arguments.model or default_model(metadata)
    workflow = open_training(root, _overrides(arguments, root, model), model)
    try:
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train#trainer")
        validator = workflow.parser.get_parsed_content("validate#evaluator")
        _report(trainer, validator, arguments.progress)
        workflow.run()
        workflow.finalize()
    except RuntimeError as error:
        stopped = InferenceError(f"training stopped: {error}.", hint="Give the same command again to go on.")
        raise find_own_error(error) or stopped from error
    best = arguments.output / "model.pt"
    if not best.exists():
        raise InferenceError(
            f"{arguments.output}: no validation was reached, so no model was kept.", hint="Lower --val-interval."
        )
    version = f"{metadata['version']}+{arguments.output.resolve().name}"
    write_bundle(root, best, arguments.output / "bundle", version=version, data_source=arguments.data.name, model=model)
    if arguments.progress == "json":
        print_event("done", bundle=str(arguments.output / "bundle"))
    else:
        print(f"new model: {arguments.output / 'bundle'}")
        what = f"IMAGE --model {model}" if takes_pictures(metadata, model) else "STUDY"
        print(f"use it:    lightunet segment {what} -o OUT --bundle {arguments.output / 'bundle'}")
    return 0


def _overrides(arguments: argparse.Namespace, root: Path, model: str) -> dict[str, Any]:
    from ..inference.bundle_files import training_ids

    overrides: dict[str, Any] = {
        "datalist": str(arguments.data.absolute()),
        "output_dir": str(arguments.output.absolute()),
        "pretrained": "" if arguments.from_scratch else str(_first_weights(root, model)),
    }
    for name in ("max_epochs", "val_interval", "learning_rate", "seed", "loss", "fold", "patience"):
        if getattr(arguments, name) is not None:
            overrides[name] = getattr(arguments, name)
    if arguments.mlflow:
        overrides["mlflow_uri"] = arguments.mlflow
    if arguments.device:
        overrides["device"] = f"$torch.device({arguments.device!r})"
    trained = training_ids(root, model)
    for item in arguments.set:
        key, separator, value = item.partition("=")
        if not separator:
            raise UsageError(f"option --set: found {item!r}, expected ID=VALUE.")
        if key.partition("#")[0] not in trained:
            raise UsageError(
                f"option --set: found {key}, expected an entry of train.json, such as max_epochs.",
                hint="What the model does to a volume is the same in training and in use: change it in a copy of the "
                "bundle, and give that with --bundle.",
            )
        overrides[key] = _value(value)
    return overrides


def _first_weights(root: Path, model: str) -> Path:
    """The weights of the model, or of the bundle's first model where it has none yet: the network is the same."""
    from ..inference.bundle_files import weights_path
    from ..labels import DEFAULT_MODEL

    own = weights_path(root, model)
    return own if own.exists() else weights_path(root, DEFAULT_MODEL)


def _value(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text


def _report(trainer: Any, validator: Any, kind: str) -> None:
    from ignite.engine import Events

    tell = choose_reporter(kind)

    def on_iteration(engine: Any) -> None:
        total = engine.state.max_epochs * engine.state.epoch_length
        tell("train", engine.state.iteration / total)

    def on_epoch(engine: Any) -> None:
        if kind == "json":
            print_event(
                "progress",
                stage="train",
                fraction=round(engine.state.epoch / engine.state.max_epochs, 4),
                epoch=engine.state.epoch,
                loss=round(float(engine.state.output[0]["loss"]), 5),
                val_dice=round(float(validator.state.best_metric), 5)
                if validator.state.best_metric_epoch > 0
                else None,
            )

    trainer.add_event_handler(Events.ITERATION_COMPLETED, on_iteration)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, on_epoch)
