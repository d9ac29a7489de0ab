"""Pairs of volumes and label maps: by name, and DICOM series by the segmentation that refers to them."""

import json
import os

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from lightunet_monai.cli import main
from lightunet_monai.inputs import choose_series, discover_sources, load_volume
from lightunet_monai.outputs import write_dicom_seg, write_seg_nrrd
from lightunet_monai.transforms import LoadImageVolumed, list_labelled_cases
from tests.builders.segmentation import make_lesions, make_segmentation
from tests.builders.series import make_series
from tests.builders.volume import make_affine, make_nifti, make_volume, make_voxels

SHAPE = (40, 36, 20)
EMPTY = np.zeros((4, 4, 4), np.uint8)


def run(tmp_path, images, labels, *words):
    path = tmp_path / "list.json"
    code = main(["datalist", str(images), str(labels), "-o", str(path), "--validation", "0", *words])
    return code, (list_labelled_cases(path, "training") if code == 0 else [])


@pytest.fixture
def cases(tmp_path):
    """Two patients: DICOM folders below `images`, their DICOM SEG below `labels` under names of their own."""
    made = {}
    for number in (1, 2):
        folder = tmp_path / "images" / f"patient_{number}" / "CT"
        make_series(folder, shape=SHAPE, spacing=(0.8, 0.9, 1.5), series=number, study=number)
        source = choose_series(discover_sources(folder))
        segmentation = make_segmentation(np.roll(make_lesions(SHAPE), number, 0), np.array(source.affine), source)
        (tmp_path / "labels" / "deep").mkdir(parents=True, exist_ok=True)
        write_dicom_seg(segmentation, tmp_path / "labels" / "deep" / f"seg_{3 - number}.dcm")
        made[str(folder)] = segmentation
    return made


def test_a_series_is_paired_with_the_seg_that_refers_to_it_and_loads(cases, tmp_path):
    code, found = run(tmp_path, tmp_path / "images", tmp_path / "labels")
    assert code == 0
    assert {item["image"] for item in found} == set(cases)
    load = LoadImageVolumed("image", label_keys="label")
    for item in found:
        label = load(item)["label"].as_tensor()[0].numpy()
        np.testing.assert_array_equal(label, cases[item["image"]].label_map)
    content = json.loads((tmp_path / "list.json").read_text())
    assert content["labels"] == {"0": "background", "1": "tumor"}


def test_a_series_without_a_seg_and_one_with_two_are_told(cases, tmp_path, capsys):
    make_series(tmp_path / "images" / "patient_3", series=3)
    assert run(tmp_path, tmp_path / "images", tmp_path / "labels")[0] == 1
    assert "no label map for 1 of 3 volumes, the first is patient_3" in capsys.readouterr().err
    first = next(iter(cases.values()))
    write_dicom_seg(first, tmp_path / "labels" / "again.dcm")
    assert run(tmp_path, tmp_path / "images", tmp_path / "labels")[0] == 2
    assert "2 DICOM Segmentations refer to it" in capsys.readouterr().err


def test_two_series_in_one_folder_are_refused_because_the_loader_could_not_choose(cases, tmp_path, capsys):
    make_series(tmp_path / "images" / "patient_1" / "CT", shape=SHAPE, series=7)
    assert run(tmp_path, tmp_path / "images", tmp_path / "labels")[0] == 1
    assert "Put each series into a folder of its own" in capsys.readouterr().err


def test_volumes_are_paired_with_seg_nrrd_files_also_in_their_own_folder(tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a", "b"):
        image = make_nifti(folder / f"{name}.nii.gz", make_voxels(SHAPE))
        source = choose_series(discover_sources(image))
        affine = np.asarray(load_volume(source).affine, dtype=float)
        write_seg_nrrd(make_segmentation(make_lesions(SHAPE), affine, source), folder / f"{name}.seg.nrrd")
    code, found = run(tmp_path, folder, folder)
    assert code == 0
    assert [item["label"] for item in sorted(found, key=str)] == [str(folder / f"{n}.seg.nrrd") for n in "ab"]
    label = LoadImageVolumed("image", label_keys="label")(found[0])["label"].as_tensor()[0].numpy()
    np.testing.assert_array_equal(label, make_lesions(SHAPE))
    make_nifti(folder / "a.nii", make_voxels(SHAPE))
    assert run(tmp_path, folder, folder)[0] == 2
    assert "label maps have its name" in capsys.readouterr().err


def _flat(tmp_path, patients, studies):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for patient in range(patients):
            for study in range(studies):
                make_nifti(tmp_path / folder / f"p{patient}_s{study}.nii.gz", EMPTY)
    return tmp_path / "images", tmp_path / "labels"


def test_folds_are_even_and_no_patient_is_in_two(tmp_path):
    images, labels = _flat(tmp_path, 6, 2)
    path = tmp_path / "list.json"
    assert main(["datalist", str(images), str(labels), "-o", str(path), "--folds", "3", "--group", r"(p\d+)_s"]) == 0
    held_out = [list_labelled_cases(path, "validation", fold) for fold in range(3)]
    assert [len(cases) for cases in held_out] == [4, 4, 4]
    patients = [{item["image"].split("/")[-1][:2] for item in cases} for cases in held_out]
    assert sum(map(len, patients)) == len(set().union(*patients)) == 6
    assert len(list_labelled_cases(path, "training", 0)) == 8


def test_a_folder_above_the_volumes_is_no_patient(tmp_path):
    (tmp_path / "exp1").mkdir()
    images, labels = _flat(tmp_path / "exp1", 4, 2)  # the p1 of exp1 comes first in every path
    path = tmp_path / "list.json"
    assert main(["datalist", str(images), str(labels), "-o", str(path), "--folds", "4", "--group", r"p\d+"]) == 0
    patients = [
        {item["image"].split("/")[-1][:2] for item in list_labelled_cases(path, "validation", f)} for f in range(4)
    ]
    assert sorted(map(len, patients)) == [1] * 4


def test_a_patient_is_not_divided_between_training_and_validation(tmp_path):
    images, labels = _flat(tmp_path, 5, 3)
    path = tmp_path / "list.json"
    words = ["datalist", str(images), str(labels), "-o", str(path), "--validation", "0.2", "--group", r"p\d+"]
    assert main(words) == 0
    content = json.loads(path.read_text())
    assert (len(content["training"]), len(content["validation"])) == (12, 3)
    assert len({item["image"][-12:-10] for item in content["validation"]}) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--folds", "9"), "expected 2 to 4"),
        (("--folds", "1"), "expected 2 to 4"),
        (("--group", "("), "no regular expression"),
        (("--group", "x"), "matches nothing"),
        (("--group", "p"), "cannot be divided"),
        (("--group", "images"), "matches nothing"),  # a folder above the cases
        (("--group", "x*"), "is empty"),
        (("--group", r"p0|p(\d)"), "is empty"),
        (("--folds", "0"), "expected 2 to 4"),
        (("--folds", "2", "--validation", "0.5"), "expected one of them"),
    ],
)
def test_divisions_that_cannot_be_made_are_refused(tmp_path, capsys, words, said):
    images, labels = _flat(tmp_path, 4, 1)
    assert main(["datalist", str(images), str(labels), "-o", str(tmp_path / "list.json"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "list.json").exists()


def test_a_large_group_is_not_held_out_where_a_smaller_one_fits(tmp_path):
    images, labels = _flat(tmp_path, 3, 1)
    for number in range(8):
        for folder in (images, labels):
            make_nifti(folder / f"p0_more{number}.nii.gz", EMPTY)
    path = tmp_path / "list.json"
    for seed in range(6):
        words = ["datalist", str(images), str(labels), "-o", str(path), "--group", r"p\d+", "--seed", str(seed)]
        assert main(words) == 0
        content = json.loads(path.read_text())
        assert (len(content["training"]), len(content["validation"])) == (9, 2)


def test_hidden_files_are_no_volumes_and_missing_folders_are_named(tmp_path, capsys):
    images, labels = _flat(tmp_path, 2, 1)
    (images / "._p0_s0.nii.gz").write_bytes(b"")
    (images / ".cache").mkdir()
    path = tmp_path / "list.json"
    assert main(["datalist", str(images), str(labels), "-o", str(path)]) == 0
    for words in ((tmp_path / "none", labels), (images, tmp_path / "none")):
        assert main(["datalist", *map(str, words), "-o", str(path)]) == 1
        assert f"{tmp_path / 'none'}: no such folder" in capsys.readouterr().err


def test_a_list_written_through_a_link_names_files_that_are_there(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    images, labels = _flat(tmp_path / "data", 2, 1)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    path = tmp_path / "link" / "list.json"
    assert main(["datalist", str(images), str(labels), "-o", str(path), "--validation", "0"]) == 0
    assert len(list_labelled_cases(path, "training")) == 2


def test_files_on_another_drive_are_named_in_full(tmp_path, monkeypatch):
    images, labels = _flat(tmp_path, 2, 1)

    def no_way(path, start):
        raise ValueError(f"path is on mount 'D:', start on mount 'C:': {path}, {start}")

    monkeypatch.setattr(os.path, "relpath", no_way)  # as Windows does
    path = tmp_path / "list.json"
    assert main(["datalist", str(images), str(labels), "-o", str(path), "--validation", "0"]) == 0
    assert {case["image"] for case in list_labelled_cases(path, "training")} == set(map(str, images.iterdir()))


def test_a_folder_in_place_of_the_datalist_is_refused_and_nothing_is_left(tmp_path, capsys):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            make_nifti(tmp_path / folder / f"{name}.nii.gz", EMPTY)
    (tmp_path / "out").mkdir()
    words = ["datalist", str(tmp_path / "images"), str(tmp_path / "labels"), "-o"]
    assert main([*words, str(tmp_path / "out")]) == 1
    assert f"{tmp_path / 'out'}: is a folder, expected a file" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([*words, str(tmp_path / "file" / "list.json")]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "images", "labels", "out"]
    assert main([*words, str(tmp_path / "new" / "list.json")]) == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["list.json"]


def test_volumes_with_their_header_in_a_file_of_its_own_are_listed(tmp_path):
    for side, values in (("images", make_voxels(SHAPE)), ("labels", make_lesions(SHAPE))):
        (tmp_path / side).mkdir()
        for name in ("a.mhd", "b.nhdr", "c.nii.gz"):
            make_volume(tmp_path / side / name, values)
    code, found = run(tmp_path, tmp_path / "images", tmp_path / "labels")
    assert code == 0
    assert sorted(path["label"].rsplit("/", 1)[-1] for path in found) == ["a.mhd", "b.nhdr", "c.nii.gz"]


def test_two_volumes_with_one_label_map_are_refused(tmp_path, capsys):
    for name in ("a.nii.gz", "a.nrrd", "b.nii.gz"):
        (tmp_path / "images").mkdir(exist_ok=True)
        make_volume(tmp_path / "images" / name, make_voxels(SHAPE))
    for name in "ab":
        (tmp_path / "labels").mkdir(exist_ok=True)
        make_nifti(tmp_path / "labels" / f"{name}.nii.gz", make_lesions(SHAPE))
    code, _ = run(tmp_path, tmp_path / "images", tmp_path / "labels")
    assert code == 2
    message = capsys.readouterr().err
    assert "a.nii.gz: the label map of two volumes" in message
    assert "a.nrrd" in message


def test_two_files_of_one_name_in_one_folder_are_no_pair_in_either_direction(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    for name in "abc":
        make_volume(tmp_path / "data" / f"{name}.nii.gz", make_voxels(SHAPE))
        make_volume(tmp_path / "data" / f"{name}.nrrd", make_lesions(SHAPE))
    assert run(tmp_path, tmp_path / "data", tmp_path / "data")[0] == 2
    message = capsys.readouterr().err
    assert "a.nii.gz and " in message
    assert "a.nrrd: two files of one name" in message
    assert "folders of their own" in message


def test_a_label_map_whose_slices_run_the_other_way_lies_on_the_grid_of_its_series(tmp_path):
    found = {}
    (tmp_path / "labels").mkdir()
    for number in (1, 2):
        folder = tmp_path / "images" / f"case{number}"
        affine = make_series(folder, shape=SHAPE, spacing=(0.8, 0.9, 1.5), series=number).affine.copy()
        values = np.roll(make_lesions(SHAPE), number, 0)
        affine[:3, 3] += (SHAPE[2] - 1) * affine[:3, 2]
        affine[:3, 2] *= -1
        make_volume(tmp_path / "labels" / f"case{number}.nii.gz", values[:, :, ::-1], affine)
        found[str(folder)] = values
    code, cases = run(tmp_path, tmp_path / "images", tmp_path / "labels")
    assert code == 0
    for case in cases:
        label = LoadImageVolumed("image", label_keys="label")(case)["label"].as_tensor()[0].numpy()
        np.testing.assert_array_equal(label, found[case["image"]] != 0)


def test_a_label_map_that_does_not_lie_on_the_grid_of_its_volume_is_refused(tmp_path, capsys):
    images, labels = _flat(tmp_path, 3, 1)
    make_nifti(labels / "p0_s0.nii.gz", EMPTY[:, :, :3])
    make_nifti(labels / "p1_s0.nii.gz", EMPTY, make_affine(origin=(10.3, -20.0, 30.0)))
    assert run(tmp_path, images, labels)[0] == 1
    message = capsys.readouterr().err
    assert "2 files of the cases cannot be used" in message
    assert "p0_s0.nii.gz: (4, 4, 3) voxels, its volume has (4, 4, 4)" in message
    assert "p1_s0.nii.gz: up to 0.300 mm away from its volume" in message
    assert not (tmp_path / "list.json").exists()


def test_a_dicom_seg_on_another_grid_than_its_series_is_refused(cases, tmp_path, capsys):
    for path in (tmp_path / "images" / "patient_1" / "CT").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient[0] += 0.4
        dataset.save_as(path)
    assert run(tmp_path, tmp_path / "images", tmp_path / "labels")[0] == 1
    assert "seg_2.dcm" in capsys.readouterr().err


def test_a_tissue_map_that_does_not_lie_on_the_grid_of_its_volume_is_refused(tmp_path, capsys):
    images, labels = _flat(tmp_path, 2, 1)
    for name, values in (("p0_s0", EMPTY), ("p1_s0", EMPTY[:3])):
        (tmp_path / "tissues").mkdir(exist_ok=True)
        make_nifti(tmp_path / "tissues" / f"{name}.nii.gz", values)
    assert run(tmp_path, images, labels, "--tissues", str(tmp_path / "tissues"))[0] == 1
    assert f"{tmp_path / 'tissues' / 'p1_s0.nii.gz'}: (3, 4, 4) voxels" in capsys.readouterr().err


def test_a_series_without_rescale_is_listed(tmp_path):
    for number in (1, 2):
        make_series(tmp_path / "images" / f"case{number}", defect="no rescale", series=number)
        (source,) = discover_sources(tmp_path / "images" / f"case{number}")
        (tmp_path / "labels").mkdir(exist_ok=True)
        label = np.zeros(source.shape, np.uint8)
        make_nifti(tmp_path / "labels" / f"case{number}.nii.gz", label, np.array(source.affine))
    assert run(tmp_path, tmp_path / "images", tmp_path / "labels")[0] == 0


def test_what_belongs_to_no_pair_is_told(cases, tmp_path, capsys):
    make_nifti(tmp_path / "labels" / "other.nii.gz", EMPTY)
    make_series(tmp_path / "images" / "patient_1" / "scout", shape=SHAPE, series=7)
    code, found = run(tmp_path, tmp_path / "images", tmp_path / "labels")
    assert code == 0
    assert len(found) == 2
    said = capsys.readouterr().out
    assert "left out: 1 label map of no volume, the first is other.nii.gz" in said
    alone = choose_series(discover_sources(tmp_path / "images" / "patient_1" / "scout")).selector
    assert f"left out: 1 DICOM series without a Segmentation, the first is {alone}" in said


@pytest.mark.parametrize(("patients", "divided"), [("abab", False), ("abca", False), ("aaaa", True), ("    ", True)])
def test_dicom_studies_of_one_patient_are_not_divided(tmp_path, patients, divided):
    # As after anonymisation, one identity for all, or none, tells no patients apart.
    (tmp_path / "labels").mkdir()
    for number, patient in enumerate(patients):
        folder = tmp_path / "images" / f"case_{number}"

        def name_patient(_, header, patient=patient):
            header.PatientID = patient

        made = make_series(folder, shape=(8, 8, 4), series=number + 1, study=number + 1, change=name_patient)
        make_nifti(tmp_path / "labels" / f"case_{number}.nii.gz", np.zeros((8, 8, 4), np.uint8), made.affine)
    path = tmp_path / "list.json"
    words = ["datalist", str(tmp_path / "images"), str(tmp_path / "labels"), "-o", str(path), "--validation", "0.25"]
    assert main(words) == 0
    content = json.loads(path.read_text())
    kept = {patients[int(case["image"][-1])] for case in content["training"]}
    held_out = [patients[int(case["image"][-1])] for case in content["validation"]]
    assert held_out
    assert bool(kept & set(held_out)) is divided


def _without_preamble(path):
    dataset = pydicom.dcmread(path)
    dataset.file_meta = FileMetaDataset()
    dataset.preamble = None
    dataset.save_as(path, enforce_file_format=False, implicit_vr=True, little_endian=True)


def _with_directory(path):
    directory = pydicom.Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.FileSetID = "EXPORT"
    directory.DirectoryRecordSequence = []
    directory.save_as(path.parent / "DICOMDIR", enforce_file_format=True)


def _with_an_issuer(path):
    if path.parent.name in ("case_0", "case_1"):  # one study of each patient
        dataset = pydicom.dcmread(path)
        dataset.IssuerOfPatientID = "HOSPITAL"
        dataset.save_as(path)


@pytest.mark.parametrize("spoil", [_without_preamble, _with_directory, _with_an_issuer])
def test_a_patient_is_known_from_bare_files_behind_a_dicomdir_and_with_an_issuer_or_without(tmp_path, spoil):
    (tmp_path / "labels").mkdir()
    for number, patient in enumerate("abab"):
        folder = tmp_path / "images" / f"case_{number}"

        def name_patient(_, header, patient=patient):
            header.PatientID = patient

        made = make_series(folder, shape=(8, 8, 4), series=number + 1, study=number + 1, change=name_patient)
        make_nifti(tmp_path / "labels" / f"case_{number}.nii.gz", np.zeros((8, 8, 4), np.uint8), made.affine)
        for path in sorted(folder.iterdir()):
            spoil(path)
    path = tmp_path / "list.json"
    for seed in range(4):
        words = ["datalist", str(tmp_path / "images"), str(tmp_path / "labels"), "-o", str(path), "--seed", str(seed)]
        assert main([*words, "--validation", "0.5"]) == 0
        held_out = {int(case["image"][-1]) % 2 for case in json.loads(path.read_text())["validation"]}
        assert len(held_out) == 1
