"""The volume tensor: what MONAI gets, and the warnings that reach the report."""

import os
import re
import zipfile

import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import DeflatedExplicitVRLittleEndian

from lightunet_monai import inputs
from lightunet_monai.errors import GeometryError, InputError, UnsupportedImageError
from lightunet_monai.inputs import choose_series, discover_sources, load_volume, plan_regularization, read_hu, streams
from lightunet_monai.inputs.plausibility import ct_warnings, refuse_other_units
from lightunet_monai.sources import ImageFile
from tests.builders.multi_frame import make_enhanced
from tests.builders.series import INTERCEPT, make_series
from tests.builders.volume import make_affine, make_nifti, make_voxels


def test_a_volume_is_a_float32_tensor_with_a_ras_affine(tmp_path):
    truth = make_series(tmp_path)
    source = choose_series(discover_sources(tmp_path))
    volume = load_volume(source)
    assert volume.shape == (1, 24, 20, 12)
    assert volume.dtype == torch.float32
    np.testing.assert_array_equal(volume[0].numpy(), truth.voxels)
    np.testing.assert_allclose(volume.affine.numpy(), truth.affine)
    assert volume.affine.dtype == torch.float64
    assert volume.meta["filename_or_obj"] == source.name
    np.testing.assert_array_equal(volume.meta["spatial_shape"], (24, 20, 12))
    np.testing.assert_allclose(volume.meta["original_affine"], truth.affine)
    assert volume.meta["warnings"] == []


def test_the_tensor_is_the_memory_that_slices_were_decoded_into(tmp_path):
    make_series(tmp_path)
    volume = load_volume(choose_series(discover_sources(tmp_path)))
    assert volume.stride()[1:] == (1, 24, 24 * 20)  # as stored: slices of rows of columns
    memory = volume.untyped_storage()
    assert memory.nbytes() == 24 * 20 * 12 * 4
    assert not memory.resizable()  # NumPy's; a copy by torch would be torch's own


def test_monai_saves_a_label_map_where_the_volume_was(tmp_path):
    import nibabel as nib
    from monai.transforms import SaveImage

    truth = make_series(tmp_path / "series")
    volume = load_volume(choose_series(discover_sources(tmp_path / "series")))
    SaveImage(output_dir=tmp_path / "out", separate_folder=False, print_log=False)(volume)
    (saved,) = (tmp_path / "out").iterdir()
    image = nib.load(saved)
    np.testing.assert_allclose(image.affine, truth.affine, atol=1e-4)
    np.testing.assert_array_equal(image.get_fdata(), truth.voxels)


def test_a_file_gives_the_same_kind_of_tensor(tmp_path):
    volume = load_volume(choose_series(discover_sources(make_nifti(tmp_path / "case_3.nii.gz"))))
    assert volume.meta["filename_or_obj"] == "case_3"
    np.testing.assert_allclose(volume.affine.numpy(), make_affine(), atol=1e-5)


@pytest.mark.parametrize("defect", ["tilt", "uneven spacing"])
def test_a_tilted_or_uneven_series_is_resampled_only_when_asked(tmp_path, defect):
    truth = make_series(tmp_path, defect=defect)
    source = choose_series(discover_sources(tmp_path))
    with pytest.raises(GeometryError, match="expected") as caught:
        load_volume(source)
    assert "--regularize" in caught.value.hint
    volume = load_volume(source, regularize=True)
    axes = volume.affine[:3, :3].numpy()
    cosines = axes.T @ axes
    np.testing.assert_allclose(cosines - np.diag(np.diag(cosines)), 0, atol=1e-9)
    assert "orthogonal grid" in volume.meta["warnings"][0]
    regularization = plan_regularization(source)
    assert volume.shape[1:] == regularization.shape
    label_map = (volume[0].numpy() > -500).astype(np.uint8)
    back = regularization.to_source_slices(label_map)
    assert back.shape == truth.voxels.shape
    assert back.dtype == np.uint8
    assert (back == (truth.voxels > -500)).mean() > 0.97


def test_regularize_leaves_a_regular_series_alone(tmp_path):
    truth = make_series(tmp_path)
    source = choose_series(discover_sources(tmp_path))
    assert plan_regularization(source) is None
    np.testing.assert_array_equal(load_volume(source, regularize=True)[0].numpy(), truth.voxels)


def test_regularize_leaves_a_regular_series_without_rescale_alone(tmp_path):
    def store_hounsfield_units(index, dataset):
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<i2") + INTERCEPT).astype("<i2").tobytes()

    truth = make_series(tmp_path, defect="no rescale", change=store_hounsfield_units)
    source = choose_series(discover_sources(tmp_path), assume_hu=True)
    volume = load_volume(source, assume_hu=True, regularize=True)
    np.testing.assert_array_equal(volume[0].numpy(), truth.voxels)
    assert plan_regularization(source) is None
    assert "resampled" not in " ".join(volume.meta["warnings"])


@pytest.mark.parametrize("defect", ["gap", "two images per position", "no position", "odd orientation"])
def test_regularize_does_not_mend_what_is_really_broken(tmp_path, defect):
    make_series(tmp_path, defect=defect)
    with pytest.raises(GeometryError):
        load_volume(choose_series(discover_sources(tmp_path)), regularize=True)


@pytest.mark.parametrize("seed", range(4))
def test_frames_of_an_enhanced_ct_are_ordered_by_position_with_their_own_rescale(tmp_path, seed):
    truth = make_enhanced(tmp_path / "e.dcm", seed=seed, rescale_per_frame=True)
    volume = load_volume(choose_series(discover_sources(tmp_path)))
    np.testing.assert_array_equal(volume[0].numpy(), truth.voxels)
    np.testing.assert_allclose(volume.affine.numpy(), truth.affine, atol=1e-6)


@pytest.mark.parametrize("kind", ["archive", "deflated"])
def test_an_instance_that_is_unpacked_for_its_frames_is_unpacked_once(tmp_path, monkeypatch, kind):
    (tmp_path / "study").mkdir()
    paths = [tmp_path / "x.dcm", tmp_path / "y.dcm"]
    voxels = make_voxels((24, 20, 40))
    for number, path in enumerate(paths):  # every other slice in each of them
        make_enhanced(path, voxels=voxels[:, :, number::2], spacing=(0.8, 0.9, 3.0))
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.77.{number + 1}"
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            place = frame.PlanePositionSequence[0]
            x, y, z = place.ImagePositionPatient
            place.ImagePositionPatient = [x, y, z + 1.5 * number]
        if kind == "deflated":
            dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
            path = tmp_path / "study" / path.name
        dataset.save_as(path)
    if kind == "archive":
        with zipfile.ZipFile(tmp_path / "study" / "study.zip", "w") as archive:
            for path in paths:
                archive.write(path, path.name)
    unpacked = []
    read, inflate = zipfile.ZipFile.read, streams.inflate

    def counted_read(archive, name, *rest):
        unpacked.append(name)
        return read(archive, name, *rest)

    def counted_inflate(stream, limit):
        unpacked.append(stream.name)
        return inflate(stream, limit)

    source = choose_series(discover_sources(tmp_path / "study"))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(zipfile.ZipFile, "read", counted_read)
    monkeypatch.setattr(streams, "inflate", counted_inflate)
    np.testing.assert_array_equal(read_hu(source).voxels, voxels)
    assert len(unpacked) == len(set(unpacked)) == 2


def test_frames_without_positions_are_refused(tmp_path):
    make_enhanced(tmp_path / "e.dcm", without_positions=True)
    with pytest.raises(GeometryError, match="12 of 12"):
        load_volume(choose_series(discover_sources(tmp_path)))


def test_a_plausible_ct_gives_no_warning():
    assert ct_warnings(make_voxels((40, 40, 40)), what="x") == []


@pytest.mark.parametrize(
    ("voxels", "word"),
    [
        (make_voxels() + 1024, "air around the breast"),
        (np.zeros((8, 8, 8)), "all voxels"),
        (make_voxels() * 40.0, "expected -1024"),
        (np.where(np.indices((20, 20, 20)).sum(axis=0) % 7 == 0, -1000.0, 1500.0), "soft tissue"),
        (np.pad(np.full((10, 10, 10), -1000.0), 4, constant_values=40.0), "sides"),
    ],
)
def test_implausible_hounsfield_units_are_warned_about(voxels, word):
    assert any(word in text for text in ct_warnings(voxels, what="x"))


def test_every_public_name_can_be_imported():
    for name in inputs.__all__:
        assert getattr(inputs, name) is not None
    with pytest.raises(AttributeError):
        _ = inputs.nothing


@pytest.mark.parametrize(
    ("change", "found", "hint"),
    [
        (lambda hu: np.maximum(hu / 1000 + 1, 0) * 0.023, "values from 0 to 0.0", "1000 (mu / mu_water - 1)"),
        (lambda hu: np.maximum(hu / 1000 + 1, 0) * 0.23, "values from 0 to 0.", "1000 (mu / mu_water - 1)"),
        (lambda hu: np.maximum(hu + 1024, 0), "values from 0 to 1", "take away what was added"),
    ],
)
def test_a_volume_that_is_not_in_hounsfield_units_is_refused(tmp_path, change, found, hint):
    path = make_nifti(tmp_path / "mu.nii.gz", change(make_voxels().astype(np.float32)), make_affine())
    with pytest.raises(UnsupportedImageError, match=re.escape(f"{path}: {found}")) as caught:
        load_volume(ImageFile(path))
    assert hint in caught.value.hint
    assert caught.value.reason == "units"


def a_breast(air=-1000.0, noise=100.0, share=0.25, tissue=(-100.0, 40.0), seed=3):
    """A block of fat with gland in it, in air: of 48 x 48 x 48 voxels this share."""
    voxels = np.full((48, 48, 48), air)
    width = round(48 * share ** (1 / 3))
    voxels[:width, :width, :width] = tissue[0]
    voxels[width // 4 : width // 2, :width, width // 3 : width] = tissue[1]
    return (voxels + np.random.default_rng(seed).normal(0, noise, voxels.shape)).astype(np.float32)


def _with(voxels, value, share, seed=5):
    """Some of the voxels replaced."""
    return np.where(np.random.default_rng(seed).random(voxels.shape) < share, np.float32(value), voxels)


@pytest.mark.parametrize("added", [1000, 1024])
@pytest.mark.parametrize(
    "voxels",
    [
        a_breast(noise=10),
        a_breast(noise=30, share=0.6),
        a_breast(noise=100),
        a_breast(noise=100, share=0.08),
        a_breast(noise=150),
        _with(a_breast(noise=30), 3000, 0.02),  # metal
        _with(a_breast(noise=30), -3024, 0.3),  # padding that nothing was added to comes below
    ],
)
def test_noise_in_air_does_not_make_a_raised_volume_hounsfield_units(voxels, added):
    raised = np.where(voxels > -2000, voxels + added, voxels)
    assert ((raised > -1024) & (raised < 0)).any()
    with pytest.raises(UnsupportedImageError, match=r"x: 0\.\d\d% .* from 700 to 1300, expected Hounsfield") as caught:
        refuse_other_units(raised, what="x")
    assert caught.value.reason == "units"
    assert "take away what was added" in caught.value.hint


@pytest.mark.parametrize(
    "voxels",
    [
        a_breast(),
        a_breast(noise=200, share=0.9),
        a_breast(air=-100, noise=10),  # cropped inside the breast: no air at all
        a_breast(air=-100, noise=100),
        a_breast(air=40, noise=100, tissue=(150, 400)),  # gland and an implant
        _with(a_breast(air=-100, noise=60), 1000, 0.03),  # more calcification than there can be
        _with(a_breast(air=-100, noise=60), 8000, 0.1),  # metal
        _with(_with(a_breast(air=-100, noise=60), 450, 0.15), 900, 0.06),  # ribs
        a_breast(air=-850, noise=50, tissue=(30, 900)),  # lungs and bone
        _with(a_breast(air=-100, noise=60), -2000, 0.5),
        _with(a_breast(), -3024, 0.4),
        np.maximum(a_breast(noise=60), -1024),
        np.full((8, 8, 8), -1024.0),
    ],
)
def test_no_volume_in_hounsfield_units_is_taken_for_a_raised_one(voxels):
    refuse_other_units(voxels, what="x")


def grey_levels(padding, shift=0, **facts):
    """Changes slices to grey levels from 0 on: air 0 to 59, tissue 1000, padding at the rim."""

    def change(index, dataset):
        rows, columns = np.indices((dataset.Rows, dataset.Columns))
        radius = np.hypot(rows - dataset.Rows / 2, columns - dataset.Columns / 2)
        stored = np.where(radius < 5, 1000, 1 + (rows * 7 + columns * 3 + index) % 59) + shift
        dataset.PixelData = np.where(radius > 9, padding, stored).astype("<i2").tobytes()
        dataset.RescaleIntercept, dataset.RescaleSlope = "0", "1"
        if facts.get("is_declared", True):
            dataset.PixelPaddingValue = padding
            dataset["PixelPaddingValue"].VR = "SS"

    return change


@pytest.mark.parametrize("padding", [0, -2000, -1024])
@pytest.mark.parametrize("is_declared", [True, False])
def test_padding_does_not_make_grey_levels_hounsfield_units(tmp_path, padding, is_declared):
    make_series(tmp_path, change=grey_levels(padding, is_declared=is_declared))
    with pytest.raises(UnsupportedImageError, match=r"values from [01] to 1000( beside padding)?, expected") as caught:
        load_volume(choose_series(discover_sources(tmp_path)))
    assert caught.value.reason == "units"


@pytest.mark.parametrize("regularize", [False, True])
def test_resampling_does_not_hide_grey_levels_with_padding(tmp_path, regularize):
    make_series(tmp_path, defect="tilt", change=grey_levels(-2000))
    source = choose_series(discover_sources(tmp_path))
    with pytest.raises(InputError) as caught:
        load_volume(source, regularize=regularize)
    assert caught.value.reason == ("units" if regularize else "tilt")


@pytest.mark.parametrize("padding", [-2000, -1024])
def test_a_padded_volume_in_hounsfield_units_is_read(tmp_path, padding):
    make_series(tmp_path, change=grey_levels(padding, shift=-1000))
    volume = load_volume(choose_series(discover_sources(tmp_path)))
    assert float(volume.min()) == -1024
    assert float(volume.max()) == 0
