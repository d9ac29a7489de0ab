"""2-D images from files: what is read, what is refused, and where a spacing comes from. No torch needed."""

import csv
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from lightunet_monai.errors import InputError, NoImageFoundError, UnreadableFileError, UnsupportedImageError
from lightunet_monai.inputs import image2d_pixels
from lightunet_monai.inputs.image2d_read import read_image2d
from tests.builders.pictures import make_dicom2d, make_picture, make_pixels, make_region

GREY = make_pixels()


def _colour(grey):
    return np.stack([grey, grey, grey], axis=-1)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.tif", "a.tiff"])
def test_grey_pixels_come_as_they_are(tmp_path, name):
    plane = read_image2d(make_picture(tmp_path / name, GREY))
    assert plane.pixels.dtype == np.float32
    np.testing.assert_array_equal(plane.pixels, GREY)
    assert plane.spacing is None


def test_a_jpeg_is_close_to_the_pixels_it_was_made_from(tmp_path):
    plane = read_image2d(make_picture(tmp_path / "a.jpg", GREY, quality=95))
    assert np.abs(plane.pixels - GREY).mean() < 3


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_keep_every_level(tmp_path, name):
    deep = GREY.astype(np.uint16) * 257
    np.testing.assert_array_equal(read_image2d(make_picture(tmp_path / name, deep)).pixels, deep)


def test_grey_in_colour_is_that_grey_and_colour_becomes_luminance(tmp_path):
    plane = read_image2d(make_picture(tmp_path / "a.png", _colour(GREY)))
    np.testing.assert_allclose(plane.pixels, GREY, atol=1e-3)
    red = np.zeros((20, 20, 3), np.uint8)
    red[:10, :, 0] = 200
    assert read_image2d(make_picture(tmp_path / "red.png", red)).pixels[0, 0] == pytest.approx(0.299 * 200, abs=1e-3)


def test_palettes_one_bit_and_opaque_alpha_are_read(tmp_path):
    Image.fromarray(GREY).convert("P").save(tmp_path / "p.png")
    np.testing.assert_allclose(read_image2d(tmp_path / "p.png").pixels, GREY, atol=1e-3)
    Image.fromarray(GREY > 100).save(tmp_path / "one.png")
    np.testing.assert_array_equal(read_image2d(tmp_path / "one.png").pixels > 0, GREY > 100)
    Image.fromarray(_colour(GREY)).convert("RGBA").save(tmp_path / "rgba.png")
    np.testing.assert_allclose(read_image2d(tmp_path / "rgba.png").pixels, GREY, atol=1e-3)


def test_transparent_pixels_are_refused(tmp_path):
    image = Image.fromarray(_colour(GREY)).convert("RGBA")
    image.putpixel((3, 3), (0, 0, 0, 0))
    image.save(tmp_path / "a.png")
    with pytest.raises(UnsupportedImageError, match="transparent"):
        read_image2d(tmp_path / "a.png")
    Image.fromarray(GREY).save(tmp_path / "keyed.png", transparency=0)
    with pytest.raises(UnsupportedImageError, match="transparent"):
        read_image2d(tmp_path / "keyed.png")


def test_exif_orientation_is_applied_and_said(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    path = make_picture(tmp_path / "a.png", GREY, exif=exif)
    plane = read_image2d(path)
    np.testing.assert_array_equal(plane.pixels, np.rot90(GREY, -1))
    assert any("orientation 6" in text for text in plane.warnings)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_plain_tiff_that_is_turned_comes_as_viewers_show_it(tmp_path, orientation, bits):
    grey = np.arange(96 * 64).reshape(96, 64).astype(f"uint{bits}")
    image = Image.fromarray(grey)
    image.save(tmp_path / "a.tif", tiffinfo={0x0112: orientation})
    expected = {5: grey.T, 6: np.rot90(grey, -1), 7: np.rot90(grey, 2).T, 8: np.rot90(grey)}[orientation]
    np.testing.assert_array_equal(read_image2d(tmp_path / "a.tif").pixels, expected)


def test_white_is_zero_is_turned_for_every_depth_or_refused(tmp_path):
    ramp = np.linspace(0, 1, 96 * 64).reshape(96, 64)
    for name, values, largest in (
        ("8.tif", (ramp * 255).astype(np.uint8), 255),
        ("16.tif", (ramp * 65535).astype(np.uint16), 65535),
    ):
        path = _white_is_zero(tmp_path / name, values)
        np.testing.assert_array_equal(read_image2d(path).pixels, largest - values.astype(np.float32))
    with pytest.raises(UnsupportedImageError, match="0 is white"):
        read_image2d(_white_is_zero(tmp_path / "32.tif", ramp.astype(np.float32)))


def _white_is_zero(path, values):
    Image.fromarray(values).save(path)
    content = bytearray(path.read_bytes())
    with Image.open(path) as image:
        assert image.tag_v2[262] == 1
    at = content.index(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01")  # tag 262, one short, value 1
    content[at + 8] = 0
    path.write_bytes(bytes(content))
    return path


def test_a_tiff_of_another_kind_of_pixel_is_not_called_damaged(tmp_path):
    Image.fromarray(np.zeros((96, 64), dtype=np.uint8)).save(tmp_path / "a.tif")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[content.index(b"\x02\x01\x03\x00") + 8] = 7  # bits of a sample
    (tmp_path / "a.tif").write_bytes(bytes(content))
    with pytest.raises(UnsupportedImageError, match="kind of pixel"):
        read_image2d(tmp_path / "a.tif")


def test_several_pages_or_frames_are_refused_with_their_number(tmp_path):
    pages = [Image.fromarray(GREY), Image.fromarray(GREY)]
    for name in ("a.tif", "a.png"):
        pages[0].save(tmp_path / name, save_all=True, append_images=[Image.fromarray(255 - GREY)])
        with pytest.raises(UnsupportedImageError, match="2 pages"):
            read_image2d(tmp_path / name)


def _compressed(path, count, *, syntax, has_table, fragments):
    """A DICOM image of `count` compressed frames whose header does not say how many."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, RLELossless

    dataset = pydicom.dcmread(make_dicom2d(path, GREY))
    if syntax == RLELossless:
        dataset.compress(RLELossless)
        frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    else:
        stream = io.BytesIO()
        options = {"no_jp2": True} if syntax.endswith("90") else {}
        Image.fromarray(GREY).save(stream, "JPEG2000" if options else "JPEG", **options)
        frame = stream.getvalue()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.PixelData = encapsulate([frame] * count, fragments_per_frame=fragments, has_bot=has_table)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("has_table", [True, False])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"])
def test_compressed_frames_that_the_header_does_not_count_are_refused(tmp_path, syntax, has_table):
    several = _compressed(tmp_path / "a.dcm", 3, syntax=syntax, has_table=has_table, fragments=1)
    with pytest.raises(UnsupportedImageError, match=r"a\.dcm: 3 frames, expected 1") as caught:
        read_image2d(several)
    assert caught.value.reason == "frames"
    pieces = 1 if syntax.endswith("2.5") else 3
    one = _compressed(tmp_path / "b.dcm", 1, syntax=syntax, has_table=has_table, fragments=pieces)
    assert read_image2d(one).pixels.shape == GREY.shape


def _png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("side", [8193, 60_000, 2_000_000])
def test_a_decompression_bomb_is_refused_by_its_size_before_decoding(tmp_path, side):
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + _png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)))
    with pytest.raises(UnsupportedImageError) as caught:
        read_image2d(tmp_path / "a.png")
    assert caught.value.reason == "too-large"


def test_an_image_too_small_for_the_network_is_refused(tmp_path):
    with pytest.raises(UnsupportedImageError, match="15 x 40"):
        read_image2d(make_picture(tmp_path / "a.png", np.arange(600, dtype=np.uint8).reshape(40, 15)))


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = make_picture(tmp_path / "a.png", GREY)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UnreadableFileError):
        read_image2d(path)
    (tmp_path / "text.png").write_text("no image at all")
    with pytest.raises(UnreadableFileError, match="damaged"):
        read_image2d(tmp_path / "text.png")
    (tmp_path / "a.gif").write_text("x" * 200)
    with pytest.raises(UnsupportedImageError, match="neither PNG"):
        read_image2d(tmp_path / "a.gif")
    with pytest.raises(NoImageFoundError):
        read_image2d(tmp_path / "none.png")


def test_a_ct_study_gets_the_hint_to_leave_the_model_out(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "a.nii.gz").write_bytes(b"0")
    for path in (tmp_path / "study", tmp_path / "a.nii.gz", make_dicom2d(tmp_path / "ct.dcm", modality="CT")):
        with pytest.raises(UnsupportedImageError) as caught:
            read_image2d(path)
        assert "leave out --model" in caught.value.hint


def test_only_a_measured_density_of_a_png_is_a_spacing(tmp_path):
    measured = read_image2d(make_picture(tmp_path / "a.png", GREY, dpi=(127.0, 254.0)))
    assert measured.spacing == pytest.approx((0.2, 0.1), rel=1e-3)
    assert any("pHYs" in text for text in measured.warnings)
    assert read_image2d(make_picture(tmp_path / "metre.png", GREY, dpi=(0.0254, 0.0254))).spacing is None
    for name, dpi in (("screen.png", 96), ("print.png", 300), ("a.jpg", 127), ("a.tif", 127)):
        assert read_image2d(make_picture(tmp_path / name, GREY, dpi=(dpi, dpi))).spacing is None


def test_dicom_grey_colour_and_inverted_grey(tmp_path):
    np.testing.assert_array_equal(read_image2d(make_dicom2d(tmp_path / "a")).pixels, GREY)
    colour = read_image2d(make_dicom2d(tmp_path / "rgb.dcm", _colour(GREY)))
    np.testing.assert_allclose(colour.pixels, GREY, atol=1e-3)
    dark = read_image2d(make_dicom2d(tmp_path / "m1.dcm", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(dark.pixels, GREY.max() + GREY.min() - GREY.astype(np.float32))
    deep = GREY.astype(np.uint16) * 16
    np.testing.assert_array_equal(
        read_image2d(make_dicom2d(tmp_path / "12.dcm", deep, BitsStored=12, HighBit=11)).pixels, deep
    )


@pytest.mark.parametrize("encoding", ["file meta", "explicit", "implicit", "big endian"])
def test_dicom_without_preamble_is_read_as_with_it(tmp_path, encoding):
    path = make_dicom2d(tmp_path / "a.dcm", GREY)
    dataset = pydicom.dcmread(path)
    dataset.preamble = None
    if encoding == "file meta":
        pydicom.dcmwrite(path, dataset, enforce_file_format=False)
    else:
        bare = pydicom.Dataset(dataset)
        is_little = encoding != "big endian"
        pydicom.dcmwrite(path, bare, implicit_vr=encoding == "implicit", little_endian=is_little)
    assert b"DICM" not in path.read_bytes()[:200]
    np.testing.assert_array_equal(read_image2d(path).pixels, GREY)
    (tmp_path / "b.dcm").write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"b\.dcm: (damaged DICOM|a DICOM object without)"):
        read_image2d(tmp_path / "b.dcm")


def test_dicom_ybr_becomes_the_brightness_of_its_colours(tmp_path):
    ybr = _colour(GREY)
    ybr[..., 1:] = 128  # no colour
    plane = read_image2d(make_dicom2d(tmp_path / "a.dcm", ybr, PhotometricInterpretation="YBR_FULL"))
    np.testing.assert_allclose(plane.pixels, GREY, atol=1.5)


def test_the_window_of_a_header_counts_only_when_asked(tmp_path):
    path = make_dicom2d(tmp_path / "a.dcm", WindowCenter=100, WindowWidth=20)
    np.testing.assert_array_equal(read_image2d(path).pixels, GREY)
    windowed = read_image2d(path, apply_voi=True).pixels
    assert len(np.unique(windowed)) < len(np.unique(GREY))


@pytest.mark.parametrize(
    ("values", "spacing"),
    [
        ({}, None),
        ({"PixelSpacing": [0.2, 0.1]}, (0.1, 0.2)),
        ({"ImagerPixelSpacing": [0.07, 0.07], "modality": "MG"}, (0.07, 0.07)),
        (
            {"ImagerPixelSpacing": [0.1, 0.1], "EstimatedRadiographicMagnificationFactor": 1.25, "modality": "MG"},
            (0.08, 0.08),
        ),
        ({"SequenceOfUltrasoundRegions": [make_region(0.01, 0.012)]}, (0.1, 0.12)),
        ({"SequenceOfUltrasoundRegions": [make_region(0.01, 0.01), make_region(0.02, 0.02)]}, None),
        ({"SequenceOfUltrasoundRegions": [make_region(0.01, 0.01, units=4)]}, None),  # seconds: M-mode
    ],
)
def test_dicom_spacing_comes_from_the_header_or_stays_unknown(tmp_path, values, spacing):
    found = read_image2d(make_dicom2d(tmp_path / "a.dcm", **values)).spacing
    assert found == (None if spacing is None else pytest.approx(spacing))


def test_dicom_refusals(tmp_path):
    two = np.stack([GREY, GREY])
    cases = {
        "2 frames": make_dicom2d(tmp_path / "frames.dcm", NumberOfFrames=2, PixelData=two.tobytes()),
        "without pixels": make_dicom2d(tmp_path / "none.dcm", PixelData=None),
        "modality MR": make_dicom2d(tmp_path / "mr.dcm", modality="MR"),
        "cannot be decoded": make_dicom2d(tmp_path / "short.dcm", PixelData=GREY.tobytes()[:100]),
        "at most": make_dicom2d(tmp_path / "large.dcm", Rows=60000, Columns=60000),
        "photometric": make_dicom2d(tmp_path / "odd.dcm", PhotometricInterpretation="CMYK"),
    }
    for text, path in cases.items():
        with pytest.raises(InputError, match=text):
            read_image2d(path)


@pytest.mark.filterwarnings("ignore")  # pydicom warns of each value
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"0.111\\0.111", b"0,111\\0,111"),
        (b"0.111\\0.111", b"0.111      "),
        (b"IS\x02\x001 ", b"IS\x02\x00x "),
        (b"\x28\0\x10\0US\2\0", b"\x28\0\x10\0U \2\0"),
        (b"\x28\0\x10\0US\2\0", b"\x28\0\x10\0FL\2\0"),
    ],
    ids=["decimal comma", "one number", "no number of frames", "no type", "another type"],
)
def test_a_dicom_header_value_that_cannot_be_read_is_refused(tmp_path, old, new):
    path = make_dicom2d(tmp_path / "a.dcm", PixelSpacing=["0.111", "0.111"], NumberOfFrames="1")
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    with pytest.raises(UnreadableFileError, match=r"a\.dcm: damaged DICOM file"):
        read_image2d(path)


@pytest.mark.filterwarnings("ignore")  # pydicom warns of each value
def test_dicom_header_bytes_changed_anywhere_never_raise_anything_else(tmp_path):
    region = [make_region(0.01, 0.012)]
    data = make_dicom2d(tmp_path / "a.dcm", PixelSpacing=[0.2, 0.1], SequenceOfUltrasoundRegions=region).read_bytes()
    path, rng = tmp_path / "x.dcm", np.random.default_rng(0)
    for at in range(132, len(data) - GREY.size):
        path.write_bytes(data[:at] + bytes([rng.choice([0, 0x20, 0x2C, 0x78, 0xFF])]) + data[at + 1 :])
        try:
            assert read_image2d(path).pixels.ndim == 2
        except InputError:
            continue


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [{"Columns": 45}, {"Columns": 32}, {"Rows": 35}])
def test_more_dicom_pixels_than_rows_and_columns_are_refused(tmp_path, size):
    path = make_dicom2d(tmp_path / "a.dcm", **size)  # 70 rows and 90 columns were stored
    with pytest.raises(UnreadableFileError, match=r"a\.dcm.*shape \(2, ") as caught:
        read_image2d(path)
    assert str((size.get("Rows", 70), size.get("Columns", 90))) in str(caught.value)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"PixelSpacing": [1e-9, 1e-9]}, "1e-09 x 1e-09 mm"),
        ({"PixelSpacing": [1e300, 1e300]}, "1e+300 x 1e+300 mm"),
        ({"SequenceOfUltrasoundRegions": [make_region(float("inf"), 0.01)]}, "inf x 0.1 mm"),
        ({"SequenceOfUltrasoundRegions": [make_region(float("nan"), 0.01)]}, "nan x 0.1 mm"),
        ({"SequenceOfUltrasoundRegions": [make_region(1000.0, 0.01)]}, "10000 x 0.1 mm"),
    ],
)
def test_a_dicom_spacing_that_no_picture_has_is_not_taken_and_said(tmp_path, values, text):
    plane = read_image2d(make_dicom2d(tmp_path / "a.dcm", **values))
    assert plane.spacing is None
    assert any(f"{text} is no picture's" in warning for warning in plane.warnings), plane.warnings


def test_another_high_bit_is_refused(tmp_path):
    path = make_dicom2d(tmp_path / "a.dcm", GREY.astype(np.uint16) << 4, BitsStored=12, HighBit=15)
    with pytest.raises(UnsupportedImageError, match=r"a\.dcm: high bit 15 of 12 bits, expected 11"):
        read_image2d(path)


def test_a_colour_jpeg_under_a_grey_header_is_refused(tmp_path):
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    for name, image in (("grey.dcm", GREY), ("colour.dcm", _colour(GREY))):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=95)
        dataset = pydicom.dcmread(make_dicom2d(tmp_path / name, GREY))
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = encapsulate([stream.getvalue()])
        dataset.save_as(tmp_path / name, enforce_file_format=True)
    assert np.abs(read_image2d(tmp_path / "grey.dcm").pixels - GREY).mean() < 3
    with pytest.raises(UnreadableFileError, match=r"colour\.dcm: its compressed pixels have 3 components"):
        read_image2d(tmp_path / "colour.dcm")


def test_names_that_are_too_long_and_pipes_are_refused(tmp_path):
    with pytest.raises(NoImageFoundError, match="cannot be opened"):
        read_image2d(tmp_path / f"{'a' * 300}.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnsupportedImageError, match=r"pipe\.png: no regular file"):
        read_image2d(tmp_path / "pipe.png")


def test_another_modality_than_ultrasound_is_said(tmp_path):
    assert any("modality MG" in text for text in read_image2d(make_dicom2d(tmp_path / "a.dcm", modality="MG")).warnings)
    assert read_image2d(make_dicom2d(tmp_path / "b.dcm")).warnings == ()


def test_the_ct_model_sends_a_picture_to_the_other_one(tmp_path):
    error = image2d_pixels.why_not_ct(make_picture(tmp_path / "a.png"))
    assert "--model ultrasound" in error.hint
    assert image2d_pixels.why_not_ct(tmp_path / "missing.png") is None


ULTRASOUND = Path(__file__).resolve().parents[4] / "shared" / "data" / "ultrasound"


@pytest.mark.skipif(
    not (ULTRASOUND / "index.csv").is_file(),
    reason="the ultrasound images (research use, not part of the repository) are not in ../shared/data/ultrasound",
)
def test_real_ultrasound_images_have_the_size_of_their_index_and_no_spacing():
    with open(ULTRASOUND / "index.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows[::40]:
        image = read_image2d(ULTRASOUND / "images" / f"{row['id']}.png")
        mask = read_image2d(ULTRASOUND / "masks" / f"{row['id']}.png")
        assert image.pixels.shape == mask.pixels.shape == (int(row["height"]), int(row["width"]))
        assert image.spacing is None
        assert (mask.pixels > 0).any() == (row["class"] != "normal")
