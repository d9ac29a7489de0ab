"""A tilted or uneven series that was resampled: its result lies where the lesion is, or is refused before inference."""

import json

import nibabel
import numpy as np
import pydicom
import pytest

from lightunet_monai.batch.case import load_case, segment_case
from lightunet_monai.batch.settings import CaseSettings
from lightunet_monai.cli import main
from lightunet_monai.errors import OutputError
from lightunet_monai.inference import Prediction
from lightunet_monai.inputs import choose_series, discover_sources, plan_regularization
from tests.builders.segmentation import make_segmentation
from tests.builders.series import make_series
from tests.builders.witnesses import dicom_errors

SPACING = (0.8, 0.9, 1.5)
SHAPE = (40, 36, 30)
CENTRE, RADIUS_MM = (15.2, 16.2, 22.5), 6.0
"""Of the lesion, mm from the first voxel."""


class Threshold:
    """Takes what is denser than fat for a lesion; stands in for the model."""

    def segment(self, volume, *, source, with_probability, progress):
        voxels = volume.as_tensor()[0].numpy()
        label_map = (voxels > -20).astype(np.uint8)
        affine = np.asarray(volume.affine, dtype=np.float64)
        made = make_segmentation(label_map, affine, source, probability=with_probability)
        return Prediction(made, {}, list(volume.meta["warnings"]))


def no_model():
    raise AssertionError("the model was opened")


def uneven_series(folder, off_mm):
    """A ball, exactly where it is, in slices of which those around its centre lie too high."""
    heights = np.arange(SHAPE[2]) * SPACING[2]
    heights[8:23] += off_mm
    x, y, z = np.meshgrid(
        *(np.arange(n) * d for n, d in zip(SHAPE[:2], SPACING[:2], strict=True)), heights, indexing="ij"
    )
    distance = np.sqrt((x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 + (z - CENTRE[2]) ** 2)
    voxels = np.clip(-20 - 30 * (distance - RADIUS_MM), -100, 60).astype(np.int16)
    voxels[:4] = voxels[-4:] = voxels[:, :4] = voxels[:, -4:] = -1000

    def change(index, dataset):
        dataset.ImagePositionPatient = ["0", "0", f"{heights[index]:.4f}"]

    make_series(folder, voxels=voxels, spacing=SPACING, change=change)
    return choose_series(discover_sources(folder))


def run(source, folder, *formats):
    settings = CaseSettings(formats=formats, regularize=True)
    report = segment_case(source, folder, settings, Threshold)
    lesions = json.loads((folder / "findings.json").read_text(encoding="utf-8"))["lesions"]
    return report, lesions[0]


@pytest.mark.parametrize("off_mm", [0.3, -0.3])
def test_the_result_of_uneven_slices_stays_on_the_even_grid_where_the_lesion_is(tmp_path, off_mm):
    source = uneven_series(tmp_path / "study", off_mm)
    assert source.problem.reason == "uneven-spacing"
    report, lesion = run(source, tmp_path / "out", "nifti", "probability")
    assert lesion["centroid_ras_mm"] == pytest.approx((-CENTRE[0], -CENTRE[1], CENTRE[2]), abs=0.05)
    assert lesion["volume_ml"] == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3 / 1000, rel=0.02)
    regular = plan_regularization(source).affine
    for name in ("labelmap.nii.gz", "probability.nii.gz"):
        np.testing.assert_allclose(nibabel.load(tmp_path / "out" / name).affine, regular, atol=1e-4)
    (remark,) = [text for text in report.warnings if "resampled" in text]
    assert "uneven slices, up to 0.300 mm off an even stack" in remark
    assert "not on the original slices" in remark
    assert "leaning" not in remark


@pytest.mark.parametrize("name", ["seg", "sr", "rtstruct", "seg-labelmap", "seg-fractional"])
def test_dicom_results_of_uneven_slices_are_refused_before_the_model_is_opened(tmp_path, name):
    source = uneven_series(tmp_path / "study", 0.3)
    settings = CaseSettings(formats=("nifti", name), regularize=True)
    with pytest.raises(OutputError, match=r"has uneven slices, up to 0\.300 mm off") as caught:
        segment_case(source, tmp_path / "out", settings, no_model)
    assert caught.value.reason == "other-grid"
    assert name in caught.value.message
    assert "nifti" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_slices_off_by_less_than_a_tenth_of_a_voxel_take_the_result_back(tmp_path):
    source = uneven_series(tmp_path / "study", 0.06)
    assert source.problem.reason == "uneven-spacing"
    report, lesion = run(source, tmp_path / "out", "nifti", "seg")
    assert lesion["centroid_ras_mm"] == pytest.approx((-CENTRE[0], -CENTRE[1], CENTRE[2]), abs=0.08)
    (remark,) = [text for text in report.warnings if "resampled" in text]
    assert "uneven slices, up to 0.060 mm off an even stack" in remark
    assert "put back on the original slices" in remark
    assert dicom_errors(tmp_path / "out" / "segmentation.dcm") == []


def test_the_remark_on_a_tilted_stack_names_the_angle_alone(tmp_path):
    make_series(tmp_path, defect="tilt")
    loaded = load_case(choose_series(discover_sources(tmp_path)), CaseSettings(regularize=True))
    (remark,) = [text for text in loaded.volume.meta["warnings"] if "resampled" in text]
    assert "(stack leaning by " in remark
    assert "put back on the original slices" in remark
    assert "uneven" not in remark


def test_an_edited_label_map_of_uneven_slices_is_measured_on_the_even_grid(tmp_path, capsys):
    source = uneven_series(tmp_path / "study", 0.3)
    _, before = run(source, tmp_path / "out", "nifti")
    words = ["export", str(tmp_path / "out" / "labelmap.nii.gz"), "--source", str(tmp_path / "study")]
    assert main([*words, "-o", str(tmp_path / "again"), "--formats", "nifti"]) == 0
    (after,) = json.loads((tmp_path / "again" / "findings.json").read_text(encoding="utf-8"))["lesions"]
    for name in ("volume_ml", "mean_hu", "sd_hu"):
        assert after[name] == pytest.approx(before[name], abs=1e-6)
    capsys.readouterr()
    assert main([*words, "-o", str(tmp_path / "dicom"), "--formats", "seg"]) == 1
    assert "mm from plane" in capsys.readouterr().err
    assert not (tmp_path / "dicom").exists()


def test_positions_in_a_dicom_result_are_those_of_the_source(tmp_path):
    source = uneven_series(tmp_path / "study", 0.06)
    run(source, tmp_path / "out", "seg")
    heights = {item.position[2] for item in source.slices}
    for frame in pydicom.dcmread(tmp_path / "out" / "segmentation.dcm").PerFrameFunctionalGroupsSequence:
        found = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        assert min(abs(found - height) for height in heights) <= 0.0601
