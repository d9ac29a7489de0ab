"""The bundle command, the predictor and the command line give the same label map."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from lightunet_monai.inference import Predictor
from tests.builders.bundle import tiny_bundle
from tests.builders.series import CORONAL, make_series
from tests.builders.volume import make_affine, make_nifti, make_voxels

SHAPE = (44, 40, 36)


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


def _run(*command):
    done = subprocess.run([sys.executable, "-m", *map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("study", [_oblique, _left_handed, _dicom, _coronal_dicom], ids=lambda f: f.__name__[1:])
def test_three_doors_give_equal_voxels_shape_and_affine(a_bundle, tmp_path, study):
    path = study(tmp_path)
    segmentation = Predictor(a_bundle).segment(path).segmentation
    assert 0 < segmentation.label_map.mean() < 1  # a label map that could differ

    _run("lightunet_monai", "segment", path, "-o", tmp_path / "cli", "--bundle", a_bundle, "--progress", "json")
    by_command = nib.load(tmp_path / "cli" / "labelmap.nii.gz")

    _run(
        "monai.bundle", "run", "--config_file", a_bundle / "configs" / "inference.json",
        "--meta_file", a_bundle / "configs" / "metadata.json", "--logging_file", a_bundle / "configs" / "logging.conf",
        "--bundle_root", a_bundle, "--dataset_dir", path, "--output_dir", tmp_path / "bundle_out",
    )  # fmt: skip
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
