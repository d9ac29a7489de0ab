"""``lightunet train``: train or fine-tune the model on labelled cases."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import shlex
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import BundleError, DeviceMemoryError, InferenceError, LightUNetError, OutputError, find_own_error
from .progress import choose_reporter, end_bar, print_event
from .train_options import training_overrides

SETUP_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ImportError)
"""What parts raise that are given a value they cannot use, some of them not before their turn comes."""

LOSSES = ("weighted_dice_ce", "lesion_and_tissues", "dice_ce", "dice", "ce", "focal", "dice_focal")
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
    parser.add_argument(
        "--val-interval",
        type=int,
        metavar="N",
        help="epochs between validations; the last epoch has one, too (the bundle's)",
    )
    parser.add_argument("--learning-rate", type=float, metavar="R", help="largest learning rate (the bundle's)")
    parser.add_argument("--loss", choices=LOSSES, help="what is minimised (the bundle's)")
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
    from ..inference.bundle import open_training
    from ..inference.bundle_files import check_new_bundle, find_bundle, named_metadata, read_metadata
    from ..labels import default_model
    from ..outputs.atomic import as_output_error, check_folder
    from ..outputs.folder_lock import locked_folder

    logging.getLogger().setLevel(logging.INFO)
    root = find_bundle(arguments.bundle)
    metadata = read_metadata(root)
    model = arguments.model or default_model(metadata)
    overrides = training_overrides(arguments, root, model)
    check_folder(arguments.output)
    check_new_bundle(root, arguments.output / "bundle")
    version = f"{named_metadata(root, metadata, model)['version']}+{arguments.output.resolve().name}"
    with _as_setup_error(root):
        workflow = open_training(root, overrides, model)
        _check_cases(workflow)  # before the folder is made: of a wrong list nothing stays
    with as_output_error(arguments.output):
        arguments.output.mkdir(parents=True, exist_ok=True)
    with locked_folder(arguments.output, wait=False):  # two would write one state, one model and one cache
        return _run(arguments, root, metadata, model, workflow, version=version)


def _run(
    arguments: argparse.Namespace, root: Path, metadata: dict[str, Any], model: str, workflow: Any, *, version: str
) -> int:
    from ..inference.bundle_files import holds_weights, takes_pictures, write_bundle
    from ..outputs.atomic import as_output_error

    with _as_setup_error(root, arguments.mlflow):
        workflow.initialize()
        get = workflow.parser.get_parsed_content
        _report(get("train#trainer"), get("validate#evaluator"), get("validate#handlers#0"), arguments.progress)
    if not arguments.verbose:
        _leave_errors_to_the_command(workflow)
    try:
        workflow.run()
        workflow.finalize()
        end_bar()
    except (RuntimeError, MemoryError, *SETUP_ERRORS) as error:
        raise _stopped(root, error, arguments.mlflow) from error
    best = Path(get("best_path"))
    if not best.exists():
        raise InferenceError(
            f"{arguments.output}: no model was kept, the validation gave no figure.",
            hint="Check the validation cases of the datalist.",
        )
    bundle = arguments.output / "bundle"
    if holds_weights(bundle, model, best):  # what `calibrate` wrote into it stays
        logging.getLogger(__name__).info("%s has these weights already and stays as it is", bundle)
    else:
        with as_output_error(bundle):
            write_bundle(root, best, bundle, version=version, data_source=arguments.data.name, model=model)
    if arguments.progress == "json":
        print_event("done", bundle=str(bundle))
    else:
        print(f"new model: {bundle}")
        option = f"--bundle {_as_word(bundle)}"
        if takes_pictures(metadata, model):
            print(f"use it:    lightunet segment IMAGE --model {model} -o OUT {option}")
        else:
            print(f"calibrate: lightunet calibrate --pieces --data UNSEEN {option} --write")
            print(f"           lightunet calibrate --data VALIDATION {option} --write")
            print(f"use it:    lightunet segment STUDY -o OUT {option}")
    return 0


def _as_word(path: Path) -> str:
    """A path as one word of a command that is copied into a shell."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))


@contextlib.contextmanager
def _as_setup_error(root: Path, mlflow: str | None = None) -> Iterator[None]:
    """Turn what MONAI raises of parts that cannot be made into an error of ours."""
    try:
        yield
    except LightUNetError:
        raise
    except (RuntimeError, *SETUP_ERRORS) as error:
        own = find_own_error(error)
        if own is not None:
            raise own from error
        cause = _first_cause(error)
        if mlflow and _is_of_mlflow(cause):
            raise _not_logged(mlflow, cause) from error
        raise BundleError(
            f"{root}: the training cannot be set up: {type(cause).__name__}: {cause}.",
            hint="Check what --set gives, and configs/train.json of the bundle.",
        ) from error


def _leave_errors_to_the_command(workflow: Any) -> None:
    """Ignite and MONAI log what ends a run, Ctrl-C too, with its trace, before the command says it in a line."""
    get = workflow.parser.get_parsed_content
    for part in (get("train#trainer"), get("validate#evaluator"), *get("train#handlers"), *get("validate#handlers")):
        logger = getattr(part, "logger", None)  # StatsHandler has one of its own
        if logger is not None:
            logger.addFilter(_is_no_error)


def _is_no_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def _first_cause(error: BaseException) -> BaseException:
    """What went wrong itself: MONAI names the component or the expression that failed, each cause why."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_of_mlflow(error: BaseException) -> bool:
    """Whether it was raised in MLflow, whatever it is: a store may be a folder, a database or a server."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(str(frame.f_globals.get("__name__")).partition(".")[0] == "mlflow" for frame in frames)


def _not_logged(mlflow: str, cause: BaseException) -> OutputError:
    return OutputError(
        f"option --mlflow: found {mlflow}, to which nothing can be logged: {cause}.",
        hint="Check the address, and whether its server runs, or leave --mlflow out; the same command goes on.",
        reason="not-writable",
    )


def _stopped(root: Path, error: Exception, mlflow: str | None) -> LightUNetError:
    """What the user reads of an error that ended a training."""
    from ..inference.memory import find_out_of_memory

    own = find_own_error(error)
    if own is not None:
        return own
    memory = find_out_of_memory(error)
    if memory is not None:
        what = str(memory).splitlines()[0] if str(memory) else type(memory).__name__
        return DeviceMemoryError(
            f"training stopped: {what}",
            hint="Close other programs and give the same command again, or train on fewer at once into another folder: "
            "--set volumes_per_batch=8 -o OTHER.",
        )
    cause = _first_cause(error)
    if mlflow and _is_of_mlflow(cause):
        return _not_logged(mlflow, cause)
    if isinstance(cause, SETUP_ERRORS):
        return BundleError(
            f"{root}: the training cannot be run: {type(cause).__name__}: {cause}.",
            hint="Check what --set gives, and configs/train.json of the bundle.",
        )
    return InferenceError(f"training stopped: {cause}.", hint="Give the same command again to go on.")


def _check_cases(workflow: Any) -> None:
    """Refuse a list without cases, and label maps beside their volumes, now and not when their turn comes."""
    from ..transforms import LoadImageVolumed
    from ..transforms.check_label_grids import check_label_grids

    get = workflow.parser.get_parsed_content
    loaders = [item for item in get("preprocessing").transforms if isinstance(item, LoadImageVolumed)]
    trained_on, held_out = get("train#dataset_data"), get("validate#dataset#data")
    if loaders:  # none for 2-D images
        check_label_grids([*trained_on, *held_out], loaders[0])
    _warn_of_shared(trained_on, held_out)


def _warn_of_shared(trained_on: list[dict[str, Any]], held_out: list[dict[str, Any]]) -> None:
    """Tell which volumes are in both lists: the figure that chooses the model is then better than the model."""
    known = {Path(case["image"]).resolve() for case in trained_on}
    shared = [case["image"] for case in held_out if Path(case["image"]).resolve() in known]
    if shared:
        logging.getLogger(__name__).warning(
            "%d of %d validation cases are training cases, too, the first is %s: the validation Dice is no measure of "
            "what the model finds in volumes that it has not seen",
            len(shared),
            len(held_out),
            shared[0],
        )


def _report(trainer: Any, validator: Any, keep_best: Any, kind: str) -> None:
    from ignite.engine import Events

    tell = choose_reporter(kind)

    def on_iteration(engine: Any) -> None:
        total = engine.state.max_epochs * engine.state.epoch_length
        tell("train", engine.state.iteration / total)

    def on_epoch(engine: Any) -> None:
        if kind != "json":
            return
        is_validated = validator.state.epoch == engine.state.epoch
        print_event(
            "progress",
            stage="train",
            fraction=round(engine.state.epoch / engine.state.max_epochs, 4),
            epoch=engine.state.epoch,
            loss=round(float(engine.state.output[0]["loss"]), 5),
            val_dice=round(float(validator.state.metrics["val_mean_dice"]), 5) if is_validated else None,
            best_dice=round(keep_best.best, 5) if math.isfinite(keep_best.best) else None,
        )

    trainer.add_event_handler(Events.ITERATION_COMPLETED, on_iteration)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, on_epoch)
