"""Compressed planes from hostile files: only the decoder's process may suffer."""

import os
import struct
import subprocess
import time

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames

from lightunet_monai.errors import UnreadableFileError, UnsupportedImageError
from lightunet_monai.inputs import choose_series, decoding, discover_sources, read_hu
from lightunet_monai.inputs.child_process import child_command, child_environment
from lightunet_monai.inputs.codestream import check_codestream
from lightunet_monai.inputs.decoding import CompressedPlane, decode_planes
from tests.builders.series import HTJ2K, make_series

JPEG_LS, JPEG_2000, RLE = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"
SYNTAX_UIDS = {"jpeg-ls": JPEG_LS, "jpeg-2000": JPEG_2000, "rle": RLE, **HTJ2K}
SHAPE = (40, 36, 3)


def frame_of(path):
    return next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))


def options(syntax, rows=36, columns=40):
    facts = {"bits_allocated": 16, "bits_stored": 16, "is_signed": True}
    return {"syntax": syntax, "rows": rows, "columns": columns, **facts}


@pytest.mark.parametrize("name", SYNTAX_UIDS)
def test_a_header_that_lies_about_the_size_is_refused_before_decoding(tmp_path, name):
    truth = make_series(tmp_path, syntax=name, shape=SHAPE)
    for path in truth.files:
        dataset = pydicom.dcmread(path)
        dataset.Rows = dataset.Columns = 2700  # of 0.9 mm: as large as a volume may be
        dataset.save_as(path)
    start = time.perf_counter()
    with pytest.raises(UnreadableFileError, match=r"2700 x 2700|7290000"):
        read_hu(choose_series(discover_sources(tmp_path)))
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("name", SYNTAX_UIDS)
def test_flipped_bytes_in_a_codestream_give_an_error_or_a_plane_and_never_end_this_process(tmp_path, name):
    make_series(tmp_path, syntax=name, shape=SHAPE)
    frame, facts = frame_of(min(tmp_path.iterdir())), options(SYNTAX_UIDS[name])
    rng = np.random.default_rng(3)
    decoder, outcomes = decoding._Decoder(), set()
    for _ in range(25):
        damaged = bytearray(frame)
        for at in rng.integers(0, len(frame), 3):
            damaged[at] = rng.integers(0, 256)
        try:
            check_codestream(bytes(damaged), facts["syntax"], facts["rows"], facts["columns"], 16)
            assert decoder.decode(bytes(damaged), facts).shape == (facts["rows"], facts["columns"])
            outcomes.add("plane")
        except (UnreadableFileError, UnsupportedImageError):
            outcomes.add("refused")
        except decoding._DecoderEndedError:
            outcomes.add("crashed")
            decoder.end()
            decoder = decoding._Decoder()
    decoder.end()
    assert "refused" in outcomes or "plane" in outcomes


def test_a_decoder_that_crashes_is_reported_with_the_file(monkeypatch):
    monkeypatch.setattr(decoding, "check_codestream", lambda *_: None)
    # A request that the child cannot even parse ends it, as a crash in a C library would.
    plane = CompressedPlane("some/file.dcm", lambda: b"x", {**options(JPEG_LS), "rows": "boom"})
    with pytest.raises(UnreadableFileError, match=r"some/file\.dcm"):
        decode_planes([plane], lambda *_: None)


def test_a_decoder_that_is_killed_is_reported(monkeypatch):
    real = decoding._Decoder.decode

    def kill_first(self, frame, facts):
        self.kill()
        return real(self, frame, facts)

    monkeypatch.setattr(decoding._Decoder, "decode", kill_first)
    monkeypatch.setattr(decoding, "check_codestream", lambda *_: None)
    with pytest.raises(UnreadableFileError, match="crashed or ran out of memory"):
        decode_planes([CompressedPlane("a.dcm", lambda: b"x" * 100_000, options(JPEG_LS))], lambda *_: None)


def test_a_decoder_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(decoding, "FRAME_TIMEOUT_SECONDS", 0.01)
    monkeypatch.setattr(decoding, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(decoding, "check_codestream", lambda *_: None)
    with pytest.raises(UnreadableFileError, match="took too long"):
        decode_planes([CompressedPlane("slow.dcm", lambda: b"x" * 100, options(JPEG_LS))], lambda *_: None)


@pytest.mark.parametrize(
    "frame", [b"", b"\xff\xd8", b"\xff\xd8\xff\xf7\x00", b"\xff\x4f\xff\x51\x00\x29", b"garbage" * 30]
)
@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_2000, RLE])
def test_a_codestream_without_a_readable_header_is_refused(frame, syntax):
    with pytest.raises(UnreadableFileError, match="damaged"):
        check_codestream(frame, syntax, 20, 24, 16)


def test_a_codestream_of_another_size_is_refused_with_both_sizes():
    frame = b"\xff\xd8\xff\xf7\x00\x0b\x10" + struct.pack(">HHB", 30000, 40000, 1) + b"\0" * 20
    with pytest.raises(UnreadableFileError, match="40000 x 30000, the header says 24 x 20"):
        check_codestream(frame, JPEG_LS, 20, 24, 16)


@pytest.mark.parametrize(("element", "value"), [("Rows", 35), ("Columns", 39)])
def test_an_rle_plane_of_more_pixels_than_the_header_says_is_not_cut(tmp_path, element, value):
    truth = make_series(tmp_path, syntax="rle", shape=SHAPE)
    for path in truth.files:
        dataset = pydicom.dcmread(path)
        setattr(dataset, element, value)
        dataset.save_as(path)
    with pytest.raises(UnreadableFileError, match=r"a plane of more than 1.* pixels, the header says"):
        read_hu(choose_series(discover_sources(tmp_path)))


def test_an_rle_plane_of_an_odd_number_of_pixels_is_read(tmp_path):
    truth = make_series(tmp_path, syntax="rle", shape=(39, 35, 3))
    np.testing.assert_array_equal(read_hu(choose_series(discover_sources(tmp_path))).voxels, truth.voxels)


def test_a_compressed_multi_frame_instance_is_decoded_in_slice_order(tmp_path):
    from tests.builders.multi_frame import make_enhanced

    truth = make_enhanced(tmp_path / "e.dcm", syntax="rle")
    volume = read_hu(choose_series(discover_sources(tmp_path)))
    np.testing.assert_array_equal(volume.voxels, truth.voxels)
    np.testing.assert_allclose(volume.affine, truth.affine, atol=1e-6)


def test_python_files_in_the_folder_of_the_study_are_not_run_by_the_decoder(tmp_path, monkeypatch):
    truth = make_series(tmp_path / "study", syntax="rle")
    trace = tmp_path / "was-run"
    for name in ("numpy", "pydicom", "json", "runpy", "lightunet_monai"):
        (truth.folder / f"{name}.py").write_text(f"open({str(trace)!r}, 'w').close()\nraise SystemExit(9)\n")
    monkeypatch.chdir(truth.folder)
    for python_path in ("", os.pathsep, os.environ.get("PYTHONPATH", "") + os.pathsep):
        monkeypatch.setenv("PYTHONPATH", python_path)
        np.testing.assert_array_equal(read_hu(choose_series(discover_sources("."))).voxels, truth.voxels)
    assert not trace.exists()


def test_a_child_process_finds_what_a_relative_python_path_means_here(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "greeting.py").write_text("import sys; print('hello', *sys.argv[1:])")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "mine")
    command = child_command("greeting", "you")
    done = subprocess.run(command, cwd="/", env=child_environment(), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["hello", "you"]


def test_a_frame_in_several_fragments_is_put_together(tmp_path):
    truth = make_series(tmp_path, syntax="jpeg-ls", shape=(24, 20, 3))
    for path in truth.files:
        dataset = pydicom.dcmread(path)
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        dataset.PixelData = encapsulate([frame], fragments_per_frame=3)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_hu(choose_series(discover_sources(tmp_path))).voxels, truth.voxels)
