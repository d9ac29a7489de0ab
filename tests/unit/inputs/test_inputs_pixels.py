"""Stored pixels to Hounsfield units."""

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lightunet_monai.errors import UnreadableFileError, UnsupportedImageError
from lightunet_monai.inputs import choose_series, discover_sources, read_hu
from lightunet_monai.inputs.pixels import check_storage, read_planes_hu
from lightunet_monai.sources import DicomSlice, StoredPixels
from tests.builders.multi_frame import make_enhanced
from tests.builders.series import INTERCEPT, SYNTAXES, make_series


def load(folder, **options):
    return read_hu(choose_series(discover_sources(folder)), **options)


def rewrite(truth, change):
    for path in truth.files:
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)


def plane_of(tmp_path, stored, dtype=np.float32, **facts):
    """One plane through the reader, from an array of stored values."""
    path = tmp_path / "plane.raw"
    path.write_bytes(stored.tobytes())
    known = dict(
        transfer_syntax="1.2.840.10008.1.2.1",
        rows=stored.shape[0],
        columns=stored.shape[1],
        bits_allocated=stored.dtype.itemsize * 8,
        bits_stored=stored.dtype.itemsize * 8,
        high_bit=facts.get("bits_stored", stored.dtype.itemsize * 8) - 1,
        is_signed=stored.dtype.kind == "i",
        is_little_endian=stored.dtype.str[0] != ">",
        offset=0,
        length=stored.nbytes,
        slope=1.0,
        intercept=0.0,
    )
    item = DicomSlice(path, pixels=StoredPixels(**{**known, **facts}))
    out = np.full((1, *stored.shape), 77, dtype)
    check_storage([item])
    read_planes_hu([item], out)
    return out[0]


@pytest.mark.parametrize("syntax", [*SYNTAXES, "htj2k", "htj2k-rpcl"])
def test_compressed_series_are_decoded_exactly(tmp_path, syntax):
    truth = make_series(tmp_path, syntax=syntax, shape=(40, 36, 8))
    np.testing.assert_array_equal(load(tmp_path).voxels, truth.voxels)


def test_lossy_htj2k_is_decoded_as_its_own_library_decodes_it_and_is_told(tmp_path):
    truth = make_series(tmp_path, syntax="htj2k-lossy", shape=(40, 36, 8))
    volume = load(tmp_path)
    imagecodecs = pytest.importorskip("imagecodecs")
    for index, path in enumerate(truth.files):
        frame = next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))
        theirs = imagecodecs.htj2k_decode(frame).T.astype(int) + INTERCEPT
        assert np.abs(theirs - truth.voxels[:, :, index]).max() > 0  # something was lost
        np.testing.assert_allclose(volume.voxels[:, :, index], theirs, atol=1)
    np.testing.assert_allclose(volume.voxels, truth.voxels, atol=3)
    assert "8 of 8 slices were compressed with loss" in " ".join(volume.warnings)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_implicit_and_big_endian_series_are_read_exactly(tmp_path, syntax):
    truth = make_series(tmp_path)
    for path in truth.files:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
        is_little = syntax != ExplicitVRBigEndian
        pydicom.dcmwrite(path, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=is_little)
    np.testing.assert_array_equal(load(tmp_path).voxels, truth.voxels)


def test_the_two_forms_hold_the_same_values(tmp_path):
    make_series(tmp_path)
    np.testing.assert_array_equal(load(tmp_path, dtype="int16").voxels, load(tmp_path, dtype="float32").voxels)


def test_voxels_are_a_view_of_slices_in_memory_order(tmp_path):
    make_series(tmp_path)
    assert load(tmp_path).voxels.T.flags["C_CONTIGUOUS"]


def test_a_fractional_rescale_gives_float32_and_refuses_int16(tmp_path):
    truth = make_series(tmp_path)
    rewrite(truth, lambda dataset: setattr(dataset, "RescaleSlope", "0.5"))
    volume = load(tmp_path)
    assert volume.voxels.dtype == np.float32
    np.testing.assert_allclose(volume.voxels, (truth.voxels + 1024.0) * 0.5 - 1024)
    with pytest.raises(UnsupportedImageError, match="int16"):
        load(tmp_path, dtype="int16")


@pytest.mark.parametrize(
    ("missing", "found", "warning"),
    [
        ("RescaleSlope", "a Rescale Intercept of -1024 and no Slope", "and no Slope; it was taken as 1 as asked"),
        ("RescaleIntercept", "a Rescale Slope of 1 and no Intercept", "and no Intercept; it was taken as 0 as asked"),
    ],
)
def test_half_a_rescale_is_named_and_kept_when_the_other_half_is_assumed(tmp_path, missing, found, warning):
    truth = make_series(tmp_path)
    rewrite(truth, lambda dataset: delattr(dataset, missing))
    with pytest.raises(UnsupportedImageError, match=found) as caught:
        load(tmp_path)
    assert "--assume-hu" in caught.value.hint
    volume = load(tmp_path, assume_hu=True)
    np.testing.assert_array_equal(volume.voxels, truth.voxels - (INTERCEPT if missing == "RescaleIntercept" else 0))
    assert warning in " ".join(volume.warnings)
    assert "stored values" not in " ".join(volume.warnings)


def test_values_beyond_int16_give_float32(tmp_path):
    stored = np.array([[0, 65535]], np.uint16)
    np.testing.assert_array_equal(plane_of(tmp_path, stored, intercept=-1024.0), [[-1024, 64511]])


def test_padding_becomes_air(tmp_path):
    stored = np.array([[-2000, -5, 0, 100]], np.int16)
    out = plane_of(tmp_path, stored, np.int16, padding=(-2000, -2000), intercept=-24.0)
    np.testing.assert_array_equal(out, [[-1024, -29, -24, 76]])


def test_a_range_of_padding_becomes_air(tmp_path):
    stored = np.array([[-2000, -1990, -5, 100]], np.int16)
    out = plane_of(tmp_path, stored, padding=(-2000, -1990))
    np.testing.assert_array_equal(out, [[-1024, -1024, -5, 100]])


def store(dataset, words, padding, vr, **facts):
    """Put words and a padding value into a data set; stored values are Hounsfield units."""
    dataset.PixelData = words.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.RescaleIntercept = "0"
    dataset.BitsAllocated = words.dtype.itemsize * 8
    dataset.PixelRepresentation = int(words.dtype.kind == "i")
    dataset.BitsStored = facts.get("bits", dataset.BitsAllocated)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.add_new(0x00280120, vr, padding)


@pytest.mark.parametrize("padding", [-32768, -3024, -2049, -2048, -2000])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_padding_of_12_signed_bits_is_found_in_whole_words_and_matches_nothing_else(tmp_path, padding, dtype):
    words = np.arange(-2040, -2040 + 24 * 20 * 8, 8, dtype="<i2")[:480]
    words[words == padding] += 1
    words[[3, 100, 479]] = padding
    make_series(tmp_path, change=lambda index, dataset: store(dataset, words.copy(), padding, "SS", bits=12))
    expected = words.copy()
    expected[[3, 100, 479]] = -1024
    np.testing.assert_array_equal(load(tmp_path, dtype=dtype).voxels[:, :, 0].T.ravel(), expected)


def test_padding_outside_12_unsigned_bits_is_found_in_whole_words(tmp_path):
    words = np.arange(480, dtype="<u2") + 1900  # 63536 & 0xFFF is 2096, one of them
    words[[0, 200]] = 63536
    make_series(tmp_path, change=lambda index, dataset: store(dataset, words.copy(), 63536, "US", bits=12))
    expected = words.astype(np.int32)
    expected[[0, 200]] = -1024
    np.testing.assert_array_equal(load(tmp_path).voxels[:, :, 0].T.ravel(), expected)


def test_padding_written_as_the_unsigned_bits_of_a_signed_value_is_found(tmp_path):
    words = np.arange(480, dtype="<i2") - 240
    words[[0, 200]] = -2000
    make_series(tmp_path, change=lambda index, dataset: store(dataset, words.copy(), 2096, "US", bits=12))
    expected = words.copy()
    expected[[0, 200]] = -1024
    np.testing.assert_array_equal(load(tmp_path).voxels[:, :, 0].T.ravel(), expected)


def test_padding_of_32_bits_keeps_its_sign(tmp_path):
    words = np.arange(480, dtype="<i4") - 240
    words[[0, 200]] = -2000
    make_series(tmp_path, change=lambda index, dataset: store(dataset, words.copy(), -2000, "SS"))
    expected = words.copy()
    expected[[0, 200]] = -1024
    np.testing.assert_array_equal(load(tmp_path).voxels[:, :, 0].T.ravel(), expected)


def test_a_range_of_padding_across_the_end_of_the_stored_bits_is_air_on_both_sides(tmp_path):
    stored = np.array([[-3000, -2049, -2048, -2000, -1999, 500]], np.int16)
    out = plane_of(tmp_path, stored, np.int16, bits_stored=12, padding=(-3000, -2000))
    np.testing.assert_array_equal(out, [[-1024, -1024, -1024, -1024, -1999, 500]])


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_monochrome1_does_not_change_values(tmp_path, dtype):
    truth = make_series(tmp_path)
    rewrite(truth, lambda dataset: setattr(dataset, "PhotometricInterpretation", "MONOCHROME1"))
    np.testing.assert_array_equal(load(tmp_path, dtype=np.dtype(dtype).name).voxels, truth.voxels)


@settings(max_examples=60, deadline=None)
@given(
    bits=st.integers(2, 16),
    shift=st.integers(0, 6),
    is_signed=st.booleans(),
    is_little=st.booleans(),
    seed=st.integers(0, 2**31),
    intercept=st.integers(-2000, 2000),
)
def test_dirty_bits_above_the_stored_ones_never_matter(
    tmp_path_factory, bits, shift, is_signed, is_little, seed, intercept
):
    shift = min(shift, 16 - bits)
    rng = np.random.default_rng(seed)
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if is_signed else (0, 1 << bits)
    values = rng.integers(low, high, (5, 7))
    dirt = rng.integers(0, 1 << 16, (5, 7))
    mask = ((1 << bits) - 1) << shift
    word = ((values << shift) & mask) | (dirt & ~((1 << (bits + shift)) - 1) & 0xFFFF)
    stored = word.astype("<u2" if is_little else ">u2").view(f"{'<' if is_little else '>'}{'i' if is_signed else 'u'}2")
    out = plane_of(
        tmp_path_factory.mktemp("bits"), stored, bits_stored=bits, high_bit=bits - 1 + shift, intercept=float(intercept)
    )
    np.testing.assert_array_equal(out, values + intercept)


@pytest.mark.parametrize("dtype", ["int16", "float32", None])
@pytest.mark.parametrize("syntax", ["raw", "rle"])
def test_a_high_bit_that_contradicts_the_pixels_is_refused_and_never_divides_them(tmp_path, dtype, syntax):
    def declare_left_aligned(index, dataset):
        dataset.BitsStored, dataset.HighBit = 12, 15
        if index < 6:  # nothing in these slices contradicts the header
            dataset.PixelData = bytes(len(dataset.PixelData))

    make_series(tmp_path, change=declare_left_aligned, syntax=syntax)
    with pytest.raises(
        UnreadableFileError, match="bits below the 12 stored ones, expected none with high bit 15"
    ) as caught:
        load(tmp_path, dtype=dtype)
    assert caught.value.reason == "high-bit"
    assert "should be 11" in caught.value.hint


@pytest.mark.parametrize("syntax", ["raw", "rle"])
def test_left_aligned_values_are_read_exactly(tmp_path, syntax):
    def align_left(index, dataset):
        dataset.BitsStored, dataset.HighBit = 12, 15
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<i2") << 4).astype("<i2").tobytes()

    truth = make_series(tmp_path, change=align_left, syntax=syntax)
    np.testing.assert_array_equal(load(tmp_path).voxels, truth.voxels)


def test_a_truncated_file_is_refused_before_any_pixel_is_read_and_named(tmp_path):
    truth = make_series(tmp_path)
    truth.files[2].write_bytes(truth.files[2].read_bytes()[:-100])
    (source,) = discover_sources(tmp_path)
    assert source.problem.reason == "truncated"
    with pytest.raises(UnreadableFileError, match=truth.files[2].name):
        read_hu(source)


@pytest.mark.parametrize(
    "values",
    [{"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, {"Rows": 10}, {"Columns": 12}],
    ids=["half the bits", "half the rows", "half the columns"],
)
def test_pixels_of_more_planes_than_the_header_says_are_refused(tmp_path, values):
    truth = make_series(tmp_path)
    rewrite(truth, lambda dataset: [setattr(dataset, name, value) for name, value in values.items()])
    with pytest.raises(UnreadableFileError, match="960 bytes of pixels, expected 480") as caught:
        load(tmp_path)
    assert caught.value.reason == "pixel-length"


def test_a_frame_that_the_header_does_not_count_is_not_dropped(tmp_path):
    truth = make_enhanced(tmp_path / "e.dcm")
    dataset = pydicom.dcmread(truth.files[0])
    dataset.PixelData += dataset.PixelData[:960]
    dataset.save_as(truth.files[0])
    with pytest.raises(UnreadableFileError, match="12480 bytes of pixels, expected 11520"):
        load(tmp_path)


def test_bytes_that_fill_up_pixel_data_do_not_matter(tmp_path):
    def fill_up(index, dataset):
        dataset.PixelData += b"0000"

    truth = make_series(tmp_path, change=fill_up)
    np.testing.assert_array_equal(load(tmp_path).voxels, truth.voxels)


def test_an_unknown_transfer_syntax_is_refused(tmp_path):
    truth = make_series(tmp_path, syntax="rle")
    rewrite(truth, lambda dataset: setattr(dataset.file_meta, "TransferSyntaxUID", "1.2.840.10008.1.2.4.100"))
    with pytest.raises(UnreadableFileError, match=r"1\.2\.840\.10008\.1\.2\.4\.100"):
        load(tmp_path)


def declare(path, old, new):
    """Put another transfer syntax UID into the file meta information, which stays else as it is."""
    data = path.read_bytes()
    old, new = (uid.encode() + b"\0" * (len(uid) % 2) for uid in (old, new))
    at = data.index(b"\x02\0\x10\0UI") + 8
    assert data[at : at + len(old)] == old
    path.write_bytes(data[: at - 2] + len(new).to_bytes(2, "little") + new + data[at + len(old) :])


PRIVATE = "1.2.840.99999.1.2.9"
GE_PRIVATE = "1.2.840.113619.5.2"


@pytest.mark.parametrize("is_implicit", [False, True])
def test_uncompressed_pixels_of_an_unknown_transfer_syntax_are_refused(tmp_path, is_implicit):
    truth = make_series(tmp_path)
    syntax = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
    for path in truth.files:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path, implicit_vr=is_implicit, little_endian=True)
        declare(path, syntax, PRIVATE)
    with pytest.raises(UnreadableFileError, match=PRIVATE) as caught:
        load(tmp_path)
    assert caught.value.reason == "transfer-syntax"


def test_a_file_that_declares_an_empty_transfer_syntax_is_read(tmp_path):
    truth = make_series(tmp_path)
    for path in truth.files:
        declare(path, ExplicitVRLittleEndian, "")
    np.testing.assert_array_equal(load(tmp_path).voxels, truth.voxels)


def test_big_endian_pixels_behind_the_implicit_header_of_ge_are_read_exactly(tmp_path):
    truth = make_series(tmp_path)
    for path in truth.files:
        dataset = pydicom.dcmread(path)
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(path, implicit_vr=True, little_endian=True)
        declare(path, ImplicitVRLittleEndian, GE_PRIVATE)
    np.testing.assert_array_equal(load(tmp_path).voxels, truth.voxels)
    sitk = pytest.importorskip("SimpleITK")
    witness = sitk.GetArrayFromImage(sitk.ReadImage(str(truth.files[0])))[0].T
    np.testing.assert_array_equal(witness, truth.voxels[:, :, 0])


def test_the_private_syntax_of_ge_with_an_explicit_header_is_refused(tmp_path):
    truth = make_series(tmp_path)
    for path in truth.files:
        declare(path, ExplicitVRLittleEndian, GE_PRIVATE)
    with pytest.raises(UnreadableFileError, match="explicit header"):
        load(tmp_path)


def test_lossy_compression_is_a_warning(tmp_path):
    truth = make_series(tmp_path)
    rewrite(truth, lambda dataset: setattr(dataset, "LossyImageCompression", "01"))
    assert "12 of 12 slices were compressed with loss" in " ".join(load(tmp_path).warnings)


def test_the_rescale_types_that_are_no_hounsfield_units_are_named(tmp_path):
    kinds = {9: "US", 10: "MGML", 11: "US"}
    make_series(tmp_path, change=lambda index, dataset: setattr(dataset, "RescaleType", kinds.get(index, "HU")))
    assert "3 of 12 slices have rescale type MGML or US, expected HU" in " ".join(load(tmp_path).warnings)
