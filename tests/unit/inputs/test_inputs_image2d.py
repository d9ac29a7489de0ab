"""2-D images from files: what is read, what is refused, and where a spacing comes from. No torch needed."""

import csv
import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from lightunet_monai.errors import InputError, NoImageFoundError, UnreadableFileError, UnsupportedImageError
from lightunet_monai.inputs import image2d_dicom, image2d_pixels
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
    Image.fromarray(GREY).save(tmp_path / "keyed.png", transparency=int(GREY[0, 0]))
    with pytest.raises(UnsupportedImageError, match="transparent"):
        read_image2d(tmp_path / "keyed.png")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_value_of_a_grey_png_counts_where_a_pixel_has_it(tmp_path, bits):
    values = np.zeros((32, 32), ">u2") + 1
    for key, is_refused in ((1, True), (0, False)):
        path = _grey_png(tmp_path / f"{key}.png", values, bits, extra=_png_chunk(b"tRNS", struct.pack(">H", key)))
        if is_refused:
            with pytest.raises(UnsupportedImageError, match="transparent"):
                read_image2d(path)
        else:
            assert read_image2d(path).pixels.min() > 0


def _grey_png(path, values, bits, *, extra=b"", lines=None, shorten=0):
    """A grey PNG from its values, (rows, columns), or from the bytes of its lines."""
    rows, columns = values.shape
    if lines is None:
        digits = ((values[..., None].astype(int) >> np.arange(bits - 1, -1, -1)) & 1).reshape(rows, -1)
        packed = np.packbits(digits.astype(np.uint8), axis=1)
        lines = b"".join(b"\0" + line.tobytes() for line in packed)
    header = struct.pack(">IIBBBBB", columns, rows, bits, 0, 0, 0, 0)
    pixels = zlib.compress(lines[: len(lines) - shorten])
    chunks = _png_chunk(b"IHDR", header) + extra + _png_chunk(b"IDAT", pixels) + _png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def test_a_png_with_fewer_pixels_than_its_size_is_refused(tmp_path):
    whole = _grey_png(tmp_path / "a.png", GREY, 8)
    np.testing.assert_array_equal(read_image2d(whole).pixels, GREY)
    with pytest.raises(UnreadableFileError, match=rf"{GREY.size + 70 - 40} bytes of pixels, expected {GREY.size + 70}"):
        read_image2d(_grey_png(tmp_path / "b.png", GREY, 8, shorten=40))


def test_a_png_that_inflates_to_far_more_than_its_pixels_costs_no_memory(tmp_path):
    path = _grey_png(tmp_path / "a.png", np.zeros((32, 32), int), 8, lines=bytes(2**26))
    tracemalloc.start()
    assert read_image2d(path).pixels.shape == (32, 32)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2**23


def test_a_png_whose_pixels_contradict_their_checksum_is_refused(tmp_path):
    path = make_picture(tmp_path / "a.png", GREY, compress_level=0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # pixels are stored as they are
    path.write_bytes(bytes(content))
    with pytest.raises(UnreadableFileError, match="compressed pixels are damaged"):
        read_image2d(path)


@pytest.mark.parametrize("size", [(70, 90), (16, 17), (33, 16)])
def test_an_interlaced_png_is_read_whole_and_refused_in_part(tmp_path, size):
    rows, columns = size
    grey = np.arange(rows * columns, dtype=np.uint8).reshape(size)
    lines = b"".join(
        b"\0" + line.tobytes()
        for left, top, across, down in (
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        )
        for line in grey[top::down, left::across]
    )
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 1)
    for name, stored in (("whole.png", lines), ("part.png", lines[:-1])):
        chunks = _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", zlib.compress(stored)) + _png_chunk(b"IEND", b"")
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    np.testing.assert_array_equal(read_image2d(tmp_path / "whole.png").pixels, grey)
    with pytest.raises(UnreadableFileError, match=f"{len(lines) - 1} bytes of pixels, expected {len(lines)}"):
        read_image2d(tmp_path / "part.png")


def test_colour_and_alpha_of_sixteen_bits_are_refused_not_cut(tmp_path):
    for name, colour, channels in (("rgb.png", 2, 3), ("grey_alpha.png", 4, 2), ("rgba.png", 6, 4)):
        header = struct.pack(">IIBBBBB", 20, 20, 16, colour, 0, 0, 0)
        lines = (b"\0" + b"\x0f\xff" * 20 * channels) * 20
        chunks = _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", zlib.compress(lines)) + _png_chunk(b"IEND", b"")
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    _tiff(tmp_path / "rgb.tif", np.full((20, 20, 3), 4095, np.uint16), photometric=2)
    for path in tmp_path.iterdir():
        with pytest.raises(UnsupportedImageError, match=r"16 bits a channel, expected 8") as caught:
            read_image2d(path)
        assert caught.value.reason == "depth"


def _tiff(path, values, *, photometric=1, sample_format=1, order="<"):
    """A TIFF file of one uncompressed strip, its directory at the end."""
    values = values.astype(values.dtype.newbyteorder(order))
    rows, columns, *more = values.shape
    channels, bits = (more or [1])[0], values.dtype.itemsize * 8
    pixels = values.tobytes()
    per_channel = struct.pack(f"{order}{channels}H", *[bits] * channels)
    entries = [
        (256, 3, 1, columns),
        (257, 3, 1, rows),
        (258, 3, channels, 8 + len(pixels) if channels > 1 else bits),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8 + len(pixels) + len(per_channel)),
        (277, 3, 1, channels),
        (278, 3, 1, rows),
        (279, 4, 1, len(pixels)),
        (339, 3, 1, sample_format),
    ]
    # The bits of each channel, then the pixels, then the directory.
    start = 8 + len(per_channel)
    entries = [(t, k, n, 8 if t == 258 and n > 1 else start if t == 273 else v) for t, k, n, v in entries]
    directory = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        is_short = kind == 3 and count == 1
        directory += struct.pack(order + "HHI", tag, kind, count)
        directory += struct.pack(order + "HH", value, 0) if is_short else struct.pack(order + "I", value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start + len(pixels))
    path.write_bytes(head + per_channel + pixels + directory + bytes(4))
    return path


@pytest.mark.parametrize(
    ("kind", "sample_format", "order"),
    [
        *((kind, 2, order) for kind in ("i1", "i2", "i4") for order in "<>"),
        *((kind, 1, order) for kind in ("u1", "u2") for order in "<>"),
        ("u4", 1, "<"),
        *(("f4", 3, order) for order in "<>"),
    ],
)
def test_every_number_of_a_tiff_is_read_as_what_it_is(tmp_path, kind, sample_format, order):
    span = np.iinfo(kind) if sample_format != 3 else np.finfo(np.float16)
    values = np.linspace(float(span.min), float(span.max), 32 * 32).reshape(32, 32).astype(kind)
    path = _tiff(tmp_path / "a.tif", values, sample_format=sample_format, order=order)
    np.testing.assert_array_equal(read_image2d(path).pixels, values.astype(np.float32))


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
    with pytest.raises(UnsupportedImageError, match=rf"{side} x {side} pixels, expected at most 67108864") as caught:
        read_image2d(tmp_path / "a.png")
    assert caught.value.reason == "too-large"


def test_a_bomb_of_another_format_is_refused_with_the_limit(tmp_path):
    path = make_picture(tmp_path / "a.jpg", GREY)
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    path.write_bytes(bytes(content))
    with pytest.raises(UnsupportedImageError, match=r"more than \d+ pixels, expected at most 67108864"):
        read_image2d(path)


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


@pytest.mark.parametrize("keep", [200, 300, 6310])
def test_a_tiff_cut_before_the_end_of_its_directory_is_damaged_not_unknown(tmp_path, keep):
    path = _tiff(tmp_path / "a.tif", GREY)
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(UnreadableFileError, match=rf"{keep} bytes, expected at least .*the end of the file is missing"):
        read_image2d(path)


@pytest.mark.parametrize(("name", "kind"), [("noext", "PNG"), ("png.dcm", "PNG"), ("a.jfif", "JPEG"), ("x.1", "TIFF")])
def test_pictures_are_known_by_their_content(tmp_path, name, kind):
    Image.fromarray(GREY).save(tmp_path / name, kind)
    assert read_image2d(tmp_path / name).pixels.shape == GREY.shape


@pytest.mark.parametrize("name", ["a.png", "a.dcm", "a"])
def test_an_empty_file_is_called_empty(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UnreadableFileError, match="the file is empty"):
        read_image2d(tmp_path / name)


def test_a_folder_gets_the_hint_to_give_one_image(tmp_path):
    with pytest.raises(UnsupportedImageError) as caught:
        read_image2d(tmp_path)
    assert "Give one image of it" in caught.value.hint


def test_a_ct_study_gets_the_hint_to_leave_the_model_out(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "a.nii.gz").write_bytes(b"0")
    for path in (tmp_path / "study", tmp_path / "a.nii.gz", make_dicom2d(tmp_path / "ct.dcm", modality="CT")):
        with pytest.raises(UnsupportedImageError) as caught:
            read_image2d(path)
        assert "leave out --model" in caught.value.hint


def test_only_a_measured_density_of_a_png_is_a_spacing(tmp_path):
    measured = read_image2d(make_picture(tmp_path / "a.png", GREY, dpi=(25.4 / 0.21, 25.4 / 0.11)))
    assert measured.spacing == pytest.approx((0.21, 0.11), rel=1e-3)
    assert any("pHYs" in text for text in measured.warnings)
    assert read_image2d(make_picture(tmp_path / "metre.png", GREY, dpi=(0.0254, 0.0254))).spacing is None
    for name in ("a.jpg", "a.tif"):
        assert read_image2d(make_picture(tmp_path / name, GREY, dpi=(121, 121))).spacing is None


@pytest.mark.parametrize("cut", [round, int])
@pytest.mark.parametrize("dpi", [72, 96, 160, 168, 216, 250, 254, 300, 350, 360, 500, 2400, 4800])
def test_a_whole_number_of_pixels_per_inch_is_no_spacing(tmp_path, dpi, cut):
    for name, (across, down) in {"both": (dpi, dpi), "across": (dpi, 121.3), "down": (121.3, dpi)}.items():
        density = tuple(cut(value / 0.0254) for value in (across, down))  # per metre, as PNG has it
        path = _grey_png(tmp_path / f"{name}.png", GREY, 8, extra=_png_chunk(b"pHYs", struct.pack(">IIB", *density, 1)))
        plane = read_image2d(path)
        assert plane.spacing is None, name
        assert any("screens and printers" in text for text in plane.warnings)


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
    with pytest.raises(InputError, match=r"b\.dcm: (damaged DICOM|a DICOM object without|ends within the)"):
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
        (  # equal and not calibrated: both are at the detector
            {
                "PixelSpacing": [0.1, 0.1],
                "ImagerPixelSpacing": [0.1, 0.1],
                "EstimatedRadiographicMagnificationFactor": 1.25,
                "modality": "MG",
            },
            (0.08, 0.08),
        ),
        (
            {
                "PixelSpacing": [0.1, 0.1],
                "ImagerPixelSpacing": [0.1, 0.1],
                "PixelSpacingCalibrationType": "FIDUCIAL",
                "EstimatedRadiographicMagnificationFactor": 1.25,
            },
            (0.1, 0.1),
        ),
        ({"SequenceOfUltrasoundRegions": [make_region(0.01, 0.012)]}, (0.1, 0.12)),
        ({"SequenceOfUltrasoundRegions": [make_region(0.01, 0.01), make_region(0.02, 0.02)]}, None),
        ({"SequenceOfUltrasoundRegions": [make_region(0.01, 0.01, units=4)]}, None),  # seconds: M-mode
    ],
)
def test_dicom_spacing_comes_from_the_header_or_stays_unknown(tmp_path, values, spacing):
    found = read_image2d(make_dicom2d(tmp_path / "a.dcm", **values)).spacing
    assert found == (None if spacing is None else pytest.approx(spacing))


def test_how_a_pixel_spacing_was_calibrated_is_said(tmp_path):
    at_detector = {"PixelSpacing": [0.09, 0.09], "ImagerPixelSpacing": [0.1, 0.1]}
    path = make_dicom2d(tmp_path / "a.dcm", **at_detector, PixelSpacingCalibrationType="GEOMETRY")
    assert read_image2d(path).warnings == ("a.dcm: Pixel Spacing, calibrated by GEOMETRY.",)
    (note,) = read_image2d(make_dicom2d(tmp_path / "b.dcm", **at_detector)).warnings
    assert "calibrated in a way that the header does not say" in note
    assert read_image2d(make_dicom2d(tmp_path / "c.dcm", PixelSpacing=[0.09, 0.09])).warnings == ()


def _region_at(*box, spacing=0.01):
    region = make_region(spacing, spacing)
    region.RegionLocationMinX0, region.RegionLocationMinY0 = box[:2]
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = box[2:]
    return region


@pytest.mark.parametrize(
    ("boxes", "text"),
    [
        ([(0, 0, 89, 69)], None),
        ([(0, 0, 90, 70)], None),  # some writers count to the end
        ([(0, 0, 44, 69), (45, 0, 89, 69)], None),
        ([(0, 0, 44, 69)], "holds for 50 % of the image, its ultrasound regions (columns 0 to 44, rows 0 to 69)"),
        (
            [(0, 0, 44, 34), (45, 0, 89, 34)],
            "50 % of the image, its ultrasound regions (columns 0 to 44, rows 0 to 34; ",
        ),
        ([(200, 200, 300, 300)], "holds for 0 % of the image"),
    ],
)
def test_where_ultrasound_regions_leave_out_a_part_of_the_image_it_is_said(tmp_path, boxes, text):
    path = make_dicom2d(tmp_path / "a.dcm", SequenceOfUltrasoundRegions=[_region_at(*box) for box in boxes])
    plane = read_image2d(path)
    assert plane.spacing == pytest.approx((0.1, 0.1))
    if text is None:
        assert plane.warnings == ()
    else:
        (warning,) = plane.warnings
        assert text in warning


def _padded(dtype, value):
    pixels = GREY.astype(dtype) + 100
    pixels[:, :20] = value
    return pixels


@pytest.mark.parametrize("is_inverted", [False, True])
@pytest.mark.parametrize(
    ("pixels", "values"),
    [
        (_padded(np.uint16, 65535), {"PixelPaddingValue": 65535}),
        (_padded(np.uint16, 0), {"PixelPaddingValue": 0}),
        (_padded(np.uint16, 4000), {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 3000}),
        (_padded(np.int16, -2000), {"PixelPaddingValue": -2000, "PixelRepresentation": 1}),
        (
            _padded(np.int16, -2000),
            {"PixelPaddingValue": 4096 - 2000, "PixelRepresentation": 1, "BitsStored": 12, "HighBit": 11},
        ),
    ],
    ids=["above", "below", "range", "signed", "signed, of the stored bits"],
)
def test_padding_becomes_the_darkest_of_the_other_pixels(tmp_path, pixels, values, is_inverted):
    kind = "MONOCHROME1" if is_inverted else "MONOCHROME2"
    path = make_dicom2d(tmp_path / "a.dcm", pixels, PhotometricInterpretation=kind, **values)
    found, others = read_image2d(path).pixels, pixels[:, 20:].astype(np.float32)
    expected = others.max() + others.min() - others if is_inverted else others
    np.testing.assert_array_equal(found[:, 20:], expected)
    np.testing.assert_array_equal(found[:, :20], expected.min())


def test_dicom_refusals(tmp_path):
    two = np.stack([GREY, GREY])
    cases = {
        "2 frames": make_dicom2d(tmp_path / "frames.dcm", NumberOfFrames=2, PixelData=two.tobytes()),
        "-1 frames, expected 1": make_dicom2d(tmp_path / "negative.dcm", NumberOfFrames=-1),
        "without pixels": make_dicom2d(tmp_path / "none.dcm", PixelData=None),
        "modality MR": make_dicom2d(tmp_path / "mr.dcm", modality="MR"),
        f"truncated, 100 bytes of pixels, expected {GREY.size}": make_dicom2d(
            tmp_path / "short.dcm", PixelData=GREY.tobytes()[:100]
        ),
        "at most": make_dicom2d(tmp_path / "large.dcm", Rows=60000, Columns=60000),
        "photometric": make_dicom2d(tmp_path / "odd.dcm", PhotometricInterpretation="CMYK"),
    }
    for text, path in cases.items():
        with pytest.raises(InputError, match=text):
            read_image2d(path)


@pytest.mark.filterwarnings("ignore")  # pydicom warns of the end
def test_a_dicom_image_that_is_cut_within_its_header_is_called_cut(tmp_path):
    path = make_dicom2d(tmp_path / "a.dcm")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x28\0\x10\0US") + 5])
    with pytest.raises(UnreadableFileError, match=r"a\.dcm: ends within the header"):
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
    said = rf"expected \d+ for {size.get('Columns', 90)} x {size.get('Rows', 70)} pixels of 1 x 8 bits, MONOCHROME2"
    with pytest.raises(UnreadableFileError, match=rf"a\.dcm: 6300 bytes of pixels, {said}: the header contradicts"):
        read_image2d(path)


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
    found, said = "its compressed pixels are 90 x 70 of 3 x 8 bits", "the header says 90 x 70 of 1 x 8 bits"
    with pytest.raises(UnreadableFileError, match=rf"colour\.dcm: {found}, {said}"):
        read_image2d(tmp_path / "colour.dcm")


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("wrong", [{"Rows": 140}, {"Rows": 50}, {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}])
def test_compressed_pixels_of_another_size_than_the_header_says_are_refused_undecoded(
    tmp_path, monkeypatch, syntax, wrong
):
    # A decoder of JPEG-LS ends the whole process where the header says more rows.
    monkeypatch.setattr(image2d_dicom, "pixel_array", None)
    dataset = pydicom.dcmread(make_dicom2d(tmp_path / "a.dcm", GREY.astype(np.uint16) * 257))
    dataset.compress(syntax)
    for name, value in wrong.items():
        setattr(dataset, name, value)
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(UnreadableFileError, match=r"a\.dcm: its compressed pixels are 90 x 70 of 1 x 16 bits"):
        read_image2d(tmp_path / "a.dcm")


@pytest.mark.parametrize("image", [GREY, _colour(GREY)], ids=["grey", "colour"])
def test_run_lengths_of_more_rows_than_the_header_says_are_not_cut(tmp_path, image):
    dataset = pydicom.dcmread(make_dicom2d(tmp_path / "a.dcm", image))
    dataset.compress("1.2.840.10008.1.2.5")
    dataset.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_image2d(tmp_path / "a.dcm").pixels, GREY)
    dataset.Rows = 50
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(UnreadableFileError, match=r"a\.dcm: its compressed pixels are more than 4500, .* says 90 x 50"):
        read_image2d(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PixelRepresentation", None, "PixelRepresentation is missing in its header, expected 0 or 1"),
        ("PixelRepresentation", 5, "PixelRepresentation is 5 in its header, expected 0 or 1"),
        ("BitsAllocated", None, "BitsAllocated is missing in its header, expected 8 or 16 or 32"),
        ("BitsAllocated", 12, "BitsAllocated is 12 in its header, expected 8 or 16 or 32"),
        ("BitsStored", 16, "BitsStored is 16 in its header, expected 1 to 8"),
        ("SamplesPerPixel", 1, "SamplesPerPixel is 1 in its header, expected 3"),
        ("PlanarConfiguration", None, "PlanarConfiguration is missing in its header, expected 0 or 1"),
    ],
)
def test_a_header_that_leaves_open_how_pixels_are_stored_is_told_by_the_element(tmp_path, name, value, said):
    path = make_dicom2d(tmp_path / "a.dcm", _colour(GREY), **{"HighBit": None, name: value})
    with pytest.raises(UnreadableFileError, match=rf"a\.dcm: {said}") as caught:
        read_image2d(path)
    assert caught.value.hint == "Export it again."


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"PixelData": GREY.tobytes() * 4}, "25200 bytes of pixels, expected 18900"),
        ({"PhotometricInterpretation": "YBR_FULL_422"}, "18900 bytes of pixels, expected 12600"),
    ],
    ids=["four values a pixel", "nothing left out"],
)
def test_more_values_a_pixel_than_the_header_says_are_refused(tmp_path, values, found):
    with pytest.raises(UnreadableFileError, match=f"{found}.*: the header contradicts the pixels") as caught:
        read_image2d(make_dicom2d(tmp_path / "a.dcm", _colour(GREY), **values))
    assert caught.value.hint == "Export it again."


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
