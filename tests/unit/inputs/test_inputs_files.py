"""Which files are looked at, and hostile archives, links and headers."""

import contextlib
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from lightunet_monai.errors import InputError, NoImageFoundError, UnreadableFileError, UnsupportedImageError
from lightunet_monai.inputs import choose_series, discover_sources, read_hu, survey
from lightunet_monai.outputs import write_case
from lightunet_monai.outputs.formats import FORMATS
from lightunet_monai.sources import DicomSeries, DicomSlice, ImageFile
from tests.builders.segmentation import make_case
from tests.builders.series import make_series
from tests.builders.volume import make_nifti

MANY = 1500


def load(path):
    return read_hu(choose_series(discover_sources(path)))


def pack(folder, target, names=None):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, path in enumerate(sorted(folder.iterdir())):
            member = zipfile.ZipInfo("placeholder")
            member.filename = names(number, path) if names else f"a/b/{path.name}"
            member.orig_filename, member.compress_type = member.filename, zipfile.ZIP_DEFLATED
            archive.writestr(member, path.read_bytes())
    return target


@pytest.fixture
def truth(tmp_path):
    return make_series(tmp_path / "study" / "deep" / "er")


def test_folders_of_any_depth_are_searched(tmp_path, truth):
    np.testing.assert_array_equal(load(tmp_path).voxels, truth.voxels)


def test_one_file_of_a_series_is_a_source_of_one_slice(truth):
    (source,) = discover_sources(truth.files[0])
    assert len(source.slices) == 1
    assert source.problem.reason == "single-slice"


def test_a_zip_archive_is_read_without_unpacking(tmp_path, truth):
    archive = pack(truth.folder, tmp_path / "study.zip")
    before = {path.name for path in tmp_path.iterdir()}
    np.testing.assert_array_equal(load(archive).voxels, truth.voxels)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_the_directory_of_an_archive_is_read_once_and_not_for_each_member(tmp_path, truth, monkeypatch):
    archive = pack(truth.folder, tmp_path / "study.zip")
    opened, real = [], zipfile.ZipFile.__init__

    def count(self, file, *arguments, **options):
        opened.append(file)
        real(self, file, *arguments, **options)

    monkeypatch.setattr(zipfile.ZipFile, "__init__", count)
    found = survey(archive)
    assert len(found.sources[0].slices) == 12
    assert opened == [archive, archive]  # to list it, and to read the headers


def test_an_archive_that_is_gone_is_refused_and_named(tmp_path, truth):
    archive = pack(truth.folder, tmp_path / "study.zip")
    (found,) = discover_sources(archive)
    by_hand = DicomSeries(
        found.series_uid, "", tuple(DicomSlice(item.path, member=item.member) for item in found.slices)
    )
    np.testing.assert_array_equal(read_hu(by_hand).voxels, truth.voxels)
    archive.unlink()
    for source in (found, by_hand):
        with pytest.raises(UnreadableFileError, match=str(archive)):
            read_hu(source)


def test_a_dicomdir_is_a_hint_to_walk_its_folder(tmp_path, truth):
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"whatever it refers to, ../../etc/passwd")
    np.testing.assert_array_equal(load(tmp_path / "DICOMDIR").voxels, truth.voxels)


def test_a_dicomdir_without_its_files_is_called_by_its_name(tmp_path):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MediaStorageDirectoryStorage, "2.25.1"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    directory.FileSetID = "DISC"
    directory.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    with pytest.raises(UnsupportedImageError, match="found 1 x DICOMDIR, no tomographic slices") as caught:
        discover_sources(tmp_path)
    assert "folder with the CT slices" in caught.value.hint


def test_files_without_preamble_or_file_meta_are_read(truth):
    for path in truth.files:
        dataset = pydicom.dcmread(path)
        del dataset.file_meta
        dataset.preamble = None
        pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(load(truth.folder).voxels, truth.voxels)


def test_a_deflated_series_is_read(truth):
    for path in truth.files:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        dataset.save_as(path)
    np.testing.assert_array_equal(load(truth.folder).voxels, truth.voxels)


def test_progress_is_told(truth):
    calls = []
    discover_sources(truth.folder, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (12, 12)


def test_an_empty_folder_and_a_missing_path_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(NoImageFoundError, match=str(path)):
            discover_sources(path)


def test_a_missing_path_is_told_in_words(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(NoImageFoundError, match=r"nothing: cannot be opened: No such file or directory\."):
        discover_sources(tmp_path / "nothing")
    with pytest.raises(NoImageFoundError, match=r"loop: cannot be opened: (a|Too many levels of) symbolic link"):
        discover_sources(tmp_path / "loop")


def test_other_files_are_set_aside(tmp_path, truth):
    for name, content in (
        ("notes.txt", b"x"),
        ("Thumbs.db", b"\0" * 5000),
        (".DS_Store", b"\0\0\0\1Bud1" + b"\0" * 100),
        ("._IM1", b"\0\5\x16\7" + b"\0" * 60),
        ("README", b"about this study\n"),
        ("README 2", "Über diese Studie".encode("utf-16")),
        ("DONE", b""),
        ("projection1.raw", b"\0" * 20_000),
        ("fake.dcm", b"a" * 500),
    ):
        (truth.folder / name).write_bytes(content)
    found = survey(tmp_path)
    assert [source.warnings for source in found.sources] == [()]
    assert {item.code for item in found.set_aside} == {"not-dicom"}
    assert len(found.set_aside) == 9


def test_results_in_the_study_they_were_made_from_are_set_aside(tmp_path):
    case = make_case(tmp_path)  # its series lies in tmp_path/source
    for folder in (tmp_path / "out", case.folder):
        write_case(folder, case.segmentation, formats=[*FORMATS], volume=case.volume_hu)
    found = survey(tmp_path)
    (source,) = found.sources
    assert len(source.slices) == 20
    results = sorted(item.what for item in found.set_aside if item.code == "result")
    images = ("labelmap.nii.gz", "labelmap.nrrd", "probability.nii.gz")
    assert results == [str(folder / name) for folder in (tmp_path / "out", case.folder) for name in images]
    (named,) = discover_sources(tmp_path / "out" / "labelmap.nii.gz")  # who names it means it
    assert named == ImageFile(tmp_path / "out" / "labelmap.nii.gz")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"files": [{"name": "labelmap.nii.gz", "sha256": "0"}]}',
        '{"schema": 1, "statement": "", "status": "done", "files": ["labelmap.nii.gz"]}',
        '{"schema": 1, "statement": "", "status": "done", "files": [{"name": "other.nii.gz", "sha256": "0"}]}',
        '{"schema": ' + "[" * 100_000,
    ],
)
def test_a_report_that_is_not_ours_or_names_other_files_hides_no_volume(tmp_path, text):
    path = make_nifti(tmp_path / "labelmap.nii.gz")
    (tmp_path / "report.json").write_text(text)
    assert discover_sources(tmp_path) == [ImageFile(path)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_in_the_place_of_a_report_is_not_opened(tmp_path):
    path = make_nifti(tmp_path / "labelmap.nii.gz")
    os.mkfifo(tmp_path / "report.json")
    assert discover_sources(tmp_path) == [ImageFile(path)]


def test_hidden_image_files_are_no_volumes_unless_they_are_named(tmp_path):
    path = make_nifti(tmp_path / "ct.nii.gz")
    (tmp_path / "._ct.nii.gz").write_bytes(b"\0\5\x16\7" + b"\0" * 60)  # of macOS, on disks of others
    hidden = make_nifti(tmp_path / ".part-ct.nii.gz")
    (tmp_path / ".x.NRRD").write_bytes(b"NRRD0004")
    found = survey(tmp_path)
    assert found.sources == (ImageFile(path),)
    assert [(Path(item.what).name, item.code) for item in found.set_aside] == [
        ("._ct.nii.gz", "hidden"), (".part-ct.nii.gz", "hidden"), (".x.NRRD", "hidden"),
    ]  # fmt: skip
    assert discover_sources(hidden) == [ImageFile(hidden)]


DAMAGE = {
    "empty": lambda data: b"",
    "zeros": lambda data: b"\0" * len(data),
    "cut in the preamble": lambda data: data[:100],
    "cut behind the prefix": lambda data: data[:132],
    "cut behind the file meta": lambda data: data[: data.index(b"\x08\0\x08\0CS")],
    "cut in the first element": lambda data: data[: data.index(b"\x08\0\x08\0CS") + 6],
    "garbage behind the prefix": lambda data: data[:132] + b"\xab" * 300,
    "cut in the header": lambda data: data[:400],
}


@pytest.mark.parametrize("place", ["folder", "archive"])
@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files_at_the_end_of_a_series_are_a_warning(tmp_path, truth, name, place):
    for path in truth.files[-3:]:
        path.write_bytes(DAMAGE[name](path.read_bytes()))
    source = pack(truth.folder, tmp_path / "study.zip") if place == "archive" else truth.folder
    found, volume = survey(source), load(source)
    assert volume.voxels.shape == (24, 20, 9)
    assert "3 damaged DICOM files were left out" in " ".join(volume.warnings)
    assert all(any(path.name in error.message for error in found.errors) for path in truth.files[-3:])


def test_broken_links_among_the_slices_are_a_warning(tmp_path, truth):
    for path in truth.files[-3:]:
        path.unlink()
        path.symlink_to(tmp_path / "unmounted" / path.name)
    volume = load(truth.folder)
    assert volume.voxels.shape == (24, 20, 9)
    assert "3 damaged DICOM files were left out" in " ".join(volume.warnings)


@contextlib.contextmanager
def without_the_rights_of_root():
    if os.name == "nt" or os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that everybody may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.skipif(os.name == "nt", reason="folders of Windows have no such rights")
@pytest.mark.parametrize("rights", [0o000, 0o444])
def test_a_folder_that_cannot_be_opened_is_a_warning_and_named(open_folder, rights):
    truth = make_series(open_folder / "study")
    closed = truth.folder / "second half"
    closed.mkdir()
    for path in truth.files[-4:]:
        path.rename(closed / path.name)
    survey(open_folder)  # what is imported late is imported now
    closed.chmod(rights)
    try:
        with without_the_rights_of_root():
            found = survey(open_folder)
    finally:
        closed.chmod(0o755)
    (source,) = found.sources
    assert len(source.slices) == 8
    text = "1 folders could not be opened" if rights == 0 else "4 damaged DICOM files were left out"
    assert f"{text}; slices may be missing at the ends" in " ".join(source.warnings)
    assert all(str(closed) in error.message for error in found.errors)


@pytest.mark.skipif(os.name == "nt", reason="files of Windows have no such rights")
def test_a_file_without_the_right_to_read_it_is_named_with_what_to_do(open_folder):
    truth = make_series(open_folder / "study")
    survey(open_folder)  # what is imported late is imported now
    truth.files[-1].chmod(0)
    with without_the_rights_of_root():
        found = survey(open_folder)
    (error,) = found.errors
    assert error.message == f"{truth.files[-1]}: cannot be read: PermissionError."
    assert error.hint == "Give yourself the right to read it."


def test_links_out_of_the_tree_and_broken_links_are_not_followed(tmp_path, truth):
    outside = make_series(tmp_path / "outside", series=2)
    (truth.folder / "link").symlink_to(outside.files[0])
    (truth.folder / "broken").symlink_to(tmp_path / "missing")
    (truth.folder / "folder").symlink_to(outside.folder)
    (truth.folder / "loop").symlink_to(truth.folder)
    found = survey(tmp_path / "study")
    assert len(found.sources) == 1
    assert "link-outside" in {item.code for item in found.set_aside}


def test_slices_that_are_links_out_of_the_tree_are_said(tmp_path, truth):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in truth.files[-3:]:
        path.rename(moved / path.name)
        path.symlink_to(moved / path.name)
    (source,) = survey(tmp_path / "study").sources
    text = "3 symbolic links that leave the folder were left out; slices may be missing at the ends"
    assert text in " ".join(source.warnings)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_two_members_of_one_name_is_refused(tmp_path, truth):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        for path in truth.files[:2]:
            archive.write(path, "IM0001.dcm")
    found = survey(tmp_path / "twice.zip")
    assert found.sources == ()
    assert [error.reason for error in found.errors] == ["archive-names"]
    assert "1 archive members have the name of another one" in found.errors[0].message


def test_links_within_the_tree_do_not_double_a_slice(tmp_path, truth):
    (tmp_path / "study" / "again").symlink_to(truth.files[0])
    assert load(tmp_path / "study").warnings == ()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_is_not_opened(tmp_path, truth):
    os.mkfifo(truth.folder / "pipe")
    assert len(load(tmp_path).voxels) == 24


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:\\x", "..\\..\\x", "\\\\server\\x"])
def test_an_archive_member_that_leaves_the_archive_refuses_the_archive(tmp_path, truth, name):
    archive = pack(truth.folder, tmp_path / "evil.zip", lambda number, path: name if number == 3 else path.name)
    with pytest.raises(UnreadableFileError, match="leaves the archive") as caught:
        discover_sources(archive)
    assert caught.value.reason == "archive-member-outside"


def test_an_archive_with_a_symbolic_link_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        member = zipfile.ZipInfo("link")
        member.create_system, member.external_attr = 3, 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(UnreadableFileError, match="symbolic link"):
        discover_sources(tmp_path / "link.zip")


def set_in_directory(archive, offset, value):
    """Change a byte of each entry in the directory of an archive."""
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\1\2")
    while at >= 0:
        data[at + offset] = value
        at = data.find(b"PK\1\2", at + 4)
    archive.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("offset", "value", "found", "hint"), [(8, 1, "encrypted", "with its password"), (10, 14, "method 14", "Unpack it")]
)
def test_an_archive_that_is_to_be_unpacked_by_the_user_says_so(tmp_path, truth, offset, value, found, hint):
    archive = pack(truth.folder, tmp_path / "study.zip")
    set_in_directory(archive, offset, value)
    with pytest.raises(UnreadableFileError, match=found) as caught:
        discover_sources(archive)
    assert hint in caught.value.hint
    assert "hostile" not in caught.value.hint


def test_an_archive_of_archives_says_what_it_holds(tmp_path, truth):
    pack(truth.folder, tmp_path / "inner.zip")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(tmp_path / "inner.zip", "inner.zip")
        archive.writestr("volume.nii.gz", b"")
    with pytest.raises(
        UnsupportedImageError, match="found 2 x image file or archive within an archive, to be unpacked"
    ):
        discover_sources(tmp_path / "outer.zip")


def test_a_zip_bomb_is_refused_fast(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        zeros = b"\0" * (300 * 2**20)
        archive.writestr("a", zeros)
    start = time.perf_counter()
    with pytest.raises(UnreadableFileError, match="unpack to") as caught:
        discover_sources(tmp_path / "bomb.zip")
    assert caught.value.reason == "archive-bomb"
    assert time.perf_counter() - start < 1


def test_damage_at_the_ends_of_a_volume_in_an_archive_is_a_warning(tmp_path, truth):
    archive = pack(truth.folder, tmp_path / "study.zip")
    data = bytearray(archive.read_bytes())
    data[100:300] = random.Random(0).randbytes(200)
    archive.write_bytes(bytes(data))
    volume = load(archive)
    assert volume.voxels.shape[2] == 11
    assert "1 damaged DICOM files" in " ".join(volume.warnings)


def test_damaged_pixels_in_an_archive_are_refused(tmp_path):
    truth = make_series(tmp_path / "large", shape=(120, 100, 12))
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_STORED) as archive:
        for path in truth.files:
            archive.write(path, path.name)
    data = bytearray((tmp_path / "study.zip").read_bytes())
    at = data.index(truth.files[5].read_bytes()[-200:])
    data[at + 50] ^= 0xFF
    (tmp_path / "study.zip").write_bytes(bytes(data))
    with pytest.raises(UnreadableFileError, match=truth.files[5].name):
        load(tmp_path / "study.zip")


def test_an_archive_that_is_cut_off_is_refused(tmp_path, truth):
    archive = pack(truth.folder, tmp_path / "study.zip")
    archive.write_bytes(archive.read_bytes()[:-500])
    with pytest.raises(InputError):
        load(archive)


def test_a_good_study_beside_a_hostile_archive_is_still_found(tmp_path, truth):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../x", b"x")
    found = survey(tmp_path)
    (source,) = found.sources
    assert found.errors[0].reason == "archive-member-outside"
    text = f"1 zip archives were refused ({tmp_path / 'evil.zip'}); slices may be missing at the ends of the volume."
    assert source.warnings == (text,)
    assert found.refused_archives == {tmp_path / "evil.zip": found.errors[0]}


def test_of_many_refused_archives_three_are_named(tmp_path, truth):
    for number in range(5):
        (tmp_path / f"{number}.zip").write_bytes(b"PK\3\4 cut off")
    found = survey(tmp_path)
    (text,) = found.sources[0].warnings
    assert text.startswith("5 zip archives were refused (")
    assert [name in text for name in ("0.zip", "2.zip", "3.zip", "...")] == [True, True, False, True]
    assert len(found.refused_archives) == 5


def meta(syntax):
    element = (
        b"\x02\x00\x10\x00UI" + struct.pack("<H", len(syntax) + len(syntax) % 2) + syntax + b"\0" * (len(syntax) % 2)
    )
    return b"\0" * 128 + b"DICM" + element


CRAFTED = {
    "deflate bomb": meta(b"1.2.840.10008.1.2.1.99")
    + (
        lambda c: (
            c.compress(b"\x08\x00\x05\x00CS\x00\x00" + b"\x09\x00\x10\x10UN\0\0\0\0\0\x10" + b"\0" * 2**28) + c.flush()
        )
    )(zlib.compressobj(9, zlib.DEFLATED, -15)),
    "deep nesting": meta(b"1.2.840.10008.1.2.1")
    + (b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 20_000),
    "huge length": meta(b"1.2.840.10008.1.2.1") + b"\x08\x00\x05\x00UN\0\0\xf0\xff\xff\x7f" + b"x" * 100,
    "endless items": meta(b"1.2.840.10008.1.2.1")
    + b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff"
    + b"\xfe\xff\x00\xe0\0\0\0\0" * 50_000,
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_header_costs_little_and_is_set_aside(tmp_path, name):
    (tmp_path / "x.dcm").write_bytes(CRAFTED[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with pytest.raises(InputError):
        discover_sources(tmp_path)
    assert time.perf_counter() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024  # kilobytes


@pytest.mark.parametrize(("rows", "columns"), [(46341, 46341), (65535, 65535), (46341, 20)])
def test_planes_of_absurd_size_are_refused_at_once(truth, rows, columns):
    for path in truth.files:
        dataset = pydicom.dcmread(path)
        dataset.Rows, dataset.Columns = rows, columns
        dataset.save_as(path)
    start = time.perf_counter()
    with pytest.raises(InputError, match="at most 8192"):
        load(truth.folder)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("frames", ["0", "100000", "-3", "2000"])
def test_an_absurd_number_of_frames_is_refused(truth, frames):
    for path in truth.files:
        dataset = pydicom.dcmread(path)
        dataset.NumberOfFrames = frames
        dataset.save_as(path)
    with pytest.raises(InputError):
        load(truth.folder)


def test_header_bytes_cut_or_changed_anywhere_never_raise_anything_else(tmp_path, truth):
    data = truth.files[0].read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "fuzzed" / "x.dcm"
    path.parent.mkdir()
    for _ in range(300):
        changed = bytearray(data)
        for at in rng.integers(0, 1500, rng.integers(1, 6)):
            changed[at] = rng.integers(0, 256)
        path.write_bytes(bytes(changed[: rng.integers(0, len(data)) if rng.random() < 0.3 else len(data)]))
        try:
            for source in survey(path.parent).sources:
                assert isinstance(source, DicomSeries)
                read_hu(source)
        except InputError:
            continue


def test_multi_frame_headers_changed_anywhere_never_raise_anything_else(tmp_path):
    from tests.builders.multi_frame import make_enhanced

    data = make_enhanced(tmp_path / "good" / "e.dcm").files[0].read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "fuzzed" / "x.dcm"
    path.parent.mkdir()
    for _ in range(150):
        changed = bytearray(data)
        for at in rng.integers(300, 5000, rng.integers(1, 4)):
            changed[at] = rng.integers(0, 256)
        path.write_bytes(bytes(changed))
        try:
            for source in survey(path.parent).sources:
                read_hu(source)
        except InputError:
            continue


@pytest.mark.parametrize("surplus", [-9, -1, 0, 1, 7, 8, 11, 12])
def test_a_header_may_end_anywhere_against_the_blocks_it_is_read_in(tmp_path, surplus):
    def pad(index, dataset):
        dataset.add_new(0x00290010, "LO", "TEST")
        dataset.add_new(0x00291001, "UN", b"")
        probe = tmp_path / "probe"
        dataset.save_as(probe, enforce_file_format=True)
        element = probe.read_bytes().index(b"\x29\x00\x01\x10UN")
        dataset[0x00291001].value = b"\0" * ((16384 + surplus - element - 12) // 2 * 2)

    truth = make_series(tmp_path / "series", change=pad)
    np.testing.assert_array_equal(load(truth.folder).voxels, truth.voxels)


def insert(path, raw):
    """Put the bytes of a private element before those of the patient's name."""
    data = path.read_bytes()
    at = data.index(b"\x10\0\x10\0PN")
    path.write_bytes(data[:at] + raw + data[at:])


IMPLICIT = {
    "one": struct.pack("<HHI", 9, 0x1001, 4) + b"abcd",
    "length like no type": struct.pack("<HHI", 9, 0x1001, 0x2020) + b"x" * 0x2020,
    "several": b"".join(struct.pack("<HHI", 9, number, 4) + b"abcd" for number in (0x1001, 0x1002, 0x1003)),
    "sequence": struct.pack("<HHI", 9, 0x1001, 0xFFFFFFFF)
    + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    + struct.pack("<HHI", 9, 0x1002, 2)
    + b"ab"
    + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
    "in a sequence": struct.pack("<HH2sHI", 9, 0x1001, b"SQ", 0, 0xFFFFFFFF)
    + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    + struct.pack("<HHI", 9, 0x1002, 2)
    + b"ab"
    + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
    "at the end of a block": struct.pack("<HHI", 9, 0x1001, 15000) + b"x" * 15000,
}


@pytest.mark.parametrize("name", IMPLICIT)
def test_private_elements_encoded_implicitly_in_an_explicit_file_are_passed_over(truth, name):
    for path in truth.files:
        insert(path, IMPLICIT[name])
        assert pydicom.dcmread(path).Rows == 20  # the witness reads it so, too
    np.testing.assert_array_equal(load(truth.folder).voxels, truth.voxels)


@pytest.mark.parametrize("vr", [b"\0\0", b"??", b"--", b"OX"])
@pytest.mark.parametrize("shape", [(24, 20, 12), (400, 400, 2)])
def test_a_type_that_is_none_with_a_short_length_is_a_damaged_header(tmp_path, vr, shape):
    truth = make_series(tmp_path, shape=shape)
    for path in truth.files:
        insert(path, struct.pack("<HH2sH", 9, 0x1001, vr, 4) + b"abcd")
    found = survey(tmp_path)
    assert found.sources == ()
    assert len(found.errors) == shape[2]


def test_a_dicom_file_with_an_archive_behind_it_is_a_dicom_file(tmp_path, truth):
    archive = pack(truth.folder, tmp_path / "study.zip").read_bytes()
    for path in truth.files:
        path.write_bytes(path.read_bytes() + archive)
    assert load(truth.folder).voxels.shape == truth.voxels.shape


def test_thousands_of_files_are_surveyed_in_seconds(tmp_path, truth):
    data = truth.files[0].read_bytes()
    for number in range(MANY):
        (tmp_path / "study" / f"{number}.dcm").write_bytes(data)
    start = time.perf_counter()
    survey(tmp_path)
    # About 0.6 s on an idle machine, most of it for hashing the copies.
    assert time.perf_counter() - start < 8


def test_discovery_imports_neither_torch_nor_monai(truth):
    code = (
        "import sys; from lightunet_monai.inputs import discover_sources, choose_series, read_hu; "
        f"read_hu(choose_series(discover_sources({str(truth.folder)!r}))); "
        "print([name for name in ('torch', 'monai', 'SimpleITK') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
