"""Label maps beside their volumes are told before a training, by what the loader itself would refuse."""

import numpy as np
import pytest
import SimpleITK

from lightunet_monai.errors import AmbiguousSeriesError, GeometryError, InputError
from lightunet_monai.outputs import write_dicom_seg, write_nrrd, write_seg_nrrd
from lightunet_monai.transforms import LoadImageVolumed
from lightunet_monai.transforms.check_label_grids import FILES_NAMED, check_label_grids
from lightunet_monai.transforms.label_grid import LabelGrid
from tests.builders.segmentation import make_case
from tests.builders.series import make_series
from tests.builders.volume import make_affine, make_nifti, make_volume, make_voxels

LOADER = LoadImageVolumed("image", label_keys="label")
SHIFTED = make_affine(origin=(10.2, -20.0, 30.0))


def _refusal(function, *arguments):
    try:
        function(*arguments)
    except InputError as error:
        return type(error), error.message, error.reason
    return None


def _told(case, loader=LOADER):
    """What the check says of a case; the loader says the same."""
    case = {key: str(path) for key, path in case.items()}
    told = _refusal(check_label_grids, [case], loader)
    assert told == _refusal(loader, case)
    return told


def _label(shape=(24, 20, 12)):
    values = np.zeros(shape, np.uint8)
    values[5:9, 6:9, 3:6] = 1
    return values


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_label_map_on_another_grid_is_told_as_the_loader_would(tmp_path, suffix):
    image = make_volume(tmp_path / f"image{suffix}", make_voxels())

    def told(*arguments):
        return _told({"image": image, "label": make_volume(tmp_path / f"label{suffix}", *arguments)})

    assert told(_label()) is None
    kind, message, reason = told(_label((24, 20, 10)))
    assert (kind, reason) == (GeometryError, "label-grid")
    assert "(24, 20, 10) voxels, its volume has (24, 20, 12)" in message
    assert "up to 0.200 mm away from its volume" in told(_label(), SHIFTED)[1]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("direction", [(1, 1, -1), (-1, -1, 1), (-1, 1, 1)])
def test_a_label_map_is_put_by_position_whatever_the_order_and_direction_of_its_axes(
    tmp_path, suffix, order, direction
):
    affine, values = make_affine(), _label()
    image = make_nifti(tmp_path / "image.nii.gz", make_voxels(), affine)
    written = SimpleITK.GetImageFromArray(values.transpose(2, 1, 0))  # a witness of its own turns it
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(to_lps[:3, :3], axis=0)
    written.SetSpacing(spacing.tolist())
    written.SetDirection((to_lps[:3, :3] / spacing).ravel().tolist())
    written.SetOrigin(to_lps[:3, 3].tolist())
    turned = SimpleITK.Flip(SimpleITK.PermuteAxes(written, order), [step < 0 for step in direction], False)
    label = tmp_path / f"label{suffix}"
    SimpleITK.WriteImage(turned, str(label))
    case = {"image": str(image), "label": str(label)}
    assert _told(case) is None
    loaded = LOADER(case)
    np.testing.assert_array_equal(loaded["label"].as_tensor()[0].numpy(), values)
    np.testing.assert_allclose(loaded["label"].affine, affine, atol=1e-4)
    turned.SetOrigin([value + 0.2 for value in turned.GetOrigin()])
    SimpleITK.WriteImage(turned, str(label))
    assert "up to 0.346 mm away" in _told(case)[1]


@pytest.mark.parametrize("write", [write_dicom_seg, write_seg_nrrd, write_nrrd])
def test_segmentations_of_a_dicom_series_are_told_as_the_loader_would(tmp_path, write):
    case = make_case(tmp_path / "case", "oblique")
    label = write(case.segmentation, tmp_path / ("seg.dcm" if write is write_dicom_seg else "a.seg.nrrd"))
    if write is write_nrrd:
        label = write(case.segmentation, tmp_path / "plain.nrrd")
    assert _told({"image": case.folder, "label": label}) is None
    other = make_series(tmp_path / "other", shape=case.segmentation.label_map.shape)
    kind, message, reason = _told({"image": other.folder, "label": label})
    assert (kind, reason) == (GeometryError, "label-grid")
    assert label.name in message


def test_a_folder_of_two_volumes_is_named_and_no_option_is_told_that_training_does_not_have(tmp_path):
    (tmp_path / "case").mkdir()
    for name in ("first", "second"):
        make_nifti(tmp_path / "case" / f"{name}.nii.gz")
    case = {"image": str(tmp_path / "case"), "label": make_nifti(tmp_path / "label.nii.gz", _label())}
    with pytest.raises(AmbiguousSeriesError, match="2 volumes could be meant") as caught:
        check_label_grids([case], LOADER)
    assert caught.value.message.startswith(f"{tmp_path / 'case'}: ")
    assert "--" not in caught.value.hint


@pytest.mark.parametrize("is_empty", [True, False])
@pytest.mark.parametrize("write", [write_dicom_seg, write_seg_nrrd])
def test_segmentations_of_the_next_volume_are_told_where_they_hold_voxels(tmp_path, write, is_empty):
    case = make_case(tmp_path / "case", "axial")
    if is_empty:
        case.segmentation.label_map[:] = 0
    label = write(case.segmentation, tmp_path / ("seg.dcm" if write is write_dicom_seg else "a.seg.nrrd"))
    affine = case.segmentation.affine.copy()
    affine[:3, 3] += 500 * affine[:3, 0]
    image = make_nifti(tmp_path / "image.nii", make_voxels(case.segmentation.label_map.shape), affine)
    told = _told({"image": image, "label": label})
    assert told is None if is_empty else "lie outside of the volume" in told[1]


def test_a_part_of_the_volume_is_held_in_any_order_of_axes_and_nothing_beside_it():
    grid = LabelGrid((24, 20, 12), make_affine(), "x")
    part = make_affine() @ np.array([[0, -1, 0, 9], [1, 0, 0, 5], [0, 0, 1, 2], [0, 0, 0, 1.0]])
    assert grid.holds((4, 10, 10), part)
    assert not grid.holds((4, 11, 10), part)
    assert not grid.holds((4, 10, 11), part)
    assert not grid.holds((24, 20, 12), SHIFTED)


def test_all_files_that_cannot_be_used_are_named_in_one_error_up_to_a_few(tmp_path):
    image = make_nifti(tmp_path / "image.nii.gz", make_voxels())
    good = make_nifti(tmp_path / "good.nii.gz", _label())
    bad = [make_nifti(tmp_path / f"{n}.nii.gz", _label(), SHIFTED) for n in range(FILES_NAMED + 2)]
    cases = [{"image": str(image), "label": str(label)} for label in (good, *bad, *bad)]
    with pytest.raises(GeometryError, match="7 files of the cases cannot be used:\n") as caught:
        check_label_grids(cases, LOADER)
    lines = caught.value.message.splitlines()
    assert [path.name in line for path, line in zip(bad, lines[1:], strict=False)] == [True] * FILES_NAMED + [False]
    assert lines[-1] == "  and 2 more."
    assert caught.value.hint


def test_volumes_and_tissue_maps_that_cannot_be_used_are_told_too(tmp_path):
    image = make_nifti(tmp_path / "image.nii.gz", make_voxels())
    label = make_nifti(tmp_path / "label.nii.gz", _label())
    loader = LoadImageVolumed("image", label_keys=("label", "tissue"))
    tissue = make_nifti(tmp_path / "tissue.nii.gz", _label(), SHIFTED)
    assert _told({"image": image, "label": label}, loader) is None
    assert "tissue.nii.gz: up to" in _told({"image": image, "label": label, "tissue": tissue}, loader)[1]
    flat = make_nifti(tmp_path / "flat.nii.gz", make_voxels()[:, :, :1])
    assert "flat.nii.gz: 24 x 20 x 1 voxels" in _told({"image": flat, "label": label})[1]
