"""The predictor, its engines, and what goes wrong with a bundle."""

import copy
import dataclasses
import json

import cc3d
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from lightunet_monai.errors import (
    BundleError,
    DeviceMemoryError,
    GeometryError,
    InferenceError,
    UnsupportedImageError,
    UsageError,
    WeightsError,
)
from lightunet_monai.inference import Predictor
from lightunet_monai.inference.bundle import open_bundle, open_training
from lightunet_monai.inference.bundle_files import find_bundle, write_bundle
from lightunet_monai.inference.device import check_device
from lightunet_monai.inference.engine import Engine
from lightunet_monai.inference.engines import choose_engine, fold_batch_norm
from lightunet_monai.inputs import choose_series, discover_sources
from lightunet_monai.options import RunOptions
from lightunet_monai.outputs import write_dicom_seg
from lightunet_monai.sources import ImageFile
from lightunet_monai.transforms.pieces import CONNECTIVITY
from tests.builders.bundle import random_network, tiny_bundle
from tests.builders.series import make_series
from tests.builders.volume import make_affine, make_nifti, make_voxels


@pytest.fixture(scope="module")
def a_bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture(scope="module")
def a_predictor(a_bundle):
    return Predictor(a_bundle)


def test_the_segmentation_lies_on_the_grid_of_the_source(a_predictor, tmp_path):
    affine = make_affine((0.7, 0.9, 1.3), axes=(2, 0, 1), signs=(1, -1, 1), turn_degrees=9)
    prediction = a_predictor.segment(make_nifti(tmp_path / "a.nii.gz", make_voxels((40, 36, 30)), affine))
    segmentation = prediction.segmentation
    assert segmentation.label_map.shape == (40, 36, 30)
    np.testing.assert_allclose(segmentation.affine, affine, atol=1e-6)
    assert set(prediction.seconds) == {"prepare", "infer", "restore"}
    assert len(segmentation.provenance.weights_sha256) == 64


def test_a_volume_in_memory_gives_what_its_file_gives(a_predictor, tmp_path):
    path = make_nifti(tmp_path / "a.nii.gz")
    volume = MetaTensor(torch.from_numpy(make_voxels().astype(np.float32))[None], affine=torch.as_tensor(make_affine()))
    by_file, in_memory = a_predictor.segment(path).segmentation, a_predictor.segment(volume).segmentation
    np.testing.assert_array_equal(by_file.label_map, in_memory.label_map)


def test_a_path_is_resolved_to_the_series_that_was_read(a_predictor, tmp_path):
    make_series(tmp_path / "series")
    series = choose_series(discover_sources(tmp_path / "series"))
    for image in (str(tmp_path / "series"), tmp_path / "series", series):
        assert a_predictor.segment(image).segmentation.source == series
    path = make_nifti(tmp_path / "a.nii.gz")
    assert a_predictor.segment(str(path)).segmentation.source == ImageFile(path)


def test_a_source_that_is_none_is_refused_before_the_model_runs(a_predictor):
    volume = MetaTensor(torch.from_numpy(make_voxels())[None], affine=torch.as_tensor(make_affine()))
    with pytest.raises(UnsupportedImageError, match="source: found str, expected an ImageSource"):
        a_predictor.segment(volume, source="study.nii.gz")


def test_a_result_of_a_folder_can_be_written_as_dicom(a_predictor, tmp_path):
    make_series(tmp_path / "series")
    segmentation = a_predictor.segment(str(tmp_path / "series")).segmentation
    assert write_dicom_seg(segmentation, tmp_path / "seg.dcm").is_file()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_volume_in_memory_that_is_not_all_numbers_is_refused(a_predictor, value):
    voxels = torch.from_numpy(make_voxels().astype(np.float32))[None]
    voxels[0, 3, 4, 5] = voxels[0, 3, 4, 6] = value
    with pytest.raises(UnsupportedImageError, match=r"2 of \d+ voxels are no finite numbers, the first at \(3, 4, 5\)"):
        a_predictor.segment(MetaTensor(voxels, affine=torch.as_tensor(make_affine())))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_told_with_engine_and_precision(a_predictor, tmp_path, value):
    predictor = copy.copy(a_predictor)

    def call(x):
        logits = a_predictor.engine(x)
        logits[:, 1, 2, 3] = value
        return logits

    predictor.engine = Engine(call, "torch-tuned", "float16")
    with pytest.raises(InferenceError, match=r"\d+ of \d+ logits .* with engine torch-tuned in float16") as caught:
        predictor.segment(make_nifti(tmp_path / "a.nii.gz"))
    assert "--engine torch" in caught.value.hint


def test_the_model_is_opened_once_and_cases_do_not_change_it(a_predictor, tmp_path):
    network = a_predictor.parts.network
    first = make_nifti(tmp_path / "a.nii.gz", make_voxels((40, 36, 30)))
    before = a_predictor.segment(first).segmentation.label_map
    a_predictor.segment(make_nifti(tmp_path / "b.nii.gz", make_voxels((24, 50, 20), seed=3)))
    np.testing.assert_array_equal(a_predictor.segment(first).segmentation.label_map, before)
    assert a_predictor.parts.network is network


def test_probabilities_agree_with_the_label_map(a_predictor, tmp_path):
    path = make_nifti(tmp_path / "a.nii.gz", make_voxels((40, 36, 30)))
    segmentation = a_predictor.segment(path, with_probability=True).segmentation
    assert segmentation.probability.dtype == np.float32
    pieces = cc3d.connected_components(segmentation.probability >= 0.5, connectivity=CONNECTIVITY)
    volumes_mm3 = np.bincount(pieces.ravel()) * segmentation.voxel_volume_ml * 1000
    is_large = volumes_mm3 >= np.pi / 6 * segmentation.provenance.settings["minimum_diameter"] ** 3
    is_large[0] = False
    assert 0 < is_large.sum() < is_large.size - 1  # there are smaller ones, which are no lesion
    np.testing.assert_array_equal(segmentation.label_map > 0, is_large[pieces])


def test_a_threshold_in_place_of_the_bundles_is_recorded(a_bundle, tmp_path):
    path = make_nifti(tmp_path / "a.nii.gz", make_voxels((40, 36, 30)))
    low, high = (Predictor(a_bundle, threshold=t).segment(path).segmentation for t in (0.2, 0.8))
    assert low.label_map.sum() > high.label_map.sum()
    assert high.provenance.settings["threshold"] == 0.8


def test_progress_goes_through_its_stages(a_predictor, tmp_path):
    told = []
    a_predictor.segment(make_nifti(tmp_path / "a.nii.gz"), progress=lambda *now: told.append(now))
    assert [stage for stage, _ in told if stage == "infer"]
    assert told[0] == ("prepare", 0.0)
    assert told[-1] == ("restore", 1.0)


def test_a_refusal_arrives_as_our_own_error_not_as_monais(a_predictor, tmp_path):
    make_series(tmp_path / "series", defect="gap")
    with pytest.raises(GeometryError) as caught:
        a_predictor.segment(tmp_path / "series")
    assert caught.value.hint


class _Fails:
    """A transform that raises."""

    def __init__(self, error):
        self.error = error

    def __call__(self, data):
        raise self.error


def _failing(predictor, step, error):
    predictor = copy.copy(predictor)
    predictor.parts = dataclasses.replace(predictor.parts, **{step: Compose([Compose([_Fails(error)])])})
    return predictor


@pytest.mark.parametrize("step", ["preprocessing", "postprocessing", "probability"])
@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (MemoryError("Unable to allocate 17.2 GiB"), "Close other programs"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 17.2 GiB\nand more"), "--device cpu"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 17.2 GiB"), "Close other"),
    ],
)
def test_memory_that_runs_out_before_or_after_the_network_is_told(a_predictor, tmp_path, step, error, hint):
    predictor = _failing(a_predictor, step, error)
    with pytest.raises(DeviceMemoryError) as caught:
        predictor.segment(make_nifti(tmp_path / "a.nii.gz"), with_probability=True)
    assert str(error).splitlines()[0] in caught.value.message
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint


def test_another_failure_of_a_transform_is_named_without_an_address(a_predictor, tmp_path):
    with pytest.raises(InferenceError) as caught:
        _failing(a_predictor, "preprocessing", ValueError("DOE^JANE")).segment(make_nifti(tmp_path / "a.nii.gz"))
    assert "_Fails>: ValueError." in caught.value.message
    assert "0x" not in caught.value.message
    assert "DOE" not in str(caught.value)  # what a library quotes may be a header


@pytest.mark.parametrize("options", [{"sw_batch_size": 1}, {"threads": 1}, {"engine": "torch"}, {"device": "cpu"}])
def test_options_change_how_it_runs_not_what_comes_out(a_bundle, a_predictor, tmp_path, options):
    path = make_nifti(tmp_path / "a.nii.gz", make_voxels((40, 36, 30)))
    expected = a_predictor.segment(path).segmentation.label_map
    found = Predictor(a_bundle, RunOptions(**options)).segment(path).segmentation.label_map
    assert (expected != found).mean() < 1e-4


def test_the_tuned_engine_gives_the_logits_of_the_reference():
    network = random_network()
    x = torch.rand(2, 3, 40, 48)
    reference = choose_engine(network, torch.device("cpu"), RunOptions(engine="torch"))
    tuned = choose_engine(network, torch.device("cpu"), RunOptions(engine="torch-tuned"))
    with torch.inference_mode():
        torch.testing.assert_close(tuned(x), reference(x), rtol=1e-4, atol=1e-4)
    assert (reference.name, tuned.name) == ("torch", "torch-tuned")


def test_folding_leaves_no_batch_norm_and_the_network_as_it_was():
    network = random_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold_batch_norm(network)
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    "options", [{"engine": "coal"}, {"sw_batch_size": 0}, {"overlap": 1.0}, {"threads": 0}, {"precision": "float7"}]
)
def test_an_impossible_option_is_refused_when_it_is_made(options):
    with pytest.raises(UsageError, match="expected"):
        RunOptions(**options)


@pytest.mark.parametrize("name", ["cuda:7", "foo", "meta", "cpu:1", ""])
def test_a_device_that_is_not_there_is_told_before_the_bundle_is_blamed(a_bundle, name):
    with pytest.raises(UsageError) as caught:
        open_bundle(a_bundle, RunOptions(device=name))
    assert f"option --device: found {name!r}, " in caught.value.message
    assert "cpu" in caught.value.message
    assert "inference.json" not in caught.value.message
    assert "leave the option out" in caught.value.hint


def test_the_devices_that_are_there_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("cpu", "cuda", "cuda:0", "cuda:1"):
        check_device(name)
    with pytest.raises(UsageError, match=r"found 'cuda:2', but this machine has only cpu, cuda:0, cuda:1\."):
        check_device("cuda:2")


def test_an_incomplete_bundle_names_what_is_missing(tmp_path):
    with pytest.raises(BundleError, match=r"models/model\.pt"):
        find_bundle(tmp_path)


def _broken(folder, name, change):
    bundle = tiny_bundle(folder)
    path = bundle / "configs" / name
    path.write_text(change(path.read_text()))
    return bundle


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("tissues.json", lambda text: '{"weights": ', r"configs/tissues\.json cannot be read: Expecting value"),
        ("tissues.json", lambda text: "[1]", r"configs/tissues\.json: found list, expected an object"),
        ("inference.json", lambda text: "[1]", r"configs/inference\.json: found list, expected an object"),
        ("metadata.json", lambda text: "[1]", r"configs/metadata\.json: found list, expected an object"),
        (
            "inference.json",
            lambda text: text.replace('"halo": 56', '"hallo": 56'),
            r"configs/inference\.json with configs/tissues\.json cannot be used: .*SliceInferer.*unexpected .*hallo",
        ),
        (
            "inference.json",
            lambda text: text.replace('"halo": 56', '"halo": 60'),
            r"inference\.json .* cannot be used: .*SliceInferer.*: halo: found 60 voxels, expected a multiple of 8",
        ),
    ],
)
def test_a_configuration_that_cannot_be_used_names_its_file_and_the_cause(tmp_path, name, change, said):
    with pytest.raises(BundleError, match=said) as caught:
        open_bundle(_broken(tmp_path / "bundle", name, change), model="tissues")
    assert "\n" not in caught.value.message


def test_a_configuration_that_is_missing_is_named(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    (bundle / "configs" / "tissues.json").unlink()
    with pytest.raises(BundleError, match=r"configs/tissues\.json cannot be read: No such file"):
        open_bundle(bundle, model="tissues")
    with pytest.raises(BundleError, match=r"configs/tissues\.json cannot be read: No such file"):
        open_training(bundle, {}, model="tissues")


def test_weights_of_another_network_are_counted_and_named(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    torch.save({"inc.0.weight": torch.zeros(1)}, bundle / "models" / "model.pt")
    with pytest.raises(WeightsError, match=r"\d+ of \d+ entries do not fit LightUNet, the first are"):
        open_bundle(bundle)


def test_damaged_weights_are_refused(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    path = bundle / "models" / "model.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be read"):
        open_bundle(bundle)


def test_weights_that_differ_from_the_metadata_hash_are_refused(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    metadata["weights_sha256"] = "0" * 64
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(WeightsError, match="SHA-256"):
        open_bundle(bundle)


def test_a_new_bundle_is_stamped_and_opens(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    torch.save(random_network(5, in_channels=5).state_dict(), tmp_path / "new.pt")
    write_bundle(bundle, tmp_path / "new.pt", tmp_path / "out", version="0.1.0+mine", data_source="my cases")
    parts = open_bundle(tmp_path / "out")
    assert parts.metadata["version"] == "0.1.0+mine"
    assert parts.metadata["weights_sha256"] == parts.weights_sha256


@pytest.mark.parametrize(
    ("thresholds", "said"),
    [
        ({"threshold": 0}, "option threshold: found 0, expected above 0 and below 1"),
        ({"threshold": float("nan")}, "option threshold: found nan"),
        ({"sure_threshold": 1}, "option sure_threshold: found 1, expected 0 or more"),
    ],
)
def test_a_threshold_that_is_no_probability_is_refused_and_no_file_is_blamed(a_bundle, thresholds, said):
    with pytest.raises(UsageError, match=said) as caught:
        open_bundle(a_bundle, **thresholds)
    assert "inference.json" not in caught.value.message


def test_blended_windows_are_named_in_the_provenance(a_bundle, a_predictor, tmp_path):
    path = make_nifti(tmp_path / "a.nii.gz")
    blended = Predictor(a_bundle, RunOptions(engine="torch", overlap=0.25)).segment(path).segmentation
    settings = blended.provenance.settings
    assert (settings["overlap"], settings["roi_size"]) == (0.25, [160, 160])
    assert "overlap" not in a_predictor.segment(path).segmentation.provenance.settings


@pytest.mark.parametrize(
    "options",
    [{"threads": "2"}, {"threads": 2.5}, {"threads": True}, {"threads": 100_000}, {"sw_batch_size": 2.5},
     {"sw_batch_size": "3"}, {"overlap": "0.5"}],
)  # fmt: skip
def test_an_option_of_another_type_or_beyond_every_machine_is_refused(options):
    with pytest.raises(UsageError, match="expected a"):
        RunOptions(**options)


def test_a_device_may_be_one_of_torch_and_its_name_may_stand_in_the_configuration(a_bundle, tmp_path):
    assert open_bundle(a_bundle, RunOptions(device=torch.device("cpu"))).device == torch.device("cpu")
    named = _edited(tmp_path / "bundle", "inference.json", lambda config: config.update(device="cpu"))
    assert open_bundle(named).device == torch.device("cpu")


def _edited(folder, name, change):
    def on_text(text):
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return _broken(folder, name, on_text)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("inference.json", lambda c: c.update(threshold="$1 +"), r"inference\.json cannot be used: .*invalid syntax"),
        ("inference.json", lambda c: c.update(threshold=0), r"inference\.json cannot be used: .*threshold: found 0"),
        ("inference.json", lambda c: c.update(weights=5), "gives 5 as 'weights', expected the path of a file"),
        ("inference.json", lambda c: c["inferer"].update(sw_batch_size=0), "sw_batch_size: found 0, expected 1"),
        ("inference.json", lambda c: c.update(slice_axes=[3]), r"slice_axes: found \[3\], expected at least one of"),
        ("metadata.json", lambda c: c.pop("name"), r"metadata\.json: the key 'name' is missing"),
        ("metadata.json", lambda c: c.pop("version"), r"metadata\.json: the key 'version' is missing"),
        ("metadata.json", lambda c: c.update(models=[]), "'models' must be an object of objects"),
        ("metadata.json", lambda c: c.update(default_model="lung"), "default_model is 'lung', which is not among"),
        ("metadata.json", lambda c: c.update(weights_sha256=5), "the bundle says 5"),
        ("metadata.json", lambda c: c.update(network_data_format="x"), "network_data_format is of another form"),
    ],
)
def test_a_bundle_that_contradicts_itself_is_told_when_it_is_opened(tmp_path, name, change, said):
    with pytest.raises(BundleError, match=said):
        open_bundle(_edited(tmp_path / "bundle", name, change))


def test_a_model_that_does_not_say_what_it_adds_is_told(tmp_path):
    bundle = _edited(tmp_path / "bundle", "metadata.json", lambda c: c["models"]["tissues"].pop("overlays"))
    with pytest.raises(BundleError, match="the model tissues has no 'overlays'"):
        open_bundle(bundle, model="tissues")
