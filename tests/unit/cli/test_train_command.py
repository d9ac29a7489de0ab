"""``lightunet train``: what may be changed for a training, what it reports, how it goes on, and when it refuses."""

import json
import logging
import math
import os
import shlex
import shutil
import sys

import pytest
import torch
from monai.utils import set_determinism

from lightunet_monai.cli import main
from lightunet_monai.cli.progress import _Clock, choose_reporter, end_bar
from lightunet_monai.outputs.folder_lock import locked_folder
from lightunet_monai.training import CheckLoss
from tests.builders.bundle import tiny_bundle
from tests.builders.volume import make_nifti, make_voxels

SMALL = ("train_window=[16,16]", "volumes_per_batch=1", "fewest_cases=2", "slices_per_volume=1", "tensorboard=false")
QUICK = (*SMALL, "precise_batch_norm_batches=1")
NO_WARNINGS_OF_OTHERS = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def as_before():
    """What a training sets for its process: how much is logged, and how random numbers are drawn."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)
    set_determinism(None)


@pytest.fixture(scope="module")
def a_place(tmp_path_factory):
    """A folder with a datalist of two volumes and a tiny bundle."""
    folder = tmp_path_factory.mktemp("train")
    label = make_nifti(folder / "label.nii.gz", (make_voxels() > 40).astype("uint8"))
    pairs = [{"image": make_nifti(folder / f"{n}.nii.gz").name, "label": label.name, "fold": n} for n in range(2)]
    (folder / "datalist.json").write_text(json.dumps({"training": pairs[:1], "validation": pairs[1:]}))
    tiny_bundle(folder / "bundle")
    return folder


def _command(place, output, *words):
    settings = [word for item in QUICK for word in ("--set", item)]
    given = ["--data", str(place / "datalist.json"), "--bundle", str(place / "bundle"), "-o", str(output)]
    return ["train", *given, "--device", "cpu", *settings, *words]


def _events(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"schema"')]


def _epochs(capsys):
    return {event["epoch"]: event for event in _events(capsys) if "epoch" in event}


@pytest.fixture(scope="module")
def a_training(a_place):
    """The output folder of a training of two epochs, fewer than the bundle's interval of validation."""
    output = a_place / "trained"
    assert main(_command(a_place, output, "--max-epochs", "2", "--progress", "none")) == 0
    return output


@pytest.fixture
def resumable(a_training, tmp_path):
    """A copy of it that may be changed."""
    shutil.copytree(a_training, tmp_path / "again")
    return tmp_path / "again"


@pytest.mark.parametrize("item", ["model_spacing=[2.5,2.5,2.5]", "skin_mm=0", "preprocessing#transforms#0#model=x"])
def test_what_the_model_does_to_a_volume_cannot_be_changed_for_the_training_alone(tmp_path, capsys, item):
    (tmp_path / "datalist.json").write_text(json.dumps({"training": []}))
    words = ["--data", str(tmp_path / "datalist.json"), "--bundle", str(tiny_bundle(tmp_path / "bundle"))]
    assert main(["train", *words, "-o", str(tmp_path / "new"), "--set", item]) == 2
    message = capsys.readouterr().err
    assert f"--set: found {item.partition('=')[0]}, expected an entry of train.json" in message
    assert "change it in a copy of the bundle" in message
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--val-interval", "0"], "option --val-interval: found 0, expected a whole number of 1 or more."),
        (["--max-epochs", "0"], "option --max-epochs: found 0, expected a whole number of 1 or more."),
        (["--patience", "-1"], "option --patience: found -1, expected a whole number of 0 or more."),
        (["--learning-rate", "-1"], "option --learning-rate: found -1.0, expected a number of 0 or more."),
        (["--learning-rate", "nan"], "option --learning-rate: found nan, expected a number of 0 or more."),
        (["--seed", "-1"], "option --seed: found -1, expected a whole number from 0 to"),
        (["--device", "cuda:70"], "option --device: found 'cuda:70', but this machine has only cpu"),
        (["--device", "gpu"], "option --device: found 'gpu', expected cpu, cuda, cuda:1 or mps."),
        (["--set", "max_epochs=abc"], "option --set max_epochs: found abc, expected a whole number of 1 or more."),
        (["--set", "max_epochs=1.5"], "option --set max_epochs: found 1.5, expected a whole number of 1 or more."),
        (["--set", "lesion_share=2"], "option --set lesion_share: found 2, expected a number from 0 to 1."),
        (["--set", "volumes_per_batch=true"], "option --set volumes_per_batch: found True, expected a whole number"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_the_name_of_its_option(a_place, tmp_path, capsys, words, told):
    assert main(_command(a_place, tmp_path / "new", *words)) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_package_that_is_missing_is_named_with_its_extra(a_place, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # what Python does with a package that is not installed
    assert main(_command(a_place, tmp_path / "new", "--mlflow", "sqlite:///mlflow.db")) == 2
    assert "lightunet_monai[mlflow]" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")  # MLflow's own
@pytest.mark.parametrize("store", ["nonsense://store", "sqlite:///{file}/mlflow.db"])
def test_a_store_of_mlflow_that_cannot_be_used_is_named_with_its_option(a_place, tmp_path, capsys, store):
    pytest.importorskip("mlflow", reason="needs the extra 'mlflow'")
    store = store.format(file=a_place / "datalist.json")
    assert main(_command(a_place, tmp_path / "new", "--max-epochs", "1", "--mlflow", store)) == 1
    said = capsys.readouterr().err
    assert f"error: option --mlflow: found {store}, to which nothing can be logged" in said
    assert "leave --mlflow out" in said


def test_an_output_that_is_a_file_or_lies_in_the_bundle_is_refused(a_place, tmp_path, capsys):
    (tmp_path / "new").write_text("")
    assert main(_command(a_place, tmp_path / "new")) == 1
    assert "is a file, expected a folder" in capsys.readouterr().err
    assert main(_command(a_place, a_place / "bundle" / "new")) == 2
    assert "the new bundle would lie in" in capsys.readouterr().err


@NO_WARNINGS_OF_OTHERS
def test_a_part_that_cannot_be_made_is_told_by_its_own_words(a_place, tmp_path, capsys):
    assert main(_command(a_place, tmp_path / "new", "--set", "train#optimizer#momentum=2")) == 1
    message = capsys.readouterr().err
    assert "the training cannot be set up: ValueError: momentum is 2" in message
    assert "Failed to instantiate" not in message
    assert "Check what --set gives" in message
    assert "Give the same command again" not in message


@NO_WARNINGS_OF_OTHERS
def test_a_value_that_is_of_no_use_when_its_turn_comes_is_no_reason_to_give_the_same_command_again(
    a_place, tmp_path, capsys
):
    assert main(_command(a_place, tmp_path / "new", "--set", "train#augmentation#roi_size=[16]")) == 1
    message = capsys.readouterr().err
    assert "the training cannot be run: ValueError: not enough values to unpack" in message
    assert "Check what --set gives" in message


@NO_WARNINGS_OF_OTHERS
@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (RuntimeError("can't start new thread"), 1, "error: training stopped: can't start new thread. (Give the same"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_a_training_that_stops_tells_why_in_a_line(a_place, tmp_path, capsys, caplog, monkeypatch, error, code, told):
    def fail(*_):
        raise error

    monkeypatch.setattr(CheckLoss, "__call__", fail)
    monkeypatch.setattr(logging.getLogger("monai.handlers.StatsHandler"), "handlers", [caplog.handler])
    assert main(_command(a_place, tmp_path / "new", "--progress", "none")) == code
    assert capsys.readouterr().err.splitlines()[-1].startswith(told)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]  # with a trace


@NO_WARNINGS_OF_OTHERS
def test_a_training_that_does_not_fit_into_memory_is_told_what_makes_it_smaller(a_place, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of it.")

    monkeypatch.setattr(CheckLoss, "__call__", fail)
    assert main(_command(a_place, tmp_path / "new", "--progress", "json")) == 1
    error = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert error["reason"] == "device-memory"
    assert error["message"] == "training stopped: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert "volumes_per_batch" in error["hint"]


@NO_WARNINGS_OF_OTHERS
def test_a_label_map_beside_its_volume_is_refused_before_the_first_epoch(a_place, tmp_path, capsys, caplog):
    pairs = json.loads((a_place / "datalist.json").read_text())
    make_nifti(tmp_path / "label.nii.gz", (make_voxels((24, 20, 10)) > 40).astype("uint8"))
    pairs["validation"][0]["label"] = str(tmp_path / "label.nii.gz")
    (a_place / "mismatch.json").write_text(json.dumps(pairs))
    words = ["--data", str(a_place / "mismatch.json"), "--progress", "none"]
    assert main(_command(a_place, tmp_path / "new", *words)) == 1
    assert "label.nii.gz: (24, 20, 10) voxels, its volume has (24, 20, 12)" in capsys.readouterr().err
    assert "Traceback" not in caplog.text
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.json", None, "missing.json: no such file."),
        ("empty.json", {"training": [], "validation": []}, "List at least one case there."),
    ],
)
def test_a_datalist_without_cases_leaves_no_output_folder(a_place, tmp_path, capsys, name, content, told):
    if content is not None:
        (tmp_path / name).write_text(json.dumps(content))
    assert main(_command(a_place, tmp_path / "new", "--data", str(tmp_path / name))) == 1
    said = capsys.readouterr()
    assert told in said.err
    assert "Logging file" not in said.out, "a remark of MONAI's for its own developers"
    assert not (tmp_path / "new").exists()


def test_a_bundle_without_a_version_is_refused_before_the_training(a_place, tmp_path, capsys):
    bundle = tmp_path / "bundle"
    shutil.copytree(a_place / "bundle", bundle)
    path = bundle / "configs" / "metadata.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "version"}))
    assert main([*_command(a_place, tmp_path / "new"), "--bundle", str(bundle)]) == 1
    assert "configs/metadata.json: the key 'version' is missing" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@NO_WARNINGS_OF_OTHERS
def test_a_model_that_is_kept_elsewhere_becomes_the_bundle(a_place, resumable, tmp_path):
    kept = tmp_path / "kept" / "best.pt"
    assert main(_command(a_place, resumable, "--max-epochs", "3", "--set", f"best_path={kept}")) == 0
    assert (resumable / "bundle" / "models" / "model.pt").read_bytes() == kept.read_bytes()
    assert kept.read_bytes() != (resumable / "model.pt").read_bytes()


@NO_WARNINGS_OF_OTHERS
def test_a_training_that_diverges_ends_without_a_model(a_place, tmp_path, capsys):
    words = ["--learning-rate", "1e30", "--max-epochs", "2", "--val-interval", "1", "--progress", "json"]
    assert main(_command(a_place, tmp_path / "new", *words)) == 1
    written = capsys.readouterr()
    error = json.loads(written.out.splitlines()[-1])
    assert error["reason"] == "diverged"
    assert "the loss is not finite in epoch 1" in error["message"]
    assert "--learning-rate" in error["hint"]
    assert not list((tmp_path / "new").glob("*.pt"))
    assert not (tmp_path / "new" / "bundle").exists()


@NO_WARNINGS_OF_OTHERS
def test_the_last_epoch_is_validated_also_before_the_interval_is_over(a_training):
    assert (a_training / "bundle" / "models" / "model.pt").is_file()
    state = torch.load(a_training / "resume.pt", weights_only=True)
    assert state["epoch"] == 2
    assert state["best"]["best"] >= 0


@NO_WARNINGS_OF_OTHERS
def test_a_finished_training_without_a_model_is_validated_once(a_place, resumable, capsys, caplog):
    (resumable / "model.pt").unlink()
    shutil.rmtree(resumable / "bundle")
    assert main(_command(a_place, resumable, "--max-epochs", "2", "--progress", "none")) == 0
    assert "no model was kept: validating the state after epoch 2" in caplog.text
    assert (resumable / "bundle" / "models" / "model.pt").is_file()
    caplog.clear()
    assert main(_command(a_place, resumable, "--max-epochs", "2", "--progress", "none")) == 0
    assert "validating the state" not in caplog.text


@NO_WARNINGS_OF_OTHERS
def test_a_finished_training_leaves_what_was_written_into_its_bundle_and_a_longer_one_makes_it_anew(a_place, resumable):
    own = resumable / "bundle" / "NOTES.txt"
    own.write_text("calibrated")
    config = resumable / "bundle" / "configs" / "inference.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "sure_threshold": 0.777}))
    assert main(_command(a_place, resumable, "--max-epochs", "2", "--progress", "none")) == 0
    assert own.read_text() == "calibrated"
    assert json.loads(config.read_text())["sure_threshold"] == 0.777
    (resumable / "model.pt").unlink()  # another model is the best one now
    state = torch.load(resumable / "resume.pt", weights_only=True)
    state["ema"] = {
        key: value + 0 if not value.is_floating_point() else value * 1.01 for key, value in state["ema"].items()
    }
    torch.save(state, resumable / "resume.pt")
    assert main(_command(a_place, resumable, "--max-epochs", "2", "--progress", "none")) == 0
    assert not own.exists()
    assert json.loads(config.read_text())["sure_threshold"] != 0.777


@NO_WARNINGS_OF_OTHERS
def test_an_epoch_tells_its_own_dice_where_it_was_validated_and_the_best_so_far(a_place, resumable, capsys):
    state = torch.load(resumable / "resume.pt", weights_only=True)
    state["best"]["best"] = 0.9
    torch.save(state, resumable / "resume.pt")
    words = ["--max-epochs", "5", "--val-interval", "4", "--progress", "json"]
    assert main(_command(a_place, resumable, *words)) == 0
    events = _epochs(capsys)
    assert list(events) == [3, 4, 5]
    assert events[3]["val_dice"] is None
    assert [event["best_dice"] for event in events.values()] == [0.9, 0.9, 0.9]
    assert all(0 <= events[epoch]["val_dice"] < 0.9 for epoch in (4, 5))


@NO_WARNINGS_OF_OTHERS
def test_a_training_is_not_resumed_with_other_settings_but_a_state_that_does_not_name_them_is(
    a_place, resumable, capsys
):
    changed = {
        "weight_decay": 0.5, "max_gradient_norm": 9.0, "lesion_weight": 2.0, "small_lesion_weight": 2.0,
        "cross_entropy_share": 0.25, "train_window": [16, 32], "lesion_share": 0.125, "bright_share": 0.125,
        "ema_momentum": 0.5, "fewest_cases": 3, "train_margin": 3, "warmup_steps": 1, "precise_batch_norm_batches": 2,
    }  # fmt: skip
    state = torch.load(resumable / "resume.pt", weights_only=True)
    assert {*changed, "preprocessing"} <= state["settings"].keys()
    words = [word for name, value in changed.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    assert main(_command(a_place, resumable, *words, "--max-epochs", "3")) == 1
    message = capsys.readouterr().err
    assert "is of a training with other settings" in message
    assert all(f"{name} {state['settings'][name]}, now {value!r}" in message for name, value in changed.items())
    assert main(_command(a_place, resumable, "--set", "train#augmentation#noise_std=0.9", "--max-epochs", "3")) == 1
    assert "('noise_std', 0.9)" in capsys.readouterr().err
    for name in (*changed, "preprocessing"):
        del state["settings"][name]
    torch.save(state, resumable / "resume.pt")
    assert main(_command(a_place, resumable, "--set", "weight_decay=0.5", "--max-epochs", "3")) == 0
    assert torch.load(resumable / "resume.pt", weights_only=True)["settings"]["weight_decay"] == "0.5"


@NO_WARNINGS_OF_OTHERS
def test_a_training_is_not_resumed_with_volumes_that_are_prepared_in_another_way(a_place, resumable, tmp_path, capsys):
    bundle = tmp_path / "bundle"
    shutil.copytree(a_place / "bundle", bundle)
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    config["hu_range"] = [-300.0, 900.0]
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    state = torch.load(resumable / "resume.pt", weights_only=True)
    state["settings"].pop("pretrained")  # that of another folder
    torch.save(state, resumable / "resume.pt")
    assert main([*_command(a_place, resumable, "--max-epochs", "3"), "--bundle", str(bundle)]) == 1
    message = capsys.readouterr().err
    assert "other settings: preprocessing" in message
    assert "-300.0, 900.0" in message


@NO_WARNINGS_OF_OTHERS
def test_fewer_epochs_than_a_training_has_had_are_not_told_as_an_early_stop(a_place, resumable, caplog):
    state = torch.load(resumable / "resume.pt", weights_only=True)
    state["early_stop"]["counter"] = 1  # validations without a better model, and no patience was asked for
    torch.save(state, resumable / "resume.pt")
    assert main(_command(a_place, resumable, "--max-epochs", "1", "--progress", "none")) == 0
    assert "this training has had its 1 epochs" in caplog.text
    assert "was stopped" not in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="quotes of other shells")
@NO_WARNINGS_OF_OTHERS
def test_the_commands_that_come_next_can_be_copied_into_a_shell(a_place, a_training, tmp_path, capsys):
    output = tmp_path / "my model; second"
    shutil.copytree(a_training, output)
    assert main(_command(a_place, output, "--max-epochs", "2", "--progress", "none")) == 0
    commands = [line.partition(":")[2] for line in capsys.readouterr().out.splitlines() if "use it:" in line]
    assert [shlex.split(command)[-1] for command in commands] == [str(output / "bundle")]


def test_the_time_left_of_a_resumed_stage_is_that_of_what_was_done_since():
    now = [0.0]
    clock = _Clock(lambda: now[0])
    assert clock.left("train", 0.5) is None
    now[0] = 10.0
    assert clock.left("train", 0.6) == pytest.approx(40.0)  # a tenth took ten seconds, and four tenths are left
    assert clock.left("train", 1.0) == 0.0
    assert clock.left("write", 0.0) is None
    now[0] = 12.0
    assert math.isclose(clock.left("write", 0.5), 2.0)


def test_a_bar_that_was_left_unfinished_is_ended_once(capsys):
    choose_reporter("bar")("train", 1.0)
    end_bar()
    end_bar()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_a_second_training_in_one_folder_is_refused(a_place, tmp_path, capsys):
    with locked_folder(tmp_path, wait=False):
        assert main(_command(a_place, tmp_path)) == 1
    assert "another process writes into it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_cannot_be_written_is_an_error_of_ours(a_place, resumable, capsys):
    shutil.rmtree(resumable / "bundle")
    (resumable / "bundle.part").write_text("somebody's file")
    assert main(_command(a_place, resumable, "--max-epochs", "2", "--progress", "none")) == 1
    assert "bundle: cannot be written" in capsys.readouterr().err


def test_a_validation_case_that_is_trained_on_is_told(a_place, tmp_path, caplog):
    pair = {"image": str(a_place / "0.nii.gz"), "label": str(a_place / "label.nii.gz")}
    other = {**pair, "image": str(a_place / "x" / ".." / "1.nii.gz")}
    (a_place / "x").mkdir()
    cases = {"training": [pair, {**pair, "image": str(a_place / "1.nii.gz")}], "validation": [other]}
    (tmp_path / "both.json").write_text(json.dumps(cases))
    words = ("--data", str(tmp_path / "both.json"), "--max-epochs", "1", "--progress", "none")
    assert main(_command(a_place, tmp_path / "out", *words)) == 0
    assert "1 of 1 validation cases are training cases, too" in caplog.text


def test_a_datalist_of_folds_asks_for_the_fold_to_hold_out(a_place, tmp_path, capsys):
    pairs = json.loads((a_place / "datalist.json").read_text())
    (a_place / "folds.json").write_text(json.dumps({"training": pairs["training"] + pairs["validation"]}))
    assert main(_command(a_place, tmp_path, "--data", str(a_place / "folds.json"))) == 1
    error = capsys.readouterr().err
    assert "divided into the folds 0, 1" in error
    assert "--fold K" in error
    assert main(_command(a_place, tmp_path, "--data", str(a_place / "folds.json"), "--fold", "7")) == 1
    assert "no case where fold 7 is held out, found the folds 0, 1" in capsys.readouterr().err
