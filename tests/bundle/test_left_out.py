"""What the ranks leave out, found by a small network first: muscle, bone, implants and masses."""

import json

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import MetaTensor

from lightunet_monai.errors import WeightsError
from lightunet_monai.inference.bundle import open_bundle
from lightunet_monai.inference.predictor import Predictor
from lightunet_monai.simulation import RECIPES, SimulationSettings, simulate_case
from lightunet_monai.simulation.tissues import Tissue
from tests.builders.bundle import SHIPPED, tiny_bundle
from tests.builders.volume import make_nifti

CONFIGS = SHIPPED / "configs"
MUSCLE = (Tissue.MUSCLE, Tissue.IMPLANT, Tissue.METAL, Tissue.BONE)
MASSES = (Tissue.TUMOUR, Tissue.BENIGN, Tissue.CALCIFICATION)
LEFT_OUT = MUSCLE + MASSES


def _mask_of(volume, root=SHIPPED):
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    parser["bundle_root"] = str(root)
    return parser.get_parsed_content("find_left_out")({"image": volume})["pred"]


def test_training_leaves_out_the_tissues_that_the_simulator_means():
    overlay = json.loads((CONFIGS / "train_left_out.json").read_text())
    assert overlay["left_out_values"] == sorted(int(tissue) for tissue in LEFT_OUT)
    labels = overlay["left_out_labels"]
    assert labels["orig_labels"] == f"$list(range({len(Tissue)}))"


def test_weights_are_small_and_stamped():
    parts = open_bundle()
    config = json.loads((CONFIGS / "inference.json").read_text())
    assert len(config["left_out_sha256"]) == 64
    assert parts.settings["left_out_sha256"] == config["left_out_sha256"]
    assert (SHIPPED / "models" / "left_out.pt").stat().st_size < 1e6


def test_the_mask_lies_on_the_grid_of_the_volume_whatever_it_is():
    affine = np.array([[0, -1.25, 0, 10], [1.25, 0, 0, -30], [0, 0, 1.25, 5], [0, 0, 0, 1.0]])
    voxels = torch.randn((1, 37, 22, 41), generator=torch.Generator().manual_seed(0)) * 20 - 100
    volume = MetaTensor(voxels, affine=affine)
    mask = _mask_of(volume)
    assert mask.shape == volume.shape
    np.testing.assert_allclose(mask.affine, affine)
    tiny = MetaTensor(torch.full((1, 1, 3, 2), -100.0), affine=np.eye(4))
    assert _mask_of(tiny).shape == (1, 1, 3, 2)


def test_a_bundle_whose_left_out_weights_are_missing_says_so(tmp_path):
    root = tiny_bundle(tmp_path / "bundle")
    (root / "models" / "left_out.pt").unlink()
    image = make_nifti(tmp_path / "image.nii.gz")
    with pytest.raises(WeightsError, match=r"left_out\.pt: the weights of this network are not there"):
        Predictor(root).segment(image)


def test_its_weights_decide_on_the_result(tmp_path):
    """And so belong to the files by which a batch tells models apart."""
    from lightunet_monai.inference.bundle_files import model_files

    root = tiny_bundle(tmp_path / "bundle")
    assert root / "models" / "left_out.pt" in model_files(root)
    image = make_nifti(tmp_path / "image.nii.gz")
    before = open_bundle(root).preprocessing({"image": str(image)})["image"].as_tensor()[0]
    state = torch.load(root / "models" / "left_out.pt", weights_only=True)
    state["outc.bias"] = state["outc.bias"] + torch.tensor([0.0, 50.0])  # nothing counts
    torch.save(state, root / "models" / "left_out.pt")
    after = open_bundle(root).preprocessing({"image": str(image)})["image"].as_tensor()[0]
    assert (after[before > 0] == 1).all()
    assert not (before[before > 0] == 1).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_training_it_misses_no_property_and_labels_are_what_is_left_out(tmp_path):
    settings = SimulationSettings(spacing=(1.5, 1.8), max_voxels=72, families=("supine",), family_weights=(1.0,))
    case = next(c for c in (simulate_case(seed, settings=settings) for seed in range(20)) if _left_out(c).sum() > 2000)
    pairs = []
    for name in ("a", "b"):
        image = make_nifti(tmp_path / f"{name}.nii.gz", case.volume_hu, case.affine)
        tissues = make_nifti(tmp_path / f"{name}_tissues.nii.gz", case.tissue_map, case.affine)
        pairs.append({"image": image.name, "label": tissues.name})
    (tmp_path / "datalist.json").write_text(json.dumps({"training": pairs, "validation": pairs}))
    workflow = ConfigWorkflow(
        config_file=[str(CONFIGS / name) for name in ("inference.json", "train.json", "train_left_out.json")],
        meta_file=str(CONFIGS / "metadata.json"), logging_file=False, workflow_type="train",
        bundle_root=str(SHIPPED), dataset_dir=str(tmp_path), output_dir=str(tmp_path / "out"), max_epochs=1,
        volumes_per_batch=2, precise_batch_norm_batches=0, tensorboard=False,
    )  # fmt: skip
    workflow.initialize()
    assert workflow.check_properties() == []
    labels = workflow.parser.get_parsed_content("validate#dataset")[0]["label"]
    assert set(np.unique(labels)) == {0, 1}
    voxel_ml = 2.5**3 / 1000
    expected_ml = _left_out(case).sum() * abs(np.linalg.det(case.affine[:3, :3])) / 1000
    assert float(labels.sum()) * voxel_ml == pytest.approx(expected_ml, rel=0.3)  # a thin slab, and coarse voxels
    workflow.run()
    assert (tmp_path / "out" / "model.pt").is_file()


def test_the_shipped_weights_find_muscle_and_large_tumours_and_leave_most_gland():
    """Volumes of seeds and of a recipe that training never saw."""
    settings = RECIPES["validation"].changed(spacing=(0.9, 1.1), max_voxels=128)
    found = {"muscle": [], "tumour": [], "gland": []}
    for seed in (9001, 9006, 9008):
        case = simulate_case(seed, settings=settings)
        volume = MetaTensor(torch.from_numpy(case.volume_hu.astype(np.float32))[None], affine=case.affine)
        mask = _mask_of(volume).numpy()[0] > 0
        for name, tissues in (("muscle", MUSCLE), ("tumour", (Tissue.TUMOUR,)), ("gland", (Tissue.FIBROGLANDULAR,))):
            found[name].append(mask[_is_any(case, tissues)])
    share = {name: float(np.concatenate(parts).mean()) for name, parts in found.items()}
    assert sum(part.size for part in found["muscle"]) > 10_000
    assert share["muscle"] > 0.75
    assert share["tumour"] > 0.3
    assert share["gland"] < 0.06


def _is_any(case, tissues):
    return np.isin(case.tissue_map, [int(tissue) for tissue in tissues])


def _left_out(case):
    return _is_any(case, LEFT_OUT)
