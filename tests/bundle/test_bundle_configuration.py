"""The bundle as MONAI's tools see it."""

import json
import logging
import subprocess
import sys

import monai
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.transforms import Compose

from lightunet_monai.errors import WeightsError
from lightunet_monai.inference.bundle import open_bundle
from lightunet_monai.labels import LabelTable, metadata_of
from tests.builders.bundle import SHIPPED, tiny_bundle
from tests.builders.volume import make_nifti

CONFIGS = SHIPPED / "configs"
METADATA = json.loads((CONFIGS / "metadata.json").read_text())
MANDATORY = (  # of meta_schema_20240725.json
    "version",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "task",
    "description",
    "authors",
    "copyright",
    "network_data_format",
)
STANDARD_IDS = (
    "network_def",
    "network",
    "preprocessing",
    "inferer",
    "postprocessing",
    "dataset",
    "evaluator",
    "device",
    "bundle_root",
    "output_dir",
)


def _workflow(kind, *overlays, **overrides):
    return ConfigWorkflow(
        config_file=[str(CONFIGS / "inference.json"), *(str(CONFIGS / name) for name in overlays)],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        bundle_root=str(SHIPPED),
        **overrides,
    )


def test_metadata_has_every_mandatory_key_and_a_changelog_entry_for_its_version():
    assert [key for key in MANDATORY if key not in METADATA] == []
    assert METADATA["version"] in METADATA["changelog"]
    assert isinstance(METADATA["supported_apps"], dict)
    assert METADATA["schema"].endswith("meta_schema_20240725.json")
    assert "Research use only" in METADATA["description"]


def test_label_table_fits_the_network():
    config = ConfigParser()
    config.read_config(str(CONFIGS / "inference.json"))
    labels = LabelTable.from_metadata(METADATA)
    assert labels.values == tuple(range(1, config["network_def#out_channels"]))
    assert labels[1].type.value == "4147007"  # Mass: software does not establish histology
    outputs = METADATA["network_data_format"]["outputs"]["pred"]
    assert outputs["num_channels"] == config["network_def#out_channels"]
    assert METADATA["network_data_format"]["inputs"]["image"]["num_channels"] == 2 * config["neighbours"] + 1


@pytest.mark.parametrize("model", [METADATA["default_model"], *METADATA["models"]])
def test_each_channel_of_each_model_has_a_name(model):
    formats = metadata_of(METADATA, model)["network_data_format"]
    for channels in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert sorted(map(int, channels["channel_def"])) == list(range(channels["num_channels"]))


def test_the_model_of_pictures_says_nothing_of_ct():
    metadata = metadata_of(METADATA, "ultrasound")
    image = metadata["network_data_format"]["inputs"]["image"]
    assert (image["modality"], image["format"]) == ("US", "magnitude")
    assert "ultrasound" in metadata["intended_use"]
    assert "CT" not in metadata["intended_use"] + metadata["image_classes"] + metadata["description"]


def test_pieces_are_drawn_at_the_operating_threshold():
    config = ConfigParser()
    config.read_config(str(CONFIGS / "inference.json"))
    assert config["piece_threshold"] == config["threshold"] <= config["sure_threshold"]


def test_weights_are_a_plain_state_dict_below_20_mb_with_the_hash_metadata_gives():
    path = SHIPPED / "models" / "model.pt"
    assert path.stat().st_size < 20e6
    state = torch.load(path, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    parts = open_bundle()
    assert parts.weights_sha256 == METADATA["weights_sha256"]
    assert sum(p.numel() for p in parts.network.parameters()) == 4_198_000 + 2 * 9 * 32  # two slices more


def test_the_files_a_bundle_must_have_are_there():
    for name in ("LICENSE", "docs/README.md", "configs/logging.conf", "configs/train.json", "configs/evaluate.json"):
        assert (SHIPPED / name).is_file(), name


def test_every_class_the_configuration_names_exists():
    import pydoc

    def targets(node):
        if isinstance(node, dict):
            if isinstance(node.get("_target_"), str):
                yield node["_target_"]
            for value in node.values():
                yield from targets(value)
        elif isinstance(node, list):
            for value in node:
                yield from targets(value)

    from monai.bundle.config_item import ComponentLocator

    locator = ComponentLocator()
    found = set()
    for path in CONFIGS.glob("*.json"):
        if path.name != "metadata.json":
            found |= set(targets(json.loads(path.read_text())))
    assert found
    missing = [name for name in found if pydoc.locate(name) is None and not locator.get_component_module_name(name)]
    assert missing == []


def test_standard_ids_are_there_and_no_property_is_missing():
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "inference.json"))
    assert [name for name in STANDARD_IDS if name not in parser.config] == []


@pytest.fixture
def a_data_folder(tmp_path):
    pairs = []
    for index in range(3):
        image = make_nifti(tmp_path / f"image_{index}.nii.gz")
        label = tmp_path / f"label_{index}.nii.gz"
        from tests.builders.volume import make_voxels

        make_nifti(label, (make_voxels() > 40).astype("uint8"))
        pairs.append({"image": image.name, "label": label.name})
    datalist = tmp_path / "datalist.json"
    datalist.write_text(json.dumps({"training": pairs[:2], "validation": pairs[2:], "test": pairs[2:]}))
    return tmp_path


def test_check_properties_of_inference_is_empty(a_data_folder):
    workflow = _workflow("inference", dataset_dir=str(a_data_folder))
    workflow.initialize()
    assert workflow.check_properties() == []


def test_evaluate_adds_to_inference_and_misses_no_property(a_data_folder):
    workflow = _workflow("inference", "evaluate.json", dataset_dir=str(a_data_folder))
    workflow.initialize()
    assert workflow.check_properties() == []


def test_the_bundle_command_evaluates_and_saves_every_metric(a_data_folder, tmp_path):
    small = tiny_bundle(tmp_path / "bundle")
    configs = [str(small / "configs" / name) for name in ("inference.json", "evaluate.json")]
    done = subprocess.run(
        [
            sys.executable, "-m", "monai.bundle", "run", "--config_file", str(configs),
            "--meta_file", str(small / "configs" / "metadata.json"),
            "--logging_file", str(small / "configs" / "logging.conf"), "--bundle_root", str(small),
            "--dataset_dir", str(a_data_folder), "--output_dir", str(tmp_path / "eval"),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    lines = (tmp_path / "eval" / "metrics.csv").read_text().splitlines()
    values = dict(line.split(",") for line in lines)
    assert set(values) == {
        "val_mean_dice", "val_iou", "val_precision", "val_recall", "val_f1", "val_specificity",
        "val_hausdorff95_mm", "val_surface_distance_mm", "val_surface_dice_1mm",
    }  # fmt: skip
    assert float(values["val_f1"]) == pytest.approx(float(values["val_mean_dice"]), abs=1e-4)
    details = (tmp_path / "eval" / "val_hausdorff95_mm_raw.csv").read_text().splitlines()
    assert details[1].split(",")[0] == "image_2"  # the only case of section test


@pytest.mark.filterwarnings("ignore::UserWarning:monai")  # a configuration is a program
def test_monai_loads_the_network_with_its_weights_where_there_is_no_study(tmp_path, monkeypatch):
    small = tiny_bundle(tmp_path / "bundle")
    monkeypatch.chdir(small)
    monkeypatch.setattr(logging.root, "handlers", [])  # what logging.conf of the bundle sets ends with the test
    monkeypatch.setattr(logging.root, "level", logging.root.level)
    network = monai.bundle.load(small.name, bundle_dir=small.parent, workflow_type="inference", device="cpu")
    expected = torch.load(small / "models" / "model.pt", weights_only=True)
    assert network.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(("overlay", "file_name"), [((), "model.pt"), (("tissues.json",), "tissues.pt")])
def test_the_bundle_command_refuses_weights_that_are_not_finite(a_data_folder, tmp_path, overlay, file_name):
    small = tiny_bundle(tmp_path / "bundle")
    weights = small / "models" / file_name
    state = torch.load(weights, weights_only=True)
    first = next(iter(state))
    state[first].flatten()[0] = float("nan")
    torch.save(state, weights)
    configs = [str(small / "configs" / name) for name in ("inference.json", *overlay)]
    workflow = ConfigWorkflow(
        config_file=configs,
        meta_file=str(small / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="inference",
        bundle_root=str(small),
        dataset_dir=str(a_data_folder),
    )
    with pytest.raises(RuntimeError) as raised:
        workflow.initialize()
    cause = raised.value.__cause__
    assert isinstance(cause, WeightsError)
    assert file_name in str(cause)
    assert f"1 of {len(state)} entries are not finite, the first are {first}" in str(cause)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_check_properties_of_training_is_empty(a_data_folder, tmp_path):
    workflow = _workflow("train", "train.json", dataset_dir=str(a_data_folder), output_dir=str(tmp_path / "out"))
    workflow.initialize()
    assert workflow.check_properties() == []


def test_overlays_repeat_no_number_of_the_inference_configuration():
    inference = json.loads((CONFIGS / "inference.json").read_text())
    for name in ("train.json", "evaluate.json"):
        overlay = json.loads((CONFIGS / name).read_text())
        for key in ("network_def", "preprocessing", "inferer", "model_spacing", "rank_range_ml", "threshold"):
            assert key in inference
            assert key not in overlay, (name, key)


def test_loader_and_saver_can_be_cut_out_by_class_name(tmp_path):
    """What MONAI Label and MONAI Deploy do, and a volume in memory comes in."""
    from monai.data import MetaTensor

    parts = open_bundle(tiny_bundle(tmp_path / "bundle"))
    kept = [t for t in parts.preprocessing.transforms if "LoadImage" not in type(t).__name__]
    assert len(kept) == len(parts.preprocessing.transforms) - 1
    volume = MetaTensor(torch.full((1, 20, 20, 20), -100.0), affine=torch.diag(torch.tensor([0.7, 0.7, 0.7, 1.0])))
    case = Compose(kept)({"image": volume})
    with torch.inference_mode():
        case["pred"] = parts.inferer(case["image"][None], parts.network)[0]
    assert parts.postprocessing(case)["pred"].shape == (1, 20, 20, 20)


@pytest.mark.slow
def test_a_training_of_one_epoch_writes_a_model_and_goes_on_after_a_stop(a_data_folder, tmp_path):
    small = tiny_bundle(tmp_path / "bundle")
    command = [
        sys.executable, "-m", "lightunet_monai", "train", "--data", str(a_data_folder / "datalist.json"),
        "--bundle", str(small), "-o", str(tmp_path / "new"), "--val-interval", "1", "--progress", "json",
        "--set", "train_window=[32,32]", "--set", "volumes_per_batch=1", "--set", "fewest_cases=1", "--device", "cpu",
        "--max-epochs",
    ]  # fmt: skip
    first = subprocess.run([*command, "1"], capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    events = [json.loads(line) for line in first.stdout.splitlines() if line.startswith('{"schema"')]
    assert events[-1]["event"] == "done"
    assert any(event.get("epoch") == 1 and "loss" in event for event in events)
    again = subprocess.run([*command, "2"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "resumed after epoch 1" in again.stderr
    new = open_bundle(tmp_path / "new" / "bundle")
    assert new.metadata["version"].endswith("+new")
    other = subprocess.run([*command, "3", "--loss", "dice"], capture_output=True, text=True, check=False)
    assert other.returncode != 0
    assert "is of a training with other settings: loss" in other.stdout + other.stderr


@pytest.mark.parametrize("overlay", [[], ["evaluate.json"]])
def test_the_name_of_a_device_will_do_as_on_the_command_line(tmp_path, a_data_folder, overlay):
    small = tiny_bundle(tmp_path / "bundle")
    workflow = ConfigWorkflow(
        config_file=[str(small / "configs" / name) for name in ("inference.json", *overlay)],
        meta_file=str(small / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="inference",
        bundle_root=str(small),
        dataset_dir=str(a_data_folder),
        device="cpu",
    )
    workflow.initialize()
    assert workflow.parser.get_parsed_content("evaluator").amp is False


def test_every_configuration_asks_a_device_by_name_or_not_for_its_kind():
    for path in CONFIGS.glob("*.json"):
        own = json.loads(path.read_text()).get("device")
        assert own or "$@device.type" not in path.read_text(), path.name
