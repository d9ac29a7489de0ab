"""What train.json leaves open: losses, folds, early stopping, tracking, several processes."""

import json
import os
import subprocess
import sys

import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

from lightunet_monai.cli.train import LOSSES
from tests.builders.bundle import SHIPPED, tiny_bundle
from tests.builders.volume import make_nifti, make_voxels

CONFIGS = SHIPPED / "configs"
SMALL = {
    "fewest_cases": 1,
    "train_window": [32, 32],
    "volumes_per_batch": 1,
    "precise_batch_norm_batches": 2,
    "tensorboard": False,
}


@pytest.fixture
def a_datalist(tmp_path):
    pairs = []
    for index in range(4):
        image = make_nifti(tmp_path / f"image_{index}.nii.gz")
        label = make_nifti(tmp_path / f"label_{index}.nii.gz", (make_voxels() > 40).astype("uint8"))
        pairs.append({"image": image.name, "label": label.name, "fold": index % 2})
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"training": pairs}))
    return path


@pytest.mark.parametrize("installed", [True, False])
def test_curves_are_written_where_tensorboard_is_installed_and_nothing_fails_without(monkeypatch, installed):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "inference.json"), str(CONFIGS / "train.json")])
    assert parser.get_parsed_content("tensorboard") is installed
    for part in ("train#handlers", "validate#handlers"):
        curves = [item for item in parser[part] if item["_target_"] == "TensorBoardStatsHandler"]
        assert len(curves) == 1
        key = f"{part}#{parser[part].index(curves[0])}#_disabled_"
        assert parser.get_parsed_content(key) is not installed


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_the_configuration_is_smaller_for_the_right_answer_and_has_a_gradient(name):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "inference.json"), str(CONFIGS / "train.json")])
    parser["loss"] = name
    loss = parser.get_parsed_content("train#loss")
    label = torch.zeros(2, 1, 8, 8)
    label[:, :, 2:6, 2:6] = 1
    right = torch.cat([1 - 2 * label, 2 * label - 1], dim=1).requires_grad_()
    value, opposite = loss(right, label), loss(-right, label)
    value.backward()
    assert 0 <= float(value.detach()) < float(opposite.detach())
    assert float(right.grad.abs().sum()) > 0


def test_the_command_offers_the_losses_of_the_configuration():
    assert list(LOSSES) == list(json.loads((CONFIGS / "train.json").read_text())["losses"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_trainer_computes_in_the_precision_of_the_configuration(dtype):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "inference.json"), str(CONFIGS / "train.json")])
    parser["cpu_dtype"] = dtype
    assert parser.get_parsed_content("train#inferer").cpu_dtype == dtype


def test_volumes_kept_between_epochs_are_cut_to_the_tissue_and_small():
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "inference.json"), str(CONFIGS / "train.json")])
    compact = Compose(parser.get_parsed_content("train#compact"))
    image, label = torch.zeros(1, 30, 20, 10), torch.zeros(1, 30, 20, 10)
    image[:, 8:20, 6:9], label[:, 10, 7, 4] = 0.7, 1
    out = compact({"image": image, "label": label})
    assert (out["image"].dtype, out["label"].dtype) == (torch.float16, torch.uint8)
    margin = json.loads((CONFIGS / "inference.json").read_text())["neighbours"]
    assert out["image"].shape == out["label"].shape == (1, 12 + 2 * margin, 3 + 2 * margin, 10)
    assert out["label"].as_tensor().nonzero().tolist() == [[0, 2 + margin, 1 + margin, 4]]
    empty = compact({"image": torch.zeros(1, 4, 5, 6), "label": torch.zeros(1, 4, 5, 6)})
    assert min(empty["image"].shape) > 0


def test_training_shows_no_air_beyond_a_volume_that_the_breast_touches():
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "inference.json"), str(CONFIGS / "train.json")])
    compact = Compose(parser.get_parsed_content("train#compact"))
    image = torch.full((1, 10, 12, 14), 0.5)
    out = compact({"image": image, "label": torch.zeros_like(image)})
    assert out["image"].shape == image.shape
    assert bool((out["image"].as_tensor() == 0.5).all())


@pytest.mark.parametrize(
    ("overlays", "setting", "value"),
    [
        (["train.json"], "neighbours", 1),
        (["train.json", "train_tissues.json"], "label_values", {"1": 1}),
        (["train.json", "train_left_out.json"], "left_out_values", [4]),
        (["image2d.json", "train.json", "train_image2d.json"], "model_size", 128),
        (["image2d.json", "train.json", "train_image2d.json"], "percentiles", [1.0, 99.0]),
    ],
)
def test_cases_prepared_otherwise_are_others_in_the_cache_and_for_a_resumed_training(
    tmp_path, overlays, setting, value
):
    case = {"image": str(tmp_path / "image.nii.gz")}
    known = []
    for changed in (False, False, True):
        parser = ConfigParser()
        parser.read_config([str(CONFIGS / name) for name in ("inference.json", *overlays)])
        if changed:
            parser[setting] = value
        hasher = parser.get_parsed_content("case_hash")
        known.append((hasher(case), hasher.settings))
    assert known[0] == known[1]
    assert known[0][0] != known[2][0]
    assert known[0][1] != known[2][1]


@pytest.mark.parametrize("overlays", [["train.json"], ["tissues.json", "train.json", "train_tissues.json"]])
def test_a_training_can_imitate_weights(tmp_path, overlays):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in ("inference.json", *overlays, "train_imitating.json")])
    parser.update({"network_def#widths": [4, 8, 16, 32], "device": "cpu", "bundle_root": str(tmp_path)})
    network = parser.get_parsed_content("network")
    (tmp_path / "models").mkdir()
    torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
    inferer, loss = (parser.get_parsed_content(f"train#{name}") for name in ("inferer", "loss"))
    images, labels = torch.rand(2, 5, 32, 32), torch.zeros(2, 1, 32, 32)
    labels[:, :, 8:12, 8:12] = 1
    loss(inferer(images, network.eval()), labels).backward()
    alone = parser.get_parsed_content("losses")[parser["loss"]]
    torch.testing.assert_close(  # the network is its own teacher: nothing is added
        loss(inferer(images, network), labels), alone(network(images), labels), atol=1e-2, rtol=1e-2
    )
    settings = parser["train#handlers#8#settings"]
    assert {"imitated", "imitation_share", "imitation_floor", "loss", "seed"} <= settings.keys()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own, about its database
def test_a_fold_with_early_stopping_and_mlflow_ends_early_and_is_tracked(a_datalist, tmp_path):
    pytest.importorskip("mlflow", reason="needs the extra 'mlflow'")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    command = [
        sys.executable, "-m", "lightunet_monai", "train", "--data", str(a_datalist), "--fold", "1",
        "--bundle", str(tiny_bundle(tmp_path / "bundle")), "-o", str(tmp_path / "new"), "--device", "cpu",
        "--val-interval", "1", "--max-epochs", "30", "--patience", "2", "--learning-rate", "0", "--loss", "focal",
        "--mlflow", store, "--progress", "json",
        *(word for key, value in SMALL.items() for word in ("--set", f"{key}={json.dumps(value)}")),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"schema"')]
    epochs = [event["epoch"] for event in events if "epoch" in event]
    assert epochs
    assert max(epochs) < 30  # with a learning rate of 0 nothing improves
    import mlflow

    client = mlflow.MlflowClient(store)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    metrics = set().union(*(run.data.metrics for run in client.search_runs(ids)))
    assert {"train_loss", "val_mean_dice"} <= metrics


@pytest.mark.slow
def test_two_processes_train_one_model(a_datalist, tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    configs = [str(bundle / "configs" / name) for name in ("inference.json", "train.json", "multi_gpu_train.json")]
    overrides = {**SMALL, "max_epochs": 2, "val_interval": 4, "fold": 0, "datalist": str(a_datalist)}
    overrides.update(output_dir=str(tmp_path / "out"), bundle_root=str(bundle), learning_rate=0.01)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle",
        "run", "--config_file", json.dumps(configs), "--workflow_type", "train",
        "--meta_file", str(bundle / "configs" / "metadata.json"), "--logging_file",
        str(bundle / "configs" / "logging.conf"),
        *(word for key, value in overrides.items() for word in (f"--{key}", str(value))),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Epoch: 2/2, Iter: 1/1 -- train_loss:" in done.stdout + done.stderr
    state = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    start = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert state.keys() == start.keys()
    assert any(not torch.equal(state[key], start[key]) for key in start)
    assert not list(tmp_path.rglob("*.part"))
