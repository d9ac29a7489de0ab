"""NIfTI, NRRD and MetaImage: right, or refused with the reason."""

import contextlib
import gzip
import os
import sys
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from lightunet_monai.errors import GeometryError, InputError, UnreadableFileError, UnsupportedImageError
from lightunet_monai.inputs import choose_series, discover_sources, plan_regularization, read_hu
from lightunet_monai.inputs.describe import describe_source
from lightunet_monai.inputs.image_files import read_image_header
from lightunet_monai.sources import ImageFile
from tests.builders.volume import make_affine, make_nifti, make_volume, make_voxels

SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"]


def load(path, **options):
    return read_hu(choose_series(discover_sources(path)), **options)


def refusal(path, **options):
    with pytest.raises(InputError) as caught:
        load(path, **options)
    assert str(path) in caught.value.message
    return type(caught.value), caught.value.reason


def save(path, voxels, affine, *, qform=1, sform=1, change=None):
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine if qform else None, qform)
    image.set_sform(affine if sform else None, sform)
    image.header.set_xyzt_units("mm")
    if change:
        change(image)
    nib.save(image, path)
    return path


def patch(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_voxels_and_affine_exactly(tmp_path, suffix):
    affine = make_affine(axes=(1, 2, 0), signs=(-1, 1, 1), turn_degrees=15)
    volume = load(make_volume(tmp_path / f"v{suffix}", affine=affine))
    np.testing.assert_array_equal(volume.voxels, make_voxels())
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    assert volume.voxels.dtype == np.float32
    assert volume.warnings == ()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_in_capitals_are_read_alike(tmp_path, suffix):
    make_volume(tmp_path / f"v{suffix}")
    (tmp_path / f"v{suffix}").rename(tmp_path / f"SCAN{suffix.upper()}")
    np.testing.assert_array_equal(load(tmp_path / f"SCAN{suffix.upper()}").voxels, make_voxels())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_source_is_named_like_its_file(tmp_path, suffix):
    (source,) = discover_sources(make_volume(tmp_path / f"case_7{suffix}"))
    assert source.name == "case_7"


def test_the_scale_of_stored_values_is_applied(tmp_path):
    def scale(image):
        image.header.set_slope_inter(0.5, -3.0)

    path = tmp_path / "v.nii"
    voxels = make_voxels()
    image = nib.Nifti1Image(voxels, make_affine())
    image.header.set_slope_inter(0.5, -3.0)
    nib.save(image, path)
    stored = np.asarray(nib.load(path).dataobj.get_unscaled())
    np.testing.assert_allclose(load(path).voxels, stored * 0.5 - 3.0)


def test_units_of_metres_and_micrometres_become_millimetres(tmp_path):
    for unit, factor in (("meter", 1e-3), ("micron", 1e3)):
        affine = make_affine()
        affine[:3] *= factor
        volume = load(make_nifti(tmp_path / f"{unit}.nii", affine=affine, unit=unit))
        np.testing.assert_allclose(volume.affine, make_affine(), rtol=1e-5)


def test_unknown_units_are_millimetres_with_a_warning(tmp_path):
    volume = load(make_nifti(tmp_path / "v.nii", unit="unknown"))
    np.testing.assert_allclose(volume.affine, make_affine(), rtol=1e-5)
    assert "taken as mm" in volume.warnings[0]


def test_metres_that_are_really_millimetres_are_refused(tmp_path):
    assert refusal(make_nifti(tmp_path / "v.nii", unit="meter")) == (GeometryError, "implausible-spacing")


def test_one_of_the_two_forms_is_enough(tmp_path):
    for qform, sform in ((1, 0), (0, 1), (1, 4)):
        path = save(tmp_path / f"{qform}{sform}.nii", make_voxels(), make_affine(), qform=qform, sform=sform)
        np.testing.assert_allclose(load(path).affine, make_affine(), atol=1e-5)


def test_forms_that_disagree_are_refused_with_the_distance(tmp_path):
    def move(image):
        image.set_sform(make_affine(origin=(12.0, -20.0, 30.0)), 1)

    path = save(tmp_path / "v.nii", make_voxels(), make_affine(), change=move)
    with pytest.raises(GeometryError, match=r"2\.00 mm apart"):
        load(path)


def test_a_file_without_any_form_is_refused(tmp_path):
    path = save(tmp_path / "v.nii", make_voxels(), np.eye(4), qform=0, sform=0)
    assert refusal(path) == (GeometryError, "no-geometry")


def test_pixdim_that_contradicts_the_affine_is_refused(tmp_path):
    path = save(tmp_path / "v.nii", make_voxels(), make_affine(), qform=0)
    data = bytearray(path.read_bytes())
    data[80:84] = np.float32(3.0).tobytes()
    path.write_bytes(bytes(data))
    assert refusal(path) == (GeometryError, "spacing-disagrees")


@pytest.mark.parametrize("spacing", [(0.0005, 0.9, 1.5), (0.8, 500.0, 1.5)])
def test_implausible_spacing_is_refused(tmp_path, spacing):
    path = make_nifti(tmp_path / "v.nii", affine=make_affine(spacing))
    assert refusal(path) == (GeometryError, "implausible-spacing")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("allow_shear", [False, True])
def test_a_volume_larger_than_any_patient_is_refused(tmp_path, suffix, allow_shear):
    path = make_volume(tmp_path / f"v{suffix}", make_voxels((130, 12, 10)), make_affine((20.0, 0.9, 1.5)))
    with pytest.raises(GeometryError, match=r"2600 x 11 x 15 mm.* at most 2500 mm along each axis") as caught:
        read_image_header(path, allow_shear=allow_shear)
    assert caught.value.message.startswith(f"{path}: ")
    assert caught.value.reason == "implausible-spacing"
    assert describe_source(ImageFile(path))["problem"]["message"] == caught.value.message  # so `inspect` tells it
    assert refusal(path) == (GeometryError, "implausible-spacing")


def test_one_frame_in_four_dimensions_is_a_volume(tmp_path):
    path = save(tmp_path / "v.nii", make_voxels()[..., None], make_affine())
    np.testing.assert_array_equal(load(path).voxels, make_voxels())


def test_several_frames_are_refused(tmp_path):
    path = save(tmp_path / "v.nii", np.stack([make_voxels()] * 3, -1), make_affine())
    assert refusal(path) == (UnsupportedImageError, "several-volumes")


def test_a_two_dimensional_image_is_refused(tmp_path):
    path = save(tmp_path / "v.nii", make_voxels()[:, :, 0], make_affine())
    assert refusal(path) == (UnsupportedImageError, "not-3d")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_refused_with_their_count(tmp_path, value):
    voxels = make_voxels().astype(np.float32)
    voxels[3, 4, 5] = value
    path = make_nifti(tmp_path / "v.nii", voxels=voxels)
    with pytest.raises(UnsupportedImageError, match="1 of 5760 voxels"):
        load(path)


def test_colour_voxels_are_refused(tmp_path):
    colour = np.zeros((8, 8, 8), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    path = save(tmp_path / "v.nii", colour, make_affine())
    assert refusal(path) == (UnsupportedImageError, "voxel-type")


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = make_volume(tmp_path / f"v{suffix}")
    path.write_bytes(path.read_bytes()[:-2000])
    assert refusal(path)[0] is UnreadableFileError


def test_a_truncated_compressed_file_is_refused(tmp_path):
    path = make_volume(tmp_path / "v.nii.gz")
    path.write_bytes(path.read_bytes()[:-2000])
    assert refusal(path)[0] is UnreadableFileError


PACKED = [
    ("v.nii.gz", "v.nii.gz"),
    ("v.nrrd", "v.nrrd"),
    ("v.nhdr", "v.raw.gz"),
    ("v.mha", "v.mha"),
    ("v.mhd", "v.zraw"),
]
"""A file, and the one that its packed voxels are in."""


def make_packed(path):
    make_volume(path)
    if ".nii" not in path.name:
        SimpleITK.WriteImage(SimpleITK.ReadImage(path), path, True)
    return path


@pytest.mark.parametrize(("name", "data_name"), PACKED)
def test_one_bit_changed_in_packed_voxels_never_changes_a_voxel(tmp_path, name, data_name):
    path, data = make_packed(tmp_path / name), tmp_path / data_name
    np.testing.assert_array_equal(load(path).voxels, make_voxels())
    good = data.read_bytes()
    for at in np.linspace(len(good) // 5, len(good) - 3, 12).astype(int):
        data.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with contextlib.suppress(UnreadableFileError):  # some bits are not used
            np.testing.assert_array_equal(load(path).voxels, make_voxels())


@pytest.mark.parametrize(("name", "data_name"), PACKED)
def test_packed_voxels_without_the_end_of_their_stream_are_refused(tmp_path, name, data_name):
    path, data = make_packed(tmp_path / name), tmp_path / data_name
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(UnreadableFileError, match="damaged or truncated"):
        load(path)


def test_what_follows_packed_voxels_is_not_unpacked_without_limit(tmp_path):
    path = make_volume(tmp_path / "v.nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(2**21)))
    assert refusal(path)[0] is UnreadableFileError


@pytest.mark.parametrize("kind", ["two members", "a line to skip"])
def test_gzip_streams_that_nrrd_allows_are_read(tmp_path, kind):
    path = make_volume(tmp_path / "v.nrrd")
    head, raw = path.read_bytes().split(b"\n\n", 1)
    head = head.replace(b"encoding: raw", b"encoding: gzip" + (b"\nline skip: 1" if kind == "a line to skip" else b""))
    packed = gzip.compress(raw[:500]) + gzip.compress(raw[500:]) if kind == "two members" else gzip.compress(raw)
    path.write_bytes(head + b"\n\n" + (b"skipped\n" if kind == "a line to skip" else b"") + packed)
    np.testing.assert_array_equal(load(path).voxels, make_voxels())


@pytest.mark.parametrize("count", [None, b"0", b"700"], ids=["no size", "size 0", "too small a size"])
def test_a_packed_meta_image_that_does_not_say_how_long_its_stream_is_is_refused(tmp_path, count):
    path = make_packed(tmp_path / "v.mha")
    line = next(line for line in path.read_bytes().split(b"\n") if line.startswith(b"CompressedDataSize"))
    patch(path, line + b"\n", b"" if count is None else b"CompressedDataSize = " + count + b"\n")
    assert refusal(path)[0] is UnreadableFileError


@pytest.mark.parametrize("change", [-100, 100], ids=["fewer", "more"])
def test_a_packed_meta_image_of_another_size_is_refused(tmp_path, change):
    path = make_volume(tmp_path / "v.mha")
    head, raw = path.read_bytes().split(b"LOCAL\n", 1)
    packed = zlib.compress((raw + bytes(100))[: len(raw) + change])
    size = b"CompressedDataSize = %d\nElementDataFile" % len(packed)
    head = head.replace(b"Data = False", b"Data = True").replace(b"ElementDataFile", size)
    path.write_bytes(head + b"LOCAL\n" + packed)
    assert refusal(path)[0] is UnreadableFileError


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"just some text\n" * 40, b"\x00" * 400])
def test_a_file_that_is_something_else_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"v{suffix}"
    path.write_bytes(content)
    assert refusal(path)[0] is UnreadableFileError


@pytest.mark.filterwarnings("ignore")  # NumPy warns of what is no number
def test_header_bytes_of_nifti_changed_anywhere_never_raise_anything_else(tmp_path):
    data = make_nifti(tmp_path / "good.nii", make_voxels((6, 5, 4))).read_bytes()
    path, rng = tmp_path / "x.nii", np.random.default_rng(0)
    words = [np.array([value], "<f4").tobytes() for value in (np.nan, np.inf, -np.inf, 3.4e38)]
    for at in range(40, 348):
        for new in (bytes([rng.integers(0, 256)]), words[rng.integers(0, len(words))]):
            path.write_bytes(data[:at] + new + data[at + len(new) :])
            with contextlib.suppress(InputError):
                assert np.isfinite(load(path).affine).all()


@pytest.mark.parametrize(
    ("at", "value"),
    [(40, b"\x7f"), (70, b"\x01\0"), (110, b"\0"), (108, b"\0\0\x80\x7f"), (116, b"\0\0\xc0\x7f")],
    ids=["dimensions", "voxel type", "voxels within the header", "voxels infinitely far", "intercept"],
)
def test_a_nifti_header_that_nibabel_refuses_is_refused(tmp_path, at, value):
    path = make_nifti(tmp_path / "v.nii")
    data = path.read_bytes()
    data = data[:112] + np.array([1.0, 0.0], "<f4").tobytes() + data[120:]  # a slope, so that the intercept counts
    path.write_bytes(data[:at] + value + data[at + len(value) :])
    assert refusal(path)[0] is UnreadableFileError


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_nifti_whose_voxels_begin_within_its_header_is_refused(tmp_path, suffix):
    data = bytearray(make_nifti(tmp_path / "v.nii").read_bytes())
    data[108:112] = bytes(4)
    path = tmp_path / f"w{suffix}"
    path.write_bytes(gzip.compress(bytes(data)) if suffix == ".nii.gz" else bytes(data))
    assert refusal(path)[0] is UnreadableFileError
    with pytest.raises(UnreadableFileError, match="byte 0, expected 352"):
        load(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file names of other systems are text")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_whose_name_is_no_text_is_read_or_refused_with_what_to_do(tmp_path, suffix):
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    folder.mkdir()
    make_volume(tmp_path / f"v{suffix}")
    for path in tmp_path.glob("v.*"):
        path.rename(folder / path.name)
    if "nii" in suffix:
        np.testing.assert_array_equal(load(folder).voxels, make_voxels())
    else:
        with pytest.raises(UnreadableFileError, match="not UTF-8") as caught:
            load(folder)
        assert caught.value.hint == "Rename it."


def test_a_header_that_announces_far_more_than_the_file_can_hold_is_refused_at_once(tmp_path):
    path = make_nifti(tmp_path / "v.nii")
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([1200, 1200, 1200], "<i2").tobytes()
    packed = tmp_path / "bomb.nii.gz"
    packed.write_bytes(gzip.compress(bytes(data)))
    path.write_bytes(bytes(data))
    assert refusal(path) == (UnreadableFileError, "truncated")
    assert refusal(packed) == (UnreadableFileError, "truncated")


def test_a_header_of_too_many_voxels_is_refused(tmp_path):
    path = make_nifti(tmp_path / "v.nii")
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    path.write_bytes(bytes(data))
    assert refusal(path) == (UnsupportedImageError, "too-large")


@pytest.mark.parametrize("field", [b"space directions", b"space origin", b"space:"])
def test_a_nrrd_without_its_geometry_is_refused(tmp_path, field):
    path = patch(make_volume(tmp_path / "v.nrrd"), field, b"#" + field[1:])
    assert refusal(path) == (GeometryError, "no-geometry")


def test_a_nrrd_in_another_unit_is_refused(tmp_path):
    path = patch(make_volume(tmp_path / "v.nrrd"), b"space:", b'space units: "m" "m" "m"\nspace:')
    assert refusal(path) == (GeometryError, "unit")


def test_the_space_of_a_nrrd_is_honoured(tmp_path):
    path = make_volume(tmp_path / "v.nrrd")
    lps = load(path).affine
    patch(path, b"left-posterior-superior", b"right-anterior-superior")
    np.testing.assert_allclose(load(path).affine, np.diag([-1, -1, 1, 1]) @ lps)


@pytest.mark.parametrize("field", [b"TransformMatrix", b"Offset", b"ElementSpacing"])
def test_a_meta_image_without_its_geometry_is_refused(tmp_path, field):
    path = patch(make_volume(tmp_path / "v.mha"), field, b"X" + field[1:])
    assert refusal(path) == (GeometryError, "no-geometry")


def test_a_meta_image_with_negative_spacing_is_refused(tmp_path):
    path = patch(make_volume(tmp_path / "v.mha"), b"ElementSpacing = 0", b"ElementSpacing = -0")
    assert refusal(path) == (GeometryError, "implausible-spacing")


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        (b"DistanceUnits = um", (GeometryError, "unit")),
        (b"DistanceUnits = cm", (GeometryError, "unit")),
        (b"ElementToIntensityFunctionSlope = 2", (UnsupportedImageError, "rescale")),
        (b"ElementToIntensityFunctionOffset = -1024", (UnsupportedImageError, "rescale")),
        (b"HeaderSize = 4", (UnreadableFileError, "unreadable")),
        (b"DistanceUnits = mm", None),
        (b"ElementToIntensityFunctionSlope = 1", None),
        (b"HeaderSize = -1", None),
    ],
)
def test_a_meta_image_is_read_as_its_header_says_or_refused(tmp_path, line, refused):
    path = patch(make_volume(tmp_path / "v.mha"), b"NDims", line + b"\nNDims")
    if refused:
        assert refusal(path) == refused
    else:
        np.testing.assert_array_equal(load(path).voxels, make_voxels())


def test_a_long_of_a_meta_image_has_4_bytes(tmp_path):
    path = make_volume(tmp_path / "v.mha", make_voxels().astype(np.int32))
    np.testing.assert_array_equal(load(patch(path, b"MET_INT", b"MET_LONG")).voxels, make_voxels())
    path = make_volume(tmp_path / "w.mha", make_voxels().astype(np.int64))
    assert refusal(patch(path, b"MET_LONG_LONG", b"MET_LONG")) == (UnsupportedImageError, "voxel-type")


@pytest.mark.parametrize(("suffix", "key"), [(".mhd", b"v.raw"), (".nhdr", b"v.raw")])
@pytest.mark.parametrize(
    "target",
    [b"../v.raw", b"/etc/passwd", b"..\\v.raw", b"./../v.raw", b".//../v.raw", b"./a/v.raw", b"./", b".\\v.raw"],
)
def test_voxels_outside_the_folder_are_refused(tmp_path, suffix, key, target):
    path = make_volume(tmp_path / f"v{suffix}")
    data = path.read_bytes()
    name = next(part for part in data.split() if part.startswith(b"v."))
    path.write_bytes(data.replace(name, target))
    assert refusal(path) == (UnreadableFileError, "data-file-outside")


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
@pytest.mark.parametrize("prefix", [b"./", b"././"])
def test_voxels_in_the_folder_of_the_header_are_read_if_it_says_so_with_a_dot(tmp_path, suffix, prefix):
    path = make_volume(tmp_path / f"v{suffix}")
    expected = load(path).voxels
    data = path.read_bytes()
    name = next(part for part in data.split() if part.startswith(b"v."))
    path.write_bytes(data.replace(name, prefix + name))
    np.testing.assert_array_equal(load(path).voxels, expected)


def test_a_sheared_file_is_refused_and_resampled_when_asked(tmp_path):
    affine = make_affine()
    affine[1, 2] = 0.3
    path = save(tmp_path / "v.nii", make_voxels(), affine, qform=0)
    assert refusal(path) == (GeometryError, "tilt")
    regularization = plan_regularization(ImageFile(path))
    assert regularization.shear_degrees == pytest.approx(np.degrees(np.arctan2(0.3, 1.5)), abs=0.01)
    label_map = (make_voxels() > -500).astype(np.uint8)
    regular = regularization.to_regular(load(path, allow_shear=True).voxels)
    back = regularization.to_source_slices((regular > -500).astype(np.uint8))
    assert (back == label_map).mean() > 0.99


@pytest.mark.parametrize("allow_shear", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_shear_between_the_first_two_axes_is_refused_and_not_dropped(tmp_path, order, allow_shear):
    affine = make_affine()
    affine[1, 2] = 0.3
    if order == (0, 1, 2):
        affine[0, 1] = 0.2  # the planes themselves are sheared; else the slices lie along another axis than the last
    path = save(tmp_path / "v.nii", make_voxels().transpose(order), affine[:, [*order, 3]], qform=0)
    with pytest.raises(GeometryError, match="the first two axes") as caught:
        load(path, allow_shear=allow_shear)
    assert caught.value.reason == "affine"
    assert "slices along the last axis" in caught.value.hint
    assert "--regularize" not in caught.value.hint


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (0, 2, 1)])
def test_a_tilt_of_the_last_axis_is_straightened_in_place_whatever_the_order(tmp_path, order):
    voxels, affine = make_voxels(), make_affine()
    affine[1, 2] = 0.3
    path = save(tmp_path / "v.nii", voxels.transpose(order), affine[:, [*order, 3]], qform=0)
    regularization = plan_regularization(ImageFile(path))
    regular = regularization.to_regular(load(path, allow_shear=True).voxels)
    axes = regularization.affine[:3, :3] / np.linalg.norm(regularization.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    ours, theirs = (
        np.average(np.argwhere(np.ones(array.shape)), axis=0, weights=(array + 1024.0).ravel()) @ frame[:3, :3].T
        + frame[:3, 3]
        for array, frame in ((regular, regularization.affine), (voxels, affine))
    )
    np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_a_label_map_file_is_no_source(tmp_path):
    make_volume(tmp_path / "v.nrrd")
    make_volume(tmp_path / "v.seg.nrrd")
    assert [source.path.name for source in discover_sources(tmp_path)] == ["v.nrrd"]
