"""The model with tissue labels: what it is stands in metadata.json, and every way in and out follows."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import ConfigWorkflow
from pydicom.sr.codedict import codes

from lightunet_monai.cli import main
from lightunet_monai.inference import Predictor
from lightunet_monai.inference.bundle import open_bundle
from lightunet_monai.inference.bundle_files import takes_pictures, weights_path, write_bundle
from lightunet_monai.inputs import choose_series, discover_sources, load_volume
from lightunet_monai.labels import LabelTable, metadata_of
from lightunet_monai.options import RunOptions
from tests.builders.bundle import SHIPPED, spread_tissues, tiny_bundle
from tests.builders.series import make_series
from tests.builders.volume import make_nifti, make_voxels

NAME = "tissues"
TORCH = RunOptions(engine="torch", device="cpu")
SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
CONFIGS = SHIPPED / "configs"
METADATA = json.loads((CONFIGS / "metadata.json").read_text())
CID_7163 = {
    "1342375003": "Breast fibroglandular tissue",
    "89749009": "Fatty tissue of breast",
    "82038008": "Skin of breast",
}
"""DICOM PS3.16, Breast Segmentation Types, 2024-09-13; younger than the dictionary of pydicom 3.0."""


@pytest.fixture(scope="module")
def a_study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    make_series(folder, shape=(44, 40, 36), spacing=(0.8, 0.9, 1.5))
    return folder


@pytest.fixture(scope="module")
def a_bundle(tmp_path_factory, a_study):
    """The small bundle, its last layer rescaled so that every label occurs."""
    bundle = tiny_bundle(tmp_path_factory.mktemp("model") / "bundle")
    spread_tissues(bundle, load_volume(choose_series(discover_sources(a_study))))
    return bundle


@pytest.fixture(scope="module")
def a_result(a_bundle, a_study, tmp_path_factory):
    out = tmp_path_factory.mktemp("result") / "out"
    command = ["segment", str(a_study), "-o", str(out), "--bundle", str(a_bundle), "--model", NAME]
    formats = "nifti,nrrd,segnrrd,seg,sr,rtstruct"
    assert main([*command, "--formats", formats, "--engine", "torch", "--device", "cpu"]) == 0
    return out


def _label_map(folder):
    return np.asarray(nib.load(folder / "labelmap.nii.gz").dataobj)


def test_two_classes_are_what_is_shipped_and_the_tissues_are_an_option():
    assert METADATA["default_model"] == "breast-ct"
    assert LabelTable.shipped().values == (1,)
    table = LabelTable.shipped(NAME)
    assert [label.name for label in table] == ["tumor", "fibroglandular", "adipose", "skin"]
    assert [label.is_lesion for label in table] == [True, False, False, False]
    assert not takes_pictures(METADATA, NAME)
    assert takes_pictures(METADATA, "ultrasound")
    assert metadata_of(METADATA)["network_data_format"] == METADATA["network_data_format"]


def test_codes_of_tissues_are_those_of_dicom():
    for label in LabelTable.shipped(NAME):
        if not label.is_lesion:
            assert (label.type.scheme, label.type.meaning) == ("SCT", CID_7163[label.type.value])
            assert (label.category.value, label.category.meaning) == (codes.SCT.Tissue.value, codes.SCT.Tissue.meaning)
            assert (label.region.value, label.region.meaning) == (codes.SCT.Breast.value, codes.SCT.Breast.meaning)


def _workflow(kind, *files, **overrides):
    return ConfigWorkflow(
        config_file=[str(CONFIGS / name) for name in files],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        bundle_root=str(SHIPPED),
        **overrides,
    )


def test_no_property_of_the_configuration_is_missing_and_the_labels_fit_the_network(a_study):
    workflow = _workflow("inference", "inference.json", "tissues.json", dataset_dir=str(a_study), initialize=[])
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.parser["network_def#out_channels"] == len(LabelTable.shipped(NAME)) + 1
    assert workflow.parser["piece_threshold"] == workflow.parser["threshold"] <= workflow.parser["sure_threshold"]
    outputs = metadata_of(METADATA, NAME)["network_data_format"]["outputs"]["pred"]
    assert outputs["num_channels"] == len(outputs["channel_def"]) == 5


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_property_of_the_training_is_missing(tmp_path):
    pairs = []
    for index in range(3):
        image = make_nifti(tmp_path / f"image_{index}.nii.gz")
        label = make_nifti(tmp_path / f"label_{index}.nii.gz", (make_voxels() > 40).astype("uint8"))
        tissue = make_nifti(tmp_path / f"tissue_{index}.nii.gz", (make_voxels() > -80).astype("uint8"))
        pairs.append({"image": image.name, "label": label.name, "tissue": tissue.name})
    (tmp_path / "datalist.json").write_text(json.dumps({"training": pairs[:2], "validation": pairs[2:]}))
    files = ("inference.json", "tissues.json", "train.json", "train_tissues.json")
    workflow = _workflow("train", *files, dataset_dir=str(tmp_path), output_dir=str(tmp_path / "out"))
    workflow.initialize()
    assert workflow.check_properties() == []


def test_every_format_has_the_five_labels(a_result):
    label_map = _label_map(a_result)
    assert set(np.unique(label_map)) == {0, 1, 2, 3, 4}
    report = json.loads((a_result / "report.json").read_text())
    assert set(report["volume_ml"]) == {"tumor", "fibroglandular", "adipose", "skin"}
    assert report["model"]["name"] == "breast_ct_tissue_segmentation"
    counts = np.bincount(label_map.ravel(), minlength=5)
    findings = report["findings"]
    assert findings["breast_density"] == pytest.approx(counts[2] / (counts[1] + counts[2] + counts[3]), abs=1e-4)
    assert findings["skin_method"] == "label"
    assert all(lesion["skin_distance_mm"] is not None for lesion in findings["lesions"])
    assert (a_result / "overview.png").stat().st_size > 10_000
    seg = pydicom.dcmread(a_result / "segmentation.dcm")
    types = [item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in seg.SegmentSequence]
    assert types == ["4147007"] * findings["count"] + ["1342375003", "89749009", "82038008"]
    assert [item.get("TrackingUID") is not None for item in seg.SegmentSequence][-3:] == [False] * 3
    text = (a_result / "labelmap.seg.nrrd").read_bytes().split(b"\n\n", 1)[0].decode()
    assert "Segment3_Name:=Skin" in text
    assert "SCT^82038008^Skin of breast" in text


def test_the_report_keeps_its_schema(a_result):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(json.loads((a_result / "report.json").read_text()), json.loads(SCHEMA.read_text()))


def test_python_and_the_bundle_command_give_the_same_label_map(a_bundle, a_study, a_result, tmp_path):
    expected = _label_map(a_result)
    by_python = Predictor(a_bundle, TORCH, model=NAME).segment(a_study).segmentation
    np.testing.assert_array_equal(by_python.label_map, expected)
    configs = a_bundle / "configs"
    workflow = ConfigWorkflow(
        config_file=[str(configs / "inference.json"), str(configs / "tissues.json")],
        meta_file=str(configs / "metadata.json"),
        logging_file=False,
        workflow_type="inference",
        bundle_root=str(a_bundle),
        dataset_dir=str(a_study),
        output_dir=str(tmp_path),
        device="$torch.device('cpu')",
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    (written,) = tmp_path.glob("*_seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(nib.load(written).dataobj), expected)


def test_an_edited_label_map_is_exported_with_the_labels_of_the_model_that_made_it(a_study, a_result, tmp_path):
    command = ["export", str(a_result / "labelmap.nii.gz"), "--source", str(a_study), "-o", str(tmp_path / "out")]
    assert main([*command, "--formats", "seg"]) == 0
    seg = pydicom.dcmread(tmp_path / "out" / "segmentation.dcm")
    assert seg.SegmentSequence[-1].SegmentedPropertyTypeCodeSequence[0].CodeValue == "82038008"


def test_a_bundle_of_new_tissue_weights_means_them_and_keeps_the_two_classes(a_bundle, a_study, tmp_path, capsys):
    new = tmp_path / "new"
    write_bundle(a_bundle, weights_path(a_bundle, NAME), new, version="1", data_source="test", model=NAME)
    assert len(open_bundle(new, TORCH).labels) == 4
    assert len(open_bundle(new, TORCH, model="breast-ct").labels) == 1
    assert main(["inspect", "--bundle", str(new), "--json"]) == 0
    labels = json.loads(capsys.readouterr().out)["model"]["labels"]
    assert [label["name"] for label in labels] == ["tumor", "fibroglandular", "adipose", "skin"]
    assert takes_pictures(json.loads((new / "configs" / "metadata.json").read_text()), "ultrasound")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_simulated_volumes_train_a_model_that_segments(a_bundle, tmp_path):
    simulated, datalist, new = tmp_path / "sim", tmp_path / "list.json", tmp_path / "new"
    assert main(["simulate", "-n", "3", "--size", "40", "--seed", "3", "-o", str(simulated), "--quiet"]) == 0
    folders = [str(simulated / kind) for kind in ("images", "labels")]
    more = ["--tissues", str(simulated / "tissues"), "--validation", "0.34", "-o", str(datalist)]
    assert main(["datalist", *folders, *more]) == 0
    bundle = tiny_bundle(tmp_path / "bundle")
    weights_path(bundle, NAME).unlink()  # so the start is the two-class model's
    command = [
        sys.executable, "-m", "lightunet_monai", "train", "--model", NAME, "--data", str(datalist), "--bundle",
        str(bundle), "-o", str(new), "--max-epochs", "1", "--val-interval", "1", "--device", "cpu",
        "--progress", "json", "--set", "train_window=[32,32]", "--set", "volumes_per_batch=2",
        "--set", "precise_batch_norm_batches=1", "--set", "fewest_cases=1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "outc.weight: 3 of 5 channels begin as the background's" in done.stderr
    state = torch.load(new / "bundle" / "models" / "tissues.pt", weights_only=True)
    assert state["outc.weight"].shape[0] == 5
    study = simulated / "images" / "case_0001.nii.gz"
    segment = ["segment", str(study), "-o", str(tmp_path / "out"), "--engine", "torch", "--device", "cpu"]
    assert main([*segment, "--bundle", str(new / "bundle"), "--model", NAME]) == 0
    assert set(np.unique(_label_map(tmp_path / "out"))) <= {0, 1, 2, 3, 4}
