"""Every row of expected.csv: the right volume, or a refusal of the right kind."""

import numpy as np
import pytest

from lightunet_monai.errors import AmbiguousSeriesError, GeometryError, InputError, UnreadableFileError
from lightunet_monai.inputs import choose_series, discover_sources, plan_regularization, read_hu
from lightunet_monai.inputs.pixels import check_storage, read_planes_hu
from tests.builders.hard_studies import CHEST, STUDIES, hash_voxels, needs_chest, needs_studies, rows_by_case

REFUSALS = {
    "D01_missing_one": ("GeometryError", "gap", ("2.000 mm", "1.000 mm")),
    "D10_one_slice_other_rows": ("GeometryError", "mixed-size", ("160 x 100", "160 x 128")),
    "D27_one_truncated_pixeldata": ("UnreadableFileError", "truncated", ("a010", "31960", "40960")),
    "D29b_zip_slip": ("UnreadableFileError", "archive-member-outside", ("study.zip",)),
    "D30_no_ipp_iop": ("GeometryError", "no-position", ("30 of 30",)),
    "D44_synthetic_tilt15_sphere_r20": ("GeometryError", "tilt", ("15.00 degrees", "0.1 degrees")),
    "R13_ge_gap_5_5_10": ("GeometryError", "gap", ("10.000 mm", "5.000 mm")),
    "R15_siemens_same_position_4acq": ("GeometryError", "duplicate-positions", ("4 images at 1 positions",)),
    "R11_philips_exam_summary_SC_mixed": ("UnsupportedImageError", "no-volume", ("6 x secondary capture",)),
    "R17_ge_many_missing_irregular": ("GeometryError", "gap", ("112.500 mm",)),
    "D32_breastct_bad_ipp_constant_koning_like": (
        "GeometryError",
        "duplicate-positions",
        ("90 images at 1 positions",),
    ),
    "D30b_no_rescale": ("UnsupportedImageError", "no-rescale", ("Rescale",)),
}
ACCEPTED, AMBIGUOUS = rows_by_case("accept", "any"), rows_by_case("ambiguous")


def check_volume(volume, row):
    assert volume.voxels.shape == row.shape
    np.testing.assert_allclose(volume.affine, row.affine, atol=1e-4)
    found = (volume.voxels.min(), volume.voxels.max(), volume.voxels.mean(dtype=np.float64))
    np.testing.assert_allclose(found, row.hu, atol=1e-3)
    assert hash_voxels(volume.voxels) == row.sha256_16


@needs_studies
@pytest.mark.parametrize("case", ACCEPTED)
def test_an_acceptable_study_gives_the_expected_voxels_at_the_expected_places(case):
    (row,) = ACCEPTED[case]
    check_volume(read_hu(choose_series(discover_sources(row.path))), row)


@needs_studies
@pytest.mark.parametrize("case", AMBIGUOUS)
def test_an_ambiguous_study_is_refused_with_a_list_and_each_volume_can_be_chosen(case):
    rows = {row.sha256_16: row for row in AMBIGUOUS[case]}
    sources = discover_sources(STUDIES / case)
    with pytest.raises(AmbiguousSeriesError) as caught:
        choose_series(sources)
    assert len(sources) == len(rows)
    for source in sources:
        assert source.selector in caught.value.message
        volume = read_hu(choose_series(sources, source.selector))
        check_volume(volume, rows.pop(hash_voxels(volume.voxels)))
    assert not rows


@needs_studies
@pytest.mark.parametrize("case", rows_by_case("refuse"))
def test_an_unusable_study_is_refused_with_the_numbers(case):
    kind, reason, parts = REFUSALS[case]
    with pytest.raises(InputError) as caught:
        read_hu(choose_series(discover_sources(STUDIES / case)))
    assert (type(caught.value).__name__, caught.value.reason) == (kind, reason)
    assert all(part in caught.value.message for part in parts), caught.value.message
    assert caught.value.hint


@needs_studies
def test_a_zip_that_leaves_its_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableFileError):
        discover_sources(STUDIES / "D29b_zip_slip")
    assert not list(tmp_path.iterdir())


@needs_studies
def test_identical_duplicates_are_dropped_with_a_warning():
    (source,) = discover_sources(STUDIES / "D03_dup_identical_instances")
    assert len(source.slices) == 30
    assert "2 identical copies" in " ".join(source.warnings)


@needs_studies
def test_missing_rescale_is_accepted_when_stored_values_are_said_to_be_hounsfield_units():
    source = choose_series(discover_sources(STUDIES / "D30b_no_rescale"))
    volume = read_hu(source, assume_hu=True)
    assert volume.voxels.min() == 0
    assert "30 of 30 slices have no rescale" in " ".join(volume.warnings)


@needs_studies
@pytest.mark.parametrize(
    "path", sorted((STUDIES / "R26_cornerstone_ct_15_transfer_syntaxes").glob("*")), ids=lambda p: p.name[12:40]
)
def test_every_transfer_syntax_gives_the_same_slice(path):
    (reference,) = discover_sources(path.with_name("CTImage.dcm"))
    (source,) = discover_sources(path)
    lossy = {"4.91": 5.01, "4.81": 1.01, "4.50": 64.3, "4.51": 35.7, "4.53": 35.7, "4.55": 35.7}
    tolerance = next(
        (value for end, value in lossy.items() if source.slices[0].pixels.transfer_syntax.endswith(end)), 0.0
    )
    planes = np.empty((2, 1, 512, 512), np.float32)
    for item, out in zip((reference, source), planes, strict=True):
        check_storage(item.slices)
        read_planes_hu(item.slices, out)
    assert np.abs(planes[0] - planes[1]).max() <= tolerance
    with pytest.raises(GeometryError, match="1 slice"):
        read_hu(source)


@needs_studies
def test_under_tilt_the_sphere_is_round_again_and_its_label_map_returns_to_the_source_slices():
    source = choose_series(discover_sources(STUDIES / "D44_synthetic_tilt15_sphere_r20"))
    stored = read_hu(source, allow_shear=True)
    regularization = plan_regularization(source)
    regular = regularization.to_regular(stored.voxels)
    affine = regularization.affine
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    inside = regular > -450
    points = np.argwhere(inside) @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=0.1)
    # A ball of radius r has variance r^2 / 5 along every axis.
    np.testing.assert_allclose(np.sqrt(5 * np.linalg.eigvalsh(np.cov(points.T))), 20.0, atol=0.1)
    volume = inside.sum() * abs(np.linalg.det(affine[:3, :3]))
    assert volume == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.003)
    back = regularization.to_source_slices(inside.astype(np.uint8))
    assert back.shape == stored.voxels.shape
    truth = stored.voxels > -450
    assert 2 * (back.astype(bool) & truth).sum() / (back.sum() + truth.sum()) > 0.999


@needs_chest
def test_a_chest_ct_with_a_frame_of_reference_per_slice_loads():
    source = choose_series(discover_sources(CHEST))
    assert source.shape == (512, 512, 138)
    np.testing.assert_allclose(np.abs(np.diag(source.affine)[:3]), (0.78125, 0.78125, 2.0), atol=1e-4)
    assert "138 frames of reference" in " ".join(source.warnings)
    volume = read_hu(source)
    assert volume.voxels.dtype == np.int16
    assert volume.voxels.min() < -900
