"""The files of a new bundle: what it takes over, where it may lie, and what it still has from the weights before."""

import json
from pathlib import Path

import pytest
import torch

from lightunet_monai.errors import UsageError
from lightunet_monai.inference import Predictor
from lightunet_monai.inference.bundle_files import check_new_bundle, write_bundle
from tests.builders.bundle import mild_judge, random_network, tiny_bundle
from tests.builders.volume import make_nifti, make_voxels


def _new_bundle(folder: Path, bundle: Path, target: str = "out/bundle", **options: str) -> Path:
    torch.save(random_network(9, in_channels=5).state_dict(), folder / "new.pt")
    write_bundle(bundle, folder / "new.pt", folder / target, version="1+mine", data_source="my cases", **options)
    return folder / target


def test_a_new_bundle_takes_over_what_belongs_to_a_bundle_and_nothing_else(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    (bundle / "data").mkdir()
    make_nifti(bundle / "data" / "patient.nii.gz")
    (bundle / "runs").mkdir()
    (bundle / "runs" / "checkpoint.pt").write_bytes(b"large")
    new = _new_bundle(tmp_path, bundle)
    assert {path.name for path in new.iterdir()} == {"configs", "models", "docs", "LICENSE"}
    kept = {path.name for path in (bundle / "models").iterdir()}
    assert {path.name for path in (new / "models").iterdir()} == kept
    assert (new / "models" / "model.pt").read_bytes() == (tmp_path / "new.pt").read_bytes()
    assert not (tmp_path / "out" / "bundle.part").exists()


def test_a_new_bundle_can_be_made_of_one_without_a_changelog_whose_model_has_no_metadata_of_its_own(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    del metadata["changelog"], metadata["models"]["ultrasound"]["metadata"]
    path.write_text(json.dumps(metadata))
    new = json.loads((_new_bundle(tmp_path, bundle, model="ultrasound") / "configs" / "metadata.json").read_text())
    assert new["changelog"] == {"1+mine": "Trained on my cases"}
    assert new["models"]["ultrasound"]["metadata"]["version"] == "1+mine"
    assert new["version"] == metadata["version"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("zz/bundle", "would replace"),
        ("zz", "would replace"),
        ("zz/bundle/runs/bundle", "would lie in"),
        ("zz/bundle/../bundle/bundle", "would lie in"),
        ("link/bundle", "would lie in"),
    ],
)
def test_a_new_bundle_neither_replaces_the_one_it_was_trained_from_nor_lies_in_it(tmp_path, target, said):
    (tmp_path / "zz").mkdir()
    bundle = tiny_bundle(tmp_path / "zz" / "bundle")
    (tmp_path / "link").symlink_to(bundle, target_is_directory=True)
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=said):
        check_new_bundle(bundle, tmp_path / target)
    with pytest.raises(UsageError, match=said):
        _new_bundle(tmp_path, bundle, target)
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before
    check_new_bundle(bundle, tmp_path / "zz" / "other" / "bundle")


def test_a_trained_bundle_warns_until_its_pieces_were_fitted_to_its_own_weights(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    judge = {"weights_sha256": "0" * 64, **mild_judge()}
    (bundle / "configs" / "pieces.json").write_text(json.dumps(judge))
    image = make_nifti(tmp_path / "image.nii.gz", make_voxels((34, 30, 26)))

    def warnings(folder: Path, model: str | None = None) -> list[str]:
        found = Predictor(folder, model=model).segment(image).warnings
        return [text for text in found if "calibrate" in text]

    assert warnings(bundle) == []  # not made by `lightunet train`
    new = _new_bundle(tmp_path, bundle)
    (said,) = warnings(new)
    assert "fitted to the weights before" in said
    assert warnings(new, "tissues") == []  # its weights are those of the bundle before
    own = Predictor(new).parts.weights_sha256
    (new / "configs" / "pieces.json").write_text(json.dumps({**judge, "weights_sha256": own}))
    assert warnings(new) == []
    (new / "configs" / "pieces.json").write_text(json.dumps(mild_judge()))  # does not say what it was fitted to
    assert warnings(new) == []
