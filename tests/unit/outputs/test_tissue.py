"""Breast density and the distance to the skin, from a label map with tissues."""

from dataclasses import replace

import numpy as np
import pytest

from lightunet_monai.labels import LabelTable
from lightunet_monai.outputs import describe_case, measure_lesions
from tests.builders.segmentation import ball, make_segmentation

TISSUES = LabelTable.shipped("tissues")
SHAPE = (50, 50, 50)
CENTRE = (25.0, 25.0, 25.0)


def _breast(lesion=True):
    """A ball of fat with a 2 mm skin, gland in the middle and a tumour of 3 mm radius beside it."""
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    label_map = ball(SHAPE, CENTRE, 20.0, affine) * np.uint8(4)
    label_map[ball(SHAPE, CENTRE, 18.0, affine) > 0] = 3
    label_map[ball(SHAPE, CENTRE, 6.0, affine) > 0] = 2
    if lesion:
        label_map[ball(SHAPE, (25.0, 25.0, 36.0), 3.0, affine) > 0] = 1
    volume = np.where(label_map == 0, -1000, np.where(label_map == 3, -100, 40)).astype(np.int16)
    return make_segmentation(label_map, affine, labels=TISSUES), volume


def test_density_is_the_share_of_fibroglandular_tissue_without_the_skin():
    segmentation, volume = _breast()
    counts = np.bincount(segmentation.label_map.ravel())
    findings = measure_lesions(segmentation, volume)
    assert findings.breast_density == pytest.approx(counts[2] / (counts[1] + counts[2] + counts[3]))
    assert findings.to_json()["breast_density"] == pytest.approx(findings.breast_density, abs=1e-4)


def test_without_tissue_labels_there_is_no_density():
    segmentation, volume = _breast()
    two = replace(segmentation, label_map=(segmentation.label_map == 1).astype(np.uint8), labels=LabelTable.shipped())
    findings = measure_lesions(two, volume)
    assert findings.breast_density is None
    assert findings.skin_method == "air"
    nothing = replace(segmentation, label_map=np.zeros(SHAPE, np.uint8))
    assert measure_lesions(nothing, volume).breast_density is None


@pytest.mark.parametrize(
    ("lost", "said"), [((), None), ((4,), "No skin is labelled"), ((2, 3, 4), "No tissue is labelled")]
)
def test_the_report_says_where_tissue_labels_and_density_are_not_to_be_trusted(lost, said):
    segmentation, _ = _breast()
    label_map = np.where(np.isin(segmentation.label_map, lost), 0, segmentation.label_map).astype(np.uint8)
    warnings = describe_case(segmentation.source, segmentation=replace(segmentation, label_map=label_map)).warnings
    found = [text for text in warnings if "tissue labels and the breast density" in text]
    assert [text.startswith(str(said)) for text in found] == ([True] if said else [])


def test_the_distance_to_the_labelled_skin_is_that_to_its_outer_surface():
    segmentation, volume = _breast()
    (lesion,) = findings = measure_lesions(segmentation, volume)
    assert findings.skin_found
    assert findings.skin_method == "label"
    assert lesion.skin_distance_mm == pytest.approx(20 - 11 - 3, abs=1.0)
    # needs no intensities, and agrees with what the air says
    (alone,) = measure_lesions(segmentation)
    assert alone.skin_distance_mm == pytest.approx(lesion.skin_distance_mm, abs=0.5)
    no_skin = np.where(segmentation.label_map == 4, 0, segmentation.label_map).astype(np.uint8)
    (by_air,) = found = measure_lesions(replace(segmentation, label_map=no_skin), volume)
    assert found.skin_method == "air"
    assert lesion.skin_distance_mm == pytest.approx(by_air.skin_distance_mm, abs=0.5)


def test_where_skin_is_missing_from_the_labels_the_air_counts():
    segmentation, volume = _breast()
    (whole,) = measure_lesions(segmentation, volume)
    partly = segmentation.label_map.copy()
    partly[:, :, 20:][partly[:, :, 20:] == 4] = 3  # the side of the lesion
    (lesion,) = findings = measure_lesions(replace(segmentation, label_map=partly), volume)
    assert findings.skin_method == "label"
    assert lesion.skin_distance_mm == pytest.approx(whole.skin_distance_mm, abs=0.5)
    (alone,) = measure_lesions(replace(segmentation, label_map=partly))  # the labels are all there is
    assert alone.skin_distance_mm > whole.skin_distance_mm + 10


def test_what_is_not_labelled_beneath_the_skin_is_not_its_outer_surface():
    segmentation, volume = _breast()
    (whole,) = measure_lesions(segmentation, volume)
    muscle = segmentation.label_map.copy()
    muscle[muscle == 3] = 0  # all between skin and lesion
    (lesion,) = findings = measure_lesions(replace(segmentation, label_map=muscle), volume)
    assert findings.skin_method == "label"
    assert lesion.skin_distance_mm == whole.skin_distance_mm
    gap = segmentation.label_map.copy()
    gap[25, 25, 43] = 0  # one voxel beneath the skin
    assert segmentation.label_map[25, 25, 43:47].tolist() == [3, 4, 4, 0]
    (lesion,) = measure_lesions(replace(segmentation, label_map=gap), volume)
    assert lesion.skin_distance_mm == whole.skin_distance_mm


@pytest.mark.parametrize("method", ["label", "air"])
@pytest.mark.parametrize("slices_mm", [0.5, 2.5, 5.0])
def test_thick_slices_do_not_shorten_the_distance_to_the_skin(slices_mm, method):
    affine = np.diag([0.5, 0.5, slices_mm, 1.0])
    label_map = np.zeros((60, 60, 24), np.uint8)
    label_map[10:50, 10:50] = 3
    label_map[10:12, 10:50] = 4
    label_map[16:26, 25:35, 10:14] = 1  # 6 voxels of 0.5 mm below the surface
    volume = np.where(label_map == 0, -1000, -90).astype(np.int16)
    segmentation = make_segmentation(label_map, affine, labels=TISSUES)
    if method == "air":
        two = (label_map == 1).astype(np.uint8)
        segmentation = replace(segmentation, label_map=two, labels=LabelTable.shipped())
    (lesion,) = findings = measure_lesions(segmentation, volume)
    assert findings.skin_method == method
    assert lesion.skin_distance_mm == pytest.approx(3.0, abs=0.01)


def test_contrast_is_against_tissue_labelled_or_not():
    segmentation, volume = _breast()
    (lesion,) = measure_lesions(segmentation, volume)
    assert 120 < lesion.contrast_hu < 140  # mostly fat at -100 HU, a little gland at 40; neither air nor skin


def test_tissue_is_no_finding():
    segmentation, volume = _breast(lesion=False)
    assert not segmentation.has_lesion
    findings = measure_lesions(segmentation, volume)
    assert len(findings) == 0
    assert findings.breast_density > 0
    report = describe_case("study", segmentation=segmentation, findings=findings)
    assert any("holds no lesion" in text for text in report.warnings)
