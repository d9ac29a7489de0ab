import json
import os
import shutil
import zipfile
from pathlib import Path

import pydicom
import pytest

from lightunet_monai.batch.feed import find_cases
from lightunet_monai.batch.lease import Owner
from lightunet_monai.batch.ledger import Ledger
from lightunet_monai.batch.units import Shard, list_units, signature
from lightunet_monai.errors import NoImageFoundError, UnreadableFileError, UsageError
from lightunet_monai.outputs import write_case
from tests.builders.segmentation import make_case
from tests.builders.series import make_series
from tests.builders.volume import make_nifti, make_voxels

SLICE = b"\0" * 128 + b"DICM"


def _make(root, *names, content=b"x"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def _names(root, **options):
    return [unit.path.relative_to(root).as_posix() for unit in list_units(root, **options)]


@pytest.fixture
def studies(tmp_path):
    _make(tmp_path, "b/1/IM1", "a/IM1", "a/IM2", "c.zip", "d.nii.gz", "e.NRRD", "notes.txt", ".hidden/IM1", ".x.nii")
    return tmp_path


def test_folders_archives_and_images_are_units_and_hidden_or_other_files_are_none(studies):
    assert _names(studies) == ["a", "b", "c.zip", "d.nii.gz", "e.NRRD"]


def test_places_do_not_change_when_the_root_moves(studies, tmp_path_factory):
    moved = tmp_path_factory.mktemp("moved") / "root"
    shutil.copytree(studies, moved)
    places = [unit.place for unit in list_units(studies)]
    assert [unit.place for unit in list_units(moved)] == places
    assert len(set(places)) == 5


def test_a_folder_of_loose_slices_is_one_unit_with_all_below_it(tmp_path):
    _make(tmp_path, "IM1", "more/IM2", content=SLICE)
    assert _names(tmp_path) == ["."]


def test_loose_slices_without_preamble_are_one_study_too(tmp_path):
    make_series(tmp_path / "study")
    for path in sorted((tmp_path / "study").iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.preamble = None
        bare = pydicom.Dataset(dataset)
        pydicom.dcmwrite(path, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert _names(tmp_path / "study") == ["."]
    assert _names(tmp_path) == ["study"]


def test_a_folder_with_a_dicomdir_is_one_unit(tmp_path):
    _make(tmp_path, "DICOMDIR", "DICOM/IM1", "b/IM1")
    assert _names(tmp_path) == ["."]
    (unit,) = list_units(tmp_path / "DICOMDIR")
    assert unit == next(list_units(tmp_path))


def test_units_may_lie_deeper(tmp_path):
    _make(tmp_path, "p1/s1/IM1", "p1/s2/IM1", "p1/x.nii", "p3.zip")
    _make(tmp_path, "p2/IM1", content=SLICE)
    assert _names(tmp_path, depth=2) == ["p1/s1", "p1/s2", "p1/x.nii", "p2", "p3.zip"]


def test_a_folder_that_vanishes_while_it_is_listed_stops_nothing(tmp_path):
    _make(tmp_path, "a/s/IM1", "b/s/IM1", "c/s/IM1")
    units = list_units(tmp_path, depth=2)
    next(units)
    shutil.rmtree(tmp_path / "b")
    assert [unit.path.name for unit in units] == ["b", "s"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_among_the_studies_is_not_waited_for(studies):
    os.mkfifo(studies / "pipe")
    assert len(_names(studies)) == 5


def test_links_that_leave_the_root_are_refused_and_links_within_it_are_listed_once(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    _make(root, "study/IM1", "a.nii")
    _make(outside, "study/IM1", "b.nii", "readme.txt")
    for name, target in {
        "out": outside / "study",
        "out.nii": outside / "b.nii",
        "gone": outside / "gone",
        "readme.txt": outside / "readme.txt",
        "in": root / "study",
        "loop": root,
        "in.nii": root / "a.nii",
    }.items():
        (root / name).symlink_to(target)

    units = list(list_units(root))

    assert [unit.path.name for unit in units] == ["a.nii", "gone", "in.nii", "out", "out.nii", "study"]
    refused = [unit for unit in units if unit.is_link_outside]
    assert [unit.path.name for unit in refused] == ["gone", "out", "out.nii"]
    for unit in refused:
        (case,) = find_cases(unit)
        assert (case.source, case.cause.reason) == (None, "link-outside")


def test_a_linked_slice_from_outside_does_not_make_the_root_one_study(tmp_path):
    _make(tmp_path, "outside/IM1", content=SLICE)
    _make(tmp_path, "root/a/IM1")
    (tmp_path / "root" / "IM1").symlink_to(tmp_path / "outside" / "IM1")
    assert _names(tmp_path / "root") == ["a"]


@pytest.mark.parametrize("out", ["out", "p1/out", "elsewhere/../out"])
def test_the_output_folder_is_left_out_of_the_walk(tmp_path, monkeypatch, out):
    _make(tmp_path, "root/p1/a/IM1", "root/x.nii", "root/out/cases/k/labelmap.nii.gz", "root/p1/out/cases/k/x.nii")
    (tmp_path / "root" / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "root")
    everything = ["out/cases", "p1/a", "p1/out", "x.nii"]
    kept = [name for name in everything if not Path(name).is_relative_to(os.path.normpath(out))]
    for root, given in ((tmp_path / "root", tmp_path / "root" / out), (Path(), Path(out)), (Path(), Path.cwd() / out)):
        assert _names(root, depth=2, out=given) == kept
    assert _names(tmp_path / "root", depth=2, out=tmp_path / "gone") == everything
    assert _names(tmp_path / "root", depth=2, out=tmp_path / "root") == everything


def test_what_is_written_to_an_output_folder_in_a_unit_does_not_change_the_unit(tmp_path):
    _make(tmp_path, "IM1", content=SLICE)
    before = signature(tmp_path, tmp_path / "out")
    _make(tmp_path, "out/ledger.sqlite")
    assert signature(tmp_path, tmp_path / "out") == before
    assert signature(tmp_path) != before
    _make(tmp_path, "IM2", content=SLICE)
    assert signature(tmp_path, tmp_path / "out")[1] == 2


def test_results_beside_the_studies_are_no_units(tmp_path):
    case = make_case(tmp_path / "made")
    root = tmp_path / "root"
    root.mkdir()
    make_nifti(root / "ct.nii.gz")
    write_case(root, case.segmentation, formats=["nifti", "segnrrd", "seg", "probability"], volume=case.volume_hu)
    assert _names(root) == ["ct.nii.gz"]  # nor does a DICOM result make the root one study of loose slices


def _zip_that_leaves(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../x", b"x")


def test_each_refused_archive_beside_a_good_series_is_a_case_of_its_own(tmp_path):
    study = tmp_path / "Doe Jane"
    make_series(study / "series")
    _zip_that_leaves(study / "Doe, Jane Ann.zip")
    (study / "Jane.zip").write_bytes(b"PK\3\4 cut off")
    (unit,) = list_units(tmp_path)
    cases = list(find_cases(unit))
    assert [case.cause and case.cause.reason for case in cases] == [None, "archive-member-outside", "archive"]
    assert len({case.key for case in cases} | {unit.place}) == 4
    assert not any(case.is_skipped for case in cases)
    texts = [text for case in cases[1:] for text in (case.cause.message, case.cause.hint)]
    (warning,) = cases[0].source.warnings
    assert warning.startswith("2 zip archives were refused (")
    assert not any(name in text for text in (*texts, warning) for name in ("Doe", "Jane", "Ann"))

    moved = tmp_path / "moved"
    shutil.copytree(study, moved / "Doe Jane")
    (unit,) = list_units(moved)
    assert [case.key for case in find_cases(unit)] == [case.key for case in cases]


def test_refused_archives_without_a_volume_are_told_once_each(tmp_path):
    for name in ("a.zip", "b.zip"):
        (tmp_path / "study").mkdir(exist_ok=True)
        _zip_that_leaves(tmp_path / "study" / name)
    (unit,) = list_units(tmp_path)
    cases = list(find_cases(unit))
    assert [case.cause.reason for case in cases] == ["archive-member-outside"] * 2
    assert cases[0].key == unit.place
    (unit,) = list_units(tmp_path / "study" / "a.zip")
    assert [case.key for case in find_cases(unit)] == [unit.place]


def test_a_replaced_file_takes_the_place_of_the_older_one_however_the_root_is_typed(tmp_path, monkeypatch):
    (tmp_path / "root" / "study").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    keys = []
    with Ledger(tmp_path / "out", Owner.of_this_process()) as ledger:
        for number, root in enumerate([Path("root"), tmp_path / "root", Path("..", tmp_path.name, "root")]):
            for seed, name in enumerate(("a.nii", "study/b.nii")):
                make_nifti(tmp_path / "root" / name, make_voxels(seed=10 * number + seed))
            for unit in list_units(root):
                (case,) = find_cases(unit)
                ledger.add(case.key, unit.place, case.series, whole=case.whole)
            keys.append(case.key)
            assert ledger.counts()["found"] == 2
        assert [ledger.case(key).superseded_by for key in keys] == [keys[2], keys[2], None]


def test_a_series_that_a_list_names_comes_without_the_archives_beside_it(tmp_path):
    truth = make_series(tmp_path / "study")
    _zip_that_leaves(tmp_path / "study" / "a.zip")
    (tmp_path / "list.csv").write_text(f"study,series\nstudy,{truth.series_uid}\n")
    (unit,) = list_units(tmp_path / "list.csv")
    (case,) = find_cases(unit)
    assert case.cause is None


def test_a_datalist_names_volumes_from_its_folder(studies):
    path = studies / "list.json"
    sections = {"name": "x", "training": [{"image": "d.nii.gz", "label": "l"}, "a"], "test": [{"image": "d.nii.gz"}]}
    path.write_text(json.dumps(sections), encoding="utf-8-sig")
    assert [unit.path.name for unit in list_units(path)] == ["d.nii.gz", "a"]


def test_a_table_names_volumes_and_series(studies):
    path = studies / "list.csv"
    path.write_text("patient,study,series\nx,a,1.2.3\n\nx,a,1.2.4\nx,b,\nx,b,\n", encoding="utf-8-sig")
    units = list(list_units(path))
    assert [(unit.path.name, unit.series_uid) for unit in units] == [("a", "1.2.3"), ("a", "1.2.4"), ("b", "")]
    assert len({unit.place for unit in units}) == 3


@pytest.mark.parametrize(
    ("name", "text", "error", "said"),
    [
        ("l.csv", "image\na\n\ngone\n", NoImageFoundError, "line 4 names gone, which does not exist"),
        ("l.csv", "image,series\na,1\n,2\n", NoImageFoundError, "line 3 names no file or folder"),
        ("l.csv", "image\n", NoImageFoundError, "no entry"),
        ("l.csv", f"image\n{'a' * 300}\n", NoImageFoundError, "line 2 names a+, which cannot be opened .*too long"),
        ("l.json", f'{{"test": ["{"a" * 300}"]}}', NoImageFoundError, "which cannot be opened .*too long"),
        ("l.csv", "patient;image\nx;a\n", UnreadableFileError, "found no column image, path, study, file"),
        ("l.csv", "", UnreadableFileError, "found no column"),
        ("l.json", '{"test": ["a", {"image": "gone"}]}', NoImageFoundError, "entry 2 of test names gone"),
        ("l.json", '{"test": [{"label": "a"}]}', UnreadableFileError, "no datalist"),
        ("l.json", '["a"]', UnreadableFileError, "no datalist"),
        ("l.json", "{", UnreadableFileError, "no datalist"),
    ],
)
def test_a_list_with_a_mistake_is_refused_by_name_and_line(studies, name, text, error, said):
    (studies / name).write_text(text)
    with pytest.raises(error, match=said):
        list(list_units(studies / name))


def test_a_root_that_does_not_exist_is_refused(tmp_path):
    for name, said in (("gone", "does not exist"), ("a" * 300, "cannot be opened .*too long")):
        with pytest.raises(NoImageFoundError, match=said):
            list_units(tmp_path / name)


def test_shards_are_disjoint_and_complete(tmp_path):
    _make(tmp_path, *(f"{number}.nii" for number in range(60)))
    parts = [set(_names(tmp_path, shard=Shard(index, 4))) for index in range(1, 5)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 60
    assert all(parts)


@pytest.mark.parametrize(("index", "count"), [(0, 2), (3, 2), (1, 0)])
def test_a_shard_outside_its_count_is_refused(index, count):
    with pytest.raises(UsageError, match=f"found {index}/{count}"):
        Shard(index, count)


def test_the_signature_tells_every_change_of_a_unit(tmp_path):
    _make(tmp_path, "study/IM1", "study/deep/IM2")
    study = tmp_path / "study"
    seen = [signature(study)]
    assert signature(study) == seen[0]
    _make(study, "deep/IM3")
    seen.append(signature(study))
    (study / "IM1").write_bytes(b"yy")
    seen.append(signature(study))
    (study / "IM1").write_bytes(b"zz")
    os.utime(study / "IM1", ns=(1, 1))
    seen.append(signature(study))
    (study / "deep" / "IM2").rename(study / "IM2")
    seen.append(signature(study))
    (study / "IM2").chmod(0o400)  # what could not be read may be readable now
    seen.append(signature(study))

    assert len({text for text, _ in seen}) == len(seen)
    assert [count for _, count in seen] == [2, 3, 3, 3, 3, 3]


def test_a_unit_shows_no_path(tmp_path):
    _make(tmp_path, "Doe Jane/IM1")
    (unit,) = list_units(tmp_path)
    assert "Doe" not in repr([unit])


def test_a_link_to_itself_is_refused_and_the_rest_is_listed(studies):
    (studies / "loop").symlink_to("loop")
    (studies / "loop.nii").symlink_to("loop.nii")
    assert _names(studies) == ["a", "b", "c.zip", "d.nii.gz", "e.NRRD", "loop", "loop.nii"]
    assert [unit.path.name for unit in list_units(studies) if unit.is_link_outside] == ["loop", "loop.nii"]
