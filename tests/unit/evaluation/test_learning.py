"""Learning curves from what a training leaves behind."""

import json
import sys

import pytest

from lightunet_monai.evaluation.learning import read_learning_curves

LINES = [
    "a line of a library",
    '{"schema": 1, "event": "progress", "stage": "train", "fraction": 0.1}',
    '{"schema": 1, "event": "progress", "epoch": 1, "loss": 0.9, "val_dice": null}',
    '{"schema": 1, "event": "progress", "epoch": 2, "loss": 0.7, "val_dice": 0.25}',
    '{"schema": 1, "event": "progress", "epoch": 3, "lo',
    '{"a":' * 100_000,
]


def test_progress_lines_give_loss_and_dice_by_epoch(tmp_path):
    (tmp_path / "train.log").write_text("\n".join(LINES))
    found = read_learning_curves(tmp_path)
    assert found.curves == {"loss": ((1, 0.9), (2, 0.7)), "val_dice": ((2, 0.25),)}
    assert "progress lines" in found.note


def test_a_folder_without_either_says_so(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"")
    found = read_learning_curves(tmp_path)
    assert found.curves == {}
    assert found.note.startswith("no learning curves")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_event_files_give_every_scalar_by_step(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "run")) as writer:
        for step, value in enumerate((0.5, 0.25, 0.125), 1):
            writer.add_scalar("train_loss", value, step)
    found = read_learning_curves(tmp_path)
    assert found.curves == {"train_loss": ((1, 0.5), (2, 0.25), (3, 0.125))}
    assert "TensorBoard" in found.note


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_curves_of_several_trainings_are_not_mixed(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    for fold, value in enumerate((0.5, 0.25)):
        with SummaryWriter(str(tmp_path / f"fold{fold}")) as writer:
            writer.add_scalar("train_loss", value, 1)
    found = read_learning_curves(tmp_path)
    assert found.curves == {"fold0: train_loss": ((1, 0.5),), "fold1: train_loss": ((1, 0.25),)}


def test_damaged_event_files_are_not_blamed_on_a_missing_package(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "events.out.tfevents.1.host").write_bytes(b"no events")
    assert "no curve that can be read" in read_learning_curves(tmp_path).note


def test_without_tensorboard_the_lines_are_taken_and_without_both_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "events.out.tfevents.1.host").write_bytes(b"")
    for name in ("tensorboard", "tensorboard.backend", "tensorboard.backend.event_processing.event_accumulator"):
        monkeypatch.setitem(sys.modules, name, None)  # what Python does with a package that is not installed
    assert "lightunet_monai[train]" in read_learning_curves(tmp_path).note
    (tmp_path / "out.jsonl").write_text(json.dumps({"event": "progress", "epoch": 1, "loss": 0.5}))
    assert read_learning_curves(tmp_path).curves == {"loss": ((1, 0.5),)}
