"""The bundle command, the predictor and the command line give the same label map."""

import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from lightunet_monai.inference import Predictor
from lightunet_monai.options import RunOptions
from tests.builders.bundle import tiny_bundle
from tests.builders.series import CORONAL, make_series
from tests.builders.volume import make_affine, make_nifti, make_voxels

SHAPE = (44, 40, 36)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
"""As many threads as the tests have: sums of several are added in another order."""


@pytest.fixture(scope="module")
def a_bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("model") / "bundle")


def _oblique(folder):
    return make_nifti(folder / "case.nii.gz", make_voxels(SHAPE), make_affine((0.8, 0.9, 1.2), turn_degrees=23))


def _left_handed(folder):
    affine = make_affine((0.9, 0.7, 1.1), axes=(1, 0, 2), signs=(1, 1, 1))
    assert np.linalg.det(affine[:3, :3]) < 0
    return make_nifti(folder / "case.nii.gz", make_voxels(SHAPE), affine)


def _dicom(folder):
    make_series(folder / "study", shape=SHAPE, spacing=(0.8, 0.9, 1.5))
    return folder / "study"


def _coronal_dicom(folder):
    make_series(folder / "study", shape=SHAPE, spacing=(0.7, 0.7, 0.9), orientation=CORONAL)
    return folder / "study"


def _run(*command, fails=False):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done


def _run_bundle(bundle, dataset_dir, out, *, fails=False):
    configs = bundle / "configs"
    return _run(
        "monai.bundle", "run", "--config_file", configs / "inference.json",
        "--meta_file", configs / "metadata.json", "--logging_file", configs / "logging.conf",
        "--bundle_root", bundle, "--dataset_dir", dataset_dir, "--output_dir", out, fails=fails,
    )  # fmt: skip


@pytest.mark.parametrize("study", [_oblique, _left_handed, _dicom, _coronal_dicom], ids=lambda f: f.__name__[1:])
def test_three_doors_give_equal_voxels_shape_and_affine(a_bundle, tmp_path, study):
    path = study(tmp_path)
    # One engine for all, for the same reason: a voxel at the threshold may turn over.
    segmentation = Predictor(a_bundle, RunOptions(engine="torch", device="cpu")).segment(path).segmentation
    assert 0 < segmentation.label_map.mean() < 1  # a label map that could differ

    by_torch = ("--engine", "torch", "--device", "cpu", "--progress", "json")
    _run("lightunet_monai", "segment", path, "-o", tmp_path / "cli", "--bundle", a_bundle, *by_torch)
    by_command = nib.load(tmp_path / "cli" / "labelmap.nii.gz")

    _run_bundle(a_bundle, path, tmp_path / "bundle_out")
    written = list((tmp_path / "bundle_out").glob("*_seg.nii.gz"))
    assert len(written) == 1
    by_bundle = nib.load(written[0])

    for image in (by_command, by_bundle):
        assert image.shape == segmentation.label_map.shape
        assert image.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(np.asarray(image.dataobj), segmentation.label_map)
        np.testing.assert_allclose(image.affine, segmentation.affine, atol=1e-4)
    report = json.loads((tmp_path / "cli" / "report.json").read_text())
    assert report["status"] == "done"
    np.testing.assert_allclose(report["geometry"]["affine_ras"], segmentation.affine, atol=1e-6)


def test_a_damaged_volume_ends_the_bundle_command_with_its_name_and_no_case_stands_for_another(a_bundle, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "c"):
        make_nifti(tmp_path / "in" / f"{name}.nii.gz", make_voxels(SHAPE), make_affine())
    whole = (tmp_path / "in" / "a.nii.gz").read_bytes()
    (tmp_path / "in" / "b.nii.gz").write_bytes(whole[: len(whole) // 2])
    done = _run_bundle(a_bundle, tmp_path / "in", tmp_path / "out", fails=True)
    assert "b.nii.gz" in done.stderr
    assert "UnreadableFileError" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_seg.nii.gz"]


def test_no_door_replaces_the_volume_or_a_label_map_beside_it(a_bundle, tmp_path):
    volume = make_nifti(tmp_path / "labelmap.nii.gz", make_voxels(SHAPE), make_affine())
    reference = make_nifti(tmp_path / "labelmap_seg.nii.gz", make_voxels(SHAPE), make_affine())
    before = [path.read_bytes() for path in (volume, reference)]
    by_command = ("lightunet_monai", "segment", volume, "-o", tmp_path, "--overwrite", "--bundle", a_bundle)
    done = _run(*by_command, fails=True)
    assert "labelmap.nii.gz of its result would replace it" in done.stderr
    done = _run_bundle(a_bundle, volume, tmp_path, fails=True)
    assert "labelmap_seg.nii.gz: is there already, beside the volume" in done.stderr
    assert [path.read_bytes() for path in (volume, reference)] == before
