import csv
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from lightunet_monai.errors import UsageError
from lightunet_monai.outputs import measure_lesions, write_findings_csv, write_findings_json
from lightunet_monai.outputs.findings import Findings
from tests.builders.segmentation import THREE_LABELS, ball, make_case, make_segmentation
from tests.builders.volume import make_affine

SPACING = (1.0, 1.0, 1.2)
SHAPE = (90, 100, 80)


def _pendant_breast() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A half ellipsoid of fat that hangs forward from the posterior border, with a 2 mm skin, in air."""
    affine = np.diag([*SPACING, 1.0])
    x, y, z = (index * step for index, step in zip(np.indices(SHAPE), SPACING, strict=True))
    inside = ((x - 45) / 36) ** 2 + (y / 80) ** 2 + ((z - 48) / 38) ** 2
    volume = np.full(SHAPE, -1000, np.int16)
    volume[inside <= 1] = 40
    volume[((x - 45) / 34) ** 2 + (y / 78) ** 2 + ((z - 48) / 36) ** 2 <= 1] = -100
    return volume, affine, inside


def test_a_sphere_in_a_pendant_breast_is_measured_as_it_was_built() -> None:
    volume, affine, inside = _pendant_breast()
    centre, radius = (45.0, 30.0, 40.0), 8.0
    label_map = ball(SHAPE, centre, radius, affine)
    volume[label_map > 0] = 50
    noise = np.random.default_rng(0).normal(0, 10, SHAPE)
    segmentation = make_segmentation(label_map, affine, probability=True)

    findings = measure_lesions(segmentation, (volume + noise).astype(np.float32))

    (lesion,) = findings
    assert lesion.volume_ml == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.01)
    assert lesion.voxels == label_map.sum()
    assert lesion.feret_diameter_mm == pytest.approx(16.0, abs=1.0)
    assert lesion.axial_long_axis_mm == pytest.approx(16.0, abs=1.2)
    assert lesion.axial_short_axis_mm == pytest.approx(16.0, abs=1.6)
    assert lesion.axial_plane == 40
    assert lesion.axial_plane_axis == 2
    assert lesion.centroid_ras_mm == pytest.approx((45.0, 30.0, 48.0), abs=0.05)
    assert lesion.centroid_voxel == pytest.approx(centre, abs=0.05)
    assert lesion.mean_hu == pytest.approx(50, abs=1)
    assert lesion.sd_hu == pytest.approx(10, abs=1)
    assert lesion.contrast_hu == pytest.approx(150, abs=1)
    assert lesion.mean_probability == pytest.approx(0.92, abs=1e-6)
    # The nearest voxel of air, by brute force; the skin ends half a voxel before it.
    nearest = np.linalg.norm((np.argwhere(inside > 1) - centre) * SPACING, axis=1).min()
    assert lesion.skin_distance_mm == pytest.approx(nearest - 0.5 - radius, abs=1.0)
    assert findings.nipple_method == "breast tip"
    assert findings.nipple_ras_mm == pytest.approx((45, 80, 48), abs=3.0)
    assert lesion.nipple_distance_mm == pytest.approx(50.0, abs=3.0)


def test_a_labelled_nipple_is_preferred_to_the_tip_of_the_breast() -> None:
    volume, affine, _ = _pendant_breast()
    label_map = ball(SHAPE, (45, 30, 40), 5.0, affine)
    label_map[50:53, 70:73, 30:33] = 3

    findings = measure_lesions(make_segmentation(label_map, affine, labels=THREE_LABELS), volume)

    assert findings.nipple_method == "label"
    assert findings.nipple_ras_mm == pytest.approx((51, 71, 31 * 1.2))


def test_skin_and_nipple_stay_unknown_where_the_volume_does_not_show_them() -> None:
    volume = np.full((30, 30, 30), -100, np.int16)
    label_map = ball((30, 30, 30), (15, 15, 15), 4.0, np.eye(4))

    (lesion,) = findings = measure_lesions(make_segmentation(label_map), volume)

    assert not findings.skin_found
    assert lesion.skin_distance_mm is None
    assert lesion.nipple_distance_mm is None


def test_air_in_the_lungs_is_not_taken_for_the_outside() -> None:
    volume = np.full((60, 60, 30), 0, np.int16)
    volume[:, 50:, :] = -1000  # in front of the patient (y is anterior here)
    volume[20:40, 10:25, :] = -850  # a lung that reaches the first and last plane, 6 voxels behind the lesion
    label_map = ball((60, 60, 30), (30, 33, 15), 2.0, np.eye(4))

    (lesion,) = measure_lesions(make_segmentation(label_map), volume)

    assert lesion.skin_distance_mm == pytest.approx(50 - 33 - 2, abs=1.1)


def test_without_intensities_what_needs_them_is_missing_and_the_rest_is_there() -> None:
    (lesion,) = measure_lesions(make_segmentation(ball((20, 20, 20), (10, 10, 10), 4, np.eye(4))))
    assert lesion.mean_hu is lesion.contrast_hu is lesion.skin_distance_mm is lesion.mean_probability is None
    assert lesion.volume_ml > 0


@pytest.mark.parametrize("source", ["axial", "oblique", "left-handed", "anisotropic", "tilted"])
def test_simpleitk_agrees_on_intensities_centroid_and_volume(tmp_path: Path, source: str) -> None:
    case = make_case(tmp_path, source)
    findings = measure_lesions(case.segmentation, case.volume_hu)
    label_map, affine = case.segmentation.label_map, np.diag([-1, -1, 1, 1]) @ case.segmentation.affine
    labels = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(label_map.transpose(2, 1, 0)), True)
    image = SimpleITK.GetImageFromArray(case.volume_hu.astype(np.float64).transpose(2, 1, 0))
    intensity = SimpleITK.LabelIntensityStatisticsImageFilter()
    intensity.Execute(labels, image)
    by_size = sorted(intensity.GetLabels(), key=intensity.GetNumberOfPixels, reverse=True)

    for lesion, label in zip(findings, by_size, strict=True):
        assert lesion.mean_hu == pytest.approx(intensity.GetMean(label))
        count = intensity.GetNumberOfPixels(label)
        assert lesion.sd_hu == pytest.approx(intensity.GetStandardDeviation(label) * np.sqrt((count - 1) / count))
        # the image has unit spacing, so ITK's centroid is a voxel index
        centroid = affine[:3, :3] @ intensity.GetCentroid(label) + affine[:3, 3]
        assert np.allclose(np.array(lesion.centroid_ras_mm) * (-1, -1, 1), centroid)
        assert lesion.volume_ml == pytest.approx(count * abs(np.linalg.det(affine[:3, :3])) / 1000)


def test_measurements_do_not_change_with_the_storage_of_the_voxels() -> None:
    volume, affine, _ = _pendant_breast()
    label_map = ball(SHAPE, (40.0, 30.0, 45.0), 7.0, affine)
    label_map[60:64, 20:26, 30:33] = 1
    volume[label_map > 0] = 30
    flip = np.eye(4)
    flip[2, 2], flip[2, 3] = -1, SHAPE[2] - 1

    straight = measure_lesions(make_segmentation(label_map, affine), volume)
    turned = measure_lesions(make_segmentation(label_map[:, :, ::-1], affine @ flip), volume[:, :, ::-1])

    for one, other in zip(straight, turned, strict=True):
        assert one.surface_area_mm2 == pytest.approx(other.surface_area_mm2, rel=1e-3)
        for field in ("volume_ml", "feret_diameter_mm", "axial_long_axis_mm", "mean_hu", "contrast_hu"):
            assert getattr(one, field) == pytest.approx(getattr(other, field)), field
        assert one.centroid_ras_mm == pytest.approx(other.centroid_ras_mm)
        assert one.skin_distance_mm == pytest.approx(other.skin_distance_mm, abs=0.7)


def test_a_volume_of_another_shape_is_refused() -> None:
    with pytest.raises(UsageError, match=r"found shape \(3, 3, 3\), expected that of the label map \(4, 4, 4\)"):
        measure_lesions(make_segmentation(np.ones((4, 4, 4), np.uint8)), np.zeros((3, 3, 3)))


def test_the_table_has_one_line_a_lesion_and_names_every_unit(tmp_path: Path) -> None:
    findings = measure_lesions((case := make_case(tmp_path)).segmentation, case.volume_hu)
    path = write_findings_csv(findings, tmp_path / "findings.csv")
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))

    assert [row["number"] for row in rows] == ["1", "2"]
    assert float(rows[0]["volume_ml"]) == pytest.approx(findings.lesions[0].volume_ml, abs=1e-4)
    assert float(rows[1]["centroid_ras_mm_z"]) == pytest.approx(findings.lesions[1].centroid_ras_mm[2], abs=1e-4)
    assert "nan" not in path.read_text().lower()


def test_json_says_the_same_as_the_findings(tmp_path: Path) -> None:
    findings = measure_lesions((case := make_case(tmp_path)).segmentation, case.volume_hu)
    values = json.loads(write_findings_json(findings, tmp_path / "findings.json").read_text())

    assert values["schema"] == 1
    assert values["count"] == 2
    assert values["lesions"][0]["tracking_uid"] == findings.lesions[0].tracking_uid
    assert "simulated data" in values["statement"]


def test_a_case_without_lesions_gives_a_table_with_its_header_line_alone(tmp_path: Path) -> None:
    lines = write_findings_csv(Findings(), tmp_path / "findings.csv").read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("number,label,tracking_uid")


@pytest.mark.slow
def test_a_large_volume_is_measured_without_a_copy_of_it() -> None:
    shape, affine = (512, 512, 640), make_affine((0.3, 0.3, 0.3))
    label_map = np.zeros(shape, np.uint8, order="F")
    label_map[200:300, 200:300, 200:300] = ball((100, 100, 100), (50, 50, 50), 12.0, affine)
    volume = np.full(shape, -1000, np.int16, order="F")
    volume[60:450, 60:450, 30:] = -80
    segmentation = make_segmentation(label_map, affine)
    tracemalloc.start()
    measure_lesions(segmentation, volume)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.75 * volume.nbytes  # a mask of every voxel is half of it
