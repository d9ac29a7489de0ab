import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from lightunet_monai.batch.keys import (
    KEY_DIGITS,
    case_key,
    former_series_hash,
    place_hash,
    series_hash,
    uid_hash,
    whole_series_hash,
)
from lightunet_monai.inputs import discover_sources
from lightunet_monai.sources import ImageFile
from tests.builders.multi_frame import make_enhanced
from tests.builders.series import get_hu, make_series, set_hu
from tests.builders.volume import make_volume, make_voxels


def _only(path):
    (source,) = discover_sources(path)
    return source


def _change(path, **values):
    dataset = pydicom.dcmread(path)
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)


def _brighten(path, voxel):
    dataset = pydicom.dcmread(path)
    plane = get_hu(dataset)
    plane[voxel] += 1
    set_hu(dataset, plane)
    dataset.save_as(path, enforce_file_format=True)


def _zip(folder, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in sorted(folder.iterdir()):
            archive.write(item, item.name)
    return path


def test_a_study_that_is_moved_and_renamed_keeps_its_key(tmp_path):
    truth = make_series(tmp_path / "Doe Jane")
    before = _only(truth.folder)
    key, series = case_key(before), series_hash(before, truth.folder)
    assert len(key) == KEY_DIGITS
    moved = tmp_path / "else" / "where"
    shutil.copytree(truth.folder, moved)
    shutil.rmtree(truth.folder)
    for number, path in enumerate(sorted(moved.iterdir())):
        path.rename(moved / f"z{100 - number}")
    assert (case_key(_only(moved)), series_hash(_only(moved), moved)) == (key, series)


@pytest.mark.parametrize("syntax", ["raw", "rle"])
def test_a_changed_pixel_in_the_middle_of_a_slice_is_another_case_of_the_same_series(tmp_path, syntax):
    truth = make_series(tmp_path / "a", shape=(64, 64, 5), syntax=syntax)
    before = _only(truth.folder)
    altered = make_series(tmp_path / "b", shape=(64, 64, 5), voxels=_with_change(truth.voxels, 2), syntax=syntax)
    after = _only(altered.folder)
    assert case_key(after) != case_key(before)
    assert series_hash(after, altered.folder) == series_hash(before, truth.folder)


def _with_change(voxels, index):
    changed = voxels.copy()
    changed[32, 40, index] += 1  # the sample begins in the middle of the slice
    return changed


def test_a_changed_uid_or_position_is_another_case(tmp_path):
    truth = make_series(tmp_path)
    keys = {case_key(_only(tmp_path))}
    _change(truth.files[3], SOPInstanceUID="2.25.4711")
    keys.add(case_key(_only(tmp_path)))
    _change(truth.files[-1], ImagePositionPatient=["-10", "-20", "46.501"])
    keys.add(case_key(_only(tmp_path)))
    assert len(keys) == 3


@pytest.mark.parametrize("syntax", ["raw", "rle"])
@pytest.mark.parametrize(
    "values",
    [
        {"PatientID": "MRN-54321"},
        {"PatientName": "Roe^Jane"},
        {"PixelSpacing": ["0.8", "0.9"]},  # swapped
        {"ImageOrientationPatient": ["0", "1", "0", "-1", "0", "0"]},
    ],
    ids=lambda values: next(iter(values)),
)
def test_a_header_that_is_corrected_in_the_same_length_is_another_case(tmp_path, syntax, values):
    first, second = make_series(tmp_path / "a", syntax=syntax), tmp_path / "b"
    shutil.copytree(first.folder, second)
    assert case_key(_only(second)) == case_key(_only(first.folder))
    sizes = [path.stat().st_size for path in sorted(second.iterdir())]
    for path in second.iterdir():
        _change(path, **values)
    assert [path.stat().st_size for path in sorted(second.iterdir())] == sizes
    assert case_key(_only(second)) != case_key(_only(first.folder))
    assert series_hash(_only(second), second) == series_hash(_only(first.folder), first.folder)
    archives = [_zip(folder, tmp_path / f"{folder.name}.zip") for folder in (first.folder, second)]
    assert len({case_key(_only(archive)) for archive in archives}) == 2


@pytest.mark.parametrize("frame", [0, 4])
def test_a_changed_pixel_in_any_frame_is_another_case(tmp_path, frame):
    voxels = make_voxels((64, 64, 5))
    first = make_enhanced(tmp_path / "a" / "enhanced", voxels=voxels)
    second = make_enhanced(tmp_path / "b" / "enhanced", voxels=_with_change(voxels, frame))
    assert case_key(_only(first.folder)) != case_key(_only(second.folder))


def test_a_changed_pixel_in_an_archive_is_another_case_and_a_copy_is_not(tmp_path):
    truth = make_series(tmp_path / "a")
    first, copy = _zip(truth.folder, tmp_path / "a.zip"), _zip(truth.folder, tmp_path / "copy.zip")
    _brighten(truth.files[2], (3, 4))
    second = _zip(truth.folder, tmp_path / "b.zip")
    assert case_key(_only(first)) == case_key(_only(copy)) != case_key(_only(second))


def test_the_volumes_of_one_series_have_keys_of_their_own(tmp_path):
    make_series(tmp_path, defect="two kernels")
    sources = discover_sources(tmp_path)
    names = {series_hash(source, tmp_path) for source in sources}
    assert len({case_key(source) for source in sources}) == len(names) == 2
    (whole,) = {whole_series_hash(source, tmp_path) for source in sources}
    assert whole not in names


def test_a_series_of_one_volume_and_a_file_are_named_as_a_whole(tmp_path):
    make_series(tmp_path / "series")
    make_volume(tmp_path / "a.nii", make_voxels())
    for source in discover_sources(tmp_path):
        assert whole_series_hash(source, tmp_path) == series_hash(source, tmp_path)


def test_a_file_is_named_by_its_content(tmp_path):
    voxels = make_voxels()
    for name in ("a", "b"):
        make_volume(tmp_path / f"{name}.nii", voxels)
    make_volume(tmp_path / "c.nii", np.where(voxels == voxels.max(), voxels + 1, voxels))
    first, copy, other = (case_key(source) for source in discover_sources(tmp_path))
    assert first == copy != other


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_voxels_beside_their_header_belong_to_the_content(tmp_path, suffix):
    keys = []
    for shift in (0, 0, 1):
        folder = tmp_path / f"{len(keys)}"
        folder.mkdir()
        make_volume(folder / f"image{suffix}", make_voxels() + np.int16(shift))
        keys.append(case_key(_only(folder)))
    assert keys[0] == keys[1] != keys[2]


def test_a_name_that_is_no_text_has_a_hash_too():
    assert len(place_hash("study\udcff")) == KEY_DIGITS
    assert place_hash("a") != place_hash("b")
    assert len(uid_hash("1.2.3")) == 64


def test_series_without_a_uid_in_two_folders_have_different_names(tmp_path):
    def change(index, dataset):
        del dataset.SeriesInstanceUID

    for name, seed in (("a", 0), ("b", 5)):
        make_series(tmp_path / name, seed=seed, change=change)
    sources = discover_sources(tmp_path)
    names = {series_hash(source, tmp_path) for source in sources}
    assert len({case_key(source) for source in sources}) == len(names) == 2


def test_what_earlier_versions_called_a_file_is_known():
    assert former_series_hash(ImageFile(Path("studies/p.nii.gz"))) == "f772f98ab1502fd3f715c0f5"


@pytest.mark.parametrize("is_zipped", [False, True])
def test_a_series_without_a_uid_and_a_file_are_named_however_the_path_is_typed(tmp_path, monkeypatch, is_zipped):
    def change(index, dataset):
        del dataset.SeriesInstanceUID

    study = make_series(tmp_path / "root" / "study", change=change).folder
    study = _zip(study, tmp_path / "study.zip") if is_zipped else study
    volume = make_volume(tmp_path / "a.nii", make_voxels())
    monkeypatch.chdir(tmp_path)
    for path in (study, volume):
        typed = [path, path.relative_to(tmp_path), Path("..", tmp_path.name) / path.relative_to(tmp_path)]
        assert len({series_hash(_only(each), each, "place") for each in typed}) == 1
        assert series_hash(_only(path), path, "other place") != series_hash(_only(path), path, "place")
