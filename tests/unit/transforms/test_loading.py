"""MONAI's way into the inputs: paths, sources, volumes in memory, labels, lists of cases."""

import contextlib
import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged, SaveImaged

from lightunet_monai.errors import (
    GeometryError,
    NoImageFoundError,
    OutputError,
    UnreadableFileError,
    UnsupportedImageError,
)
from lightunet_monai.sources import DicomSeries, ImageFile
from lightunet_monai.transforms import (
    LoadImage2Dd,
    LoadImageVolumed,
    RandSampleSlicesd,
    SaveImageLabelMapd,
    ToModelGridd,
    list_cases,
    list_images,
    list_labelled_cases,
)
from lightunet_monai.transforms.check_label_grids import check_label_grids
from lightunet_monai.transforms.load_label_map import load_label_map
from tests.builders.pictures import make_dicom2d, make_picture
from tests.builders.series import make_series
from tests.builders.volume import make_affine, make_nifti, make_voxels


def test_a_dicom_folder_a_nifti_file_and_a_source_load_alike(tmp_path):
    truth = make_series(tmp_path / "series")
    path = make_nifti(tmp_path / "a.nii.gz", truth.voxels, truth.affine)
    load = LoadImageVolumed("image")
    for item in (str(tmp_path / "series"), tmp_path / "series", path, ImageFile(path)):
        volume = load({"image": item})["image"]
        assert volume.dtype == torch.float32
        np.testing.assert_array_equal(volume.as_tensor()[0].numpy(), truth.voxels)
        np.testing.assert_allclose(volume.affine, truth.affine, atol=1e-4)


def test_a_volume_in_memory_passes_through_unchanged():
    volume = MetaTensor(torch.from_numpy(make_voxels())[None])
    assert LoadImageVolumed("image")({"image": volume})["image"] is volume


@pytest.mark.parametrize(
    ("volume", "error", "word"),
    [
        (torch.rand(1, 4, 5, 6), GeometryError, "affine"),
        (np.zeros((1, 4, 5, 6), np.float32), GeometryError, "affine"),
        (MetaTensor(torch.rand(4, 5, 6)), UnsupportedImageError, r"\(1, X, Y, Z\)"),
        (
            MetaTensor(torch.rand(1, 4, 5, 6), affine=torch.diag(torch.tensor([1.0, 1.0, 1000.0, 1.0]))),
            GeometryError,
            "mm",
        ),
        (
            MetaTensor(torch.zeros(1, 400, 4, 4), affine=torch.diag(torch.tensor([9.0, 1.0, 1.0, 1.0]))),
            GeometryError,
            "mm",
        ),
    ],
)
def test_a_volume_in_memory_without_the_geometry_of_one_is_refused(volume, error, word):
    with pytest.raises(error, match=word):
        LoadImageVolumed("image")({"image": volume})


@pytest.mark.parametrize("loader", [LoadImageVolumed, LoadImage2Dd])
@pytest.mark.parametrize(
    ("image", "word"), [(["1.dcm", "2.dcm"], "type list"), (None, "type NoneType"), (b"a.nii", "type bytes")]
)
def test_what_names_no_image_is_refused_by_its_type(loader, image, word):
    with pytest.raises(UnsupportedImageError, match=f"{word}, expected a path") as caught:
        loader("image")({"image": image})
    assert "the folder that holds them" in caught.value.hint


@pytest.mark.parametrize("loader", [LoadImageVolumed, LoadImage2Dd])
def test_an_empty_path_is_not_the_current_folder(loader, tmp_path, monkeypatch):
    make_series(tmp_path / "series")
    monkeypatch.chdir(tmp_path / "series")
    with pytest.raises(NoImageFoundError, match="An empty path"):
        loader("image")({"image": ""})


def test_a_refused_study_never_falls_back_to_another_reader(tmp_path):
    make_series(tmp_path / "series", defect="gap")
    with pytest.raises(GeometryError):
        LoadImageVolumed("image")({"image": tmp_path / "series"})


def test_hosts_recognise_the_loader_by_class_and_by_name():
    assert issubclass(LoadImageVolumed, LoadImaged)
    assert "LoadImage" in LoadImageVolumed.__name__


@pytest.fixture
def a_pair(tmp_path):
    affine = make_affine()
    image = make_nifti(tmp_path / "image.nii.gz", affine=affine)
    label = make_nifti(tmp_path / "label.nii.gz", (make_voxels() > 40).astype(np.uint8), affine)
    return image, label


def test_a_label_map_loads_on_the_grid_of_its_volume(a_pair):
    image, label = a_pair
    case = LoadImageVolumed("image", label_keys="label")({"image": image, "label": label})
    assert case["label"].shape == case["image"].shape
    assert set(case["label"].unique().tolist()) == {0, 1}


def test_a_label_map_on_another_grid_is_refused_with_the_distance(a_pair, tmp_path):
    image, _ = a_pair
    moved = make_nifti(
        tmp_path / "moved.nii.gz", (make_voxels() > 40).astype(np.uint8), make_affine(origin=(11, -20, 30))
    )
    with pytest.raises(GeometryError, match=r"1\.000 mm away"):
        LoadImageVolumed("image", label_keys="label")({"image": image, "label": moved})
    other = make_nifti(tmp_path / "other.nii.gz", np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(GeometryError, match=r"\(3, 4, 5\)"):
        LoadImageVolumed("image", label_keys="label")({"image": image, "label": other})


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPS", "RAI", "SPL", "AIL"])
def test_a_label_map_with_other_axes_is_turned_to_those_of_its_volume(a_pair, tmp_path, axes, in_memory):
    image, label = a_pair
    whole = nib.load(label)
    target = nib.orientations.axcodes2ornt(axes)
    turned = whole.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(whole.affine), target))
    nib.save(turned, tmp_path / "turned.nii.gz")
    memory = MetaTensor(
        torch.from_numpy(np.asanyarray(turned.dataobj).copy())[None], affine=torch.from_numpy(turned.affine)
    )
    loader = LoadImageVolumed("image", label_keys="label")
    case = loader({"image": image, "label": memory if in_memory else tmp_path / "turned.nii.gz"})
    straight = loader({"image": image, "label": label})
    assert case["label"].as_tensor().equal(straight["label"].as_tensor().to(case["label"].dtype))
    assert case["label"].affine.equal(case["image"].affine)
    if not in_memory:
        check_label_grids([{"image": str(image), "label": str(tmp_path / "turned.nii.gz")}], loader)


def test_lesions_of_another_value_than_those_before_are_told_once(a_pair, tmp_path, caplog):
    image, label = a_pair
    whole = nib.load(label)
    values = np.asanyarray(whole.dataobj)
    loader = LoadImageVolumed("image", label_keys="label")
    for name, factor in (("empty", 0), ("a", 1), ("b", 1), ("c", 2), ("d", 3)):
        nib.save(nib.Nifti1Image(values * np.uint8(factor), whole.affine), tmp_path / f"{name}.nii.gz")
        assert set(loader({"image": image, "label": tmp_path / f"{name}.nii.gz"})["label"].unique().tolist()) <= {0, 1}
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{tmp_path / 'c.nii.gz'}: its lesions have the value 2, those of {tmp_path / 'a.nii.gz'} 1")


def test_a_turned_label_map_that_lies_elsewhere_is_refused(a_pair, tmp_path):
    image, label = a_pair
    whole = nib.load(label)
    affine = whole.affine @ np.diag([-1, 1, 1, 1])  # turned about its first voxel: the volume lies on the other side
    nib.save(nib.Nifti1Image(np.asanyarray(whole.dataobj), affine), tmp_path / "mirrored.nii.gz")
    case = {"image": str(image), "label": str(tmp_path / "mirrored.nii.gz")}
    loader = LoadImageVolumed("image", label_keys="label")
    for look in (loader, lambda case: check_label_grids([case], loader)):
        with pytest.raises(GeometryError, match="mm away from its volume"):
            look(case)


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_rounded_header_moves_no_label_on_the_grid_of_the_model(tmp_path, in_memory):
    """60 voxels of 0.50003 mm are a voxel of 1.25 mm more than 60 of 0.5 mm, and half a voxel elsewhere."""
    shape, spacing = (20, 20, 60), (0.5, 0.5, 0.5)
    values = np.zeros(shape, np.uint8)
    values[10, 10, 20:31] = 1
    image = make_nifti(tmp_path / "image.nii.gz", np.zeros(shape, np.int16), make_affine(spacing=spacing))
    rounded = make_affine(spacing=(0.5, 0.5, 0.50003))
    label = make_nifti(tmp_path / "label.nii.gz", values, rounded)
    item = MetaTensor(torch.from_numpy(values)[None], affine=torch.as_tensor(rounded)) if in_memory else label
    case = LoadImageVolumed("image", label_keys="label")({"image": image, "label": item})
    case = ToModelGridd(["image", "label"], spacing=[1.25] * 3, label_keys=["label"])(case)
    assert case["label"].shape == case["image"].shape == (1, 8, 8, 24)
    np.testing.assert_array_equal(case["label"].affine, case["image"].affine)


def test_a_label_map_may_be_nrrd_with_the_same_world_positions(a_pair, tmp_path):
    _, label = a_pair
    nifti = load_label_map(label)
    image = sitk.ReadImage(str(label))
    sitk.WriteImage(image, str(tmp_path / "label.nrrd"))
    nrrd = load_label_map(tmp_path / "label.nrrd")
    assert torch.equal(nifti.as_tensor(), nrrd.as_tensor())
    np.testing.assert_allclose(nifti.affine, nrrd.affine, atol=1e-5)


def test_a_volume_given_as_label_map_is_refused(tmp_path):
    with pytest.raises(UnsupportedImageError, match="whole numbers"):
        load_label_map(make_nifti(tmp_path / "ct.nii.gz"))
    (tmp_path / "broken.nii.gz").write_bytes(b"not a volume")
    with pytest.raises(UnreadableFileError, match="broken"):
        load_label_map(tmp_path / "broken.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((4, 4), np.uint8), np.eye(4)), tmp_path / "flat.nii.gz")
    with pytest.raises(UnsupportedImageError, match="2 dimensions"):
        load_label_map(tmp_path / "flat.nii.gz")


def test_a_label_map_with_one_bit_changed_is_never_another_one(tmp_path):
    path = make_nifti(tmp_path / "label.nii.gz", np.random.default_rng(0).integers(0, 2, (20, 20, 20), np.uint8))
    truth, good = load_label_map(path).as_tensor(), path.read_bytes()
    for at in np.linspace(len(good) // 5, len(good) - 3, 12).astype(int):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with contextlib.suppress(UnreadableFileError):  # some bits are not used
            assert torch.equal(load_label_map(path).as_tensor(), truth)
    path.write_bytes(good[:-1])
    with pytest.raises(UnreadableFileError, match="label"):
        load_label_map(path)


def test_cases_are_every_ct_volume_below_a_folder(tmp_path):
    make_series(tmp_path / "one", series=1)
    make_series(tmp_path / "two", series=2)
    make_nifti(tmp_path / "three.nii.gz")

    def to_mr(_, dataset):
        dataset.Modality = "MR"

    make_series(tmp_path / "mr", series=3, change=to_mr)
    kinds = [type(case["image"]) for case in list_cases(tmp_path)]
    assert sorted(kind.__name__ for kind in kinds) == [DicomSeries.__name__] * 2 + [ImageFile.__name__]


def test_a_folder_without_a_volume_is_named(tmp_path):
    with pytest.raises(NoImageFoundError, match=tmp_path.name):
        list_cases(tmp_path)


def test_images_are_listed_without_hidden_files_folders_and_others(tmp_path):
    taken = [make_picture(tmp_path / name) for name in ("a.png", "b.JPG", "c.jfif", "d.tiff")]
    taken.append(make_dicom2d(tmp_path / "e.dcm"))
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder.png").mkdir()
    assert [case["image"] for case in list_images(tmp_path)] == [str(path) for path in taken]
    odd = make_dicom2d(tmp_path / ".IM_0001")
    assert list_images(odd) == [{"image": str(odd)}]
    with pytest.raises(NoImageFoundError, match=r"no 2-D image"):
        list_images(tmp_path / "folder.png")


def test_a_datalist_gives_absolute_paths_and_names_what_is_missing(a_pair, tmp_path):
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"training": [{"image": "image.nii.gz", "label": "label.nii.gz"}], "test": []}))
    assert list_labelled_cases(path, "training") == [{"image": str(a_pair[0]), "label": str(a_pair[1])}]
    with pytest.raises(NoImageFoundError, match="'test': no case"):
        list_labelled_cases(path, "test")
    with pytest.raises(UnreadableFileError, match="'validation'"):
        list_labelled_cases(path, "validation")
    a_pair[1].unlink()
    with pytest.raises(NoImageFoundError, match=r"label\.nii\.gz"):
        list_labelled_cases(path, "training")


def test_a_datalist_that_is_none_is_told_in_a_line(a_pair, tmp_path):
    path = tmp_path / "datalist.json"
    with pytest.raises(NoImageFoundError, match=r"datalist.json: no such file.") as caught:
        list_labelled_cases(path, "training")
    path.mkdir()
    with pytest.raises(UnreadableFileError, match="cannot be read: "):
        list_labelled_cases(path, "training")
    path.rmdir()
    for content in (a_pair[0].read_bytes() * 200, b"{'training': []}", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(UnreadableFileError, match=r"datalist.json: is no JSON") as caught:
            list_labelled_cases(path, "training")
        assert len(str(caught.value)) < 600
    path.write_text("[1]")
    with pytest.raises(UnreadableFileError, match="found list, expected an object"):
        list_labelled_cases(path, "training")
    path.write_text(json.dumps({"labels": {}, "training": [], "testing": [], "validation": {"image": 1}}))
    with pytest.raises(UnreadableFileError, match="no section 'validation', found 'training', 'testing'"):
        list_labelled_cases(path, "validation")
    for case, said in (({"image": "image.nii.gz"}, "without 'label'"), ("image.nii.gz", "of another form")):
        path.write_text(json.dumps({"training": [case]}))
        with pytest.raises(UnreadableFileError, match=f"section 'training': found a case {said}, expected image"):
            list_labelled_cases(path, "training")


def test_the_section_test_may_be_called_testing(a_pair, tmp_path):
    path, case = tmp_path / "datalist.json", {"image": str(a_pair[0]), "label": str(a_pair[1])}
    path.write_text(json.dumps({"testing": [case]}))
    assert list_labelled_cases(path, "test") == [case]
    assert list_labelled_cases(path, "test", fold=0) == [case]
    path.write_text(json.dumps({"testing": [case], "test": []}))
    with pytest.raises(NoImageFoundError):
        list_labelled_cases(path, "test")


@pytest.mark.parametrize("key", ["image", "label", "tissue"])
def test_an_empty_path_in_a_datalist_is_not_its_folder(a_pair, tmp_path, key):
    pair = {"image": str(a_pair[0]), "label": str(a_pair[1]), key: ""}
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"training": [pair]}))
    with pytest.raises(UnreadableFileError, match=f"a case with an empty {key}, expected a path"):
        list_labelled_cases(path, "training", optional=("tissue",))


def test_a_fold_is_held_out_and_the_others_train(a_pair, tmp_path):
    pair = {"image": str(a_pair[0]), "label": str(a_pair[1])}
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"training": [{**pair, "fold": fold} for fold in (0, 1, 1, 2)], "test": [pair] * 5}))
    assert [len(list_labelled_cases(path, "training", fold)) for fold in (0, 1, 2)] == [3, 2, 3]
    assert [len(list_labelled_cases(path, "validation", fold)) for fold in (0, 1, 2)] == [1, 2, 1]
    assert len(list_labelled_cases(path, "test", 1)) == 5
    with pytest.raises(NoImageFoundError, match="no case"):
        list_labelled_cases(path, "validation", 3)
    path.write_text(json.dumps({"training": [pair]}))
    with pytest.raises(UnreadableFileError, match="a case without 'fold', expected image, label and fold"):
        list_labelled_cases(path, "training", 0)


@pytest.mark.parametrize("fold", ["0", None, True, 0.5, [0]])
def test_a_fold_that_is_no_number_is_refused_and_not_shown_in_every_training(a_pair, tmp_path, fold):
    pair = {"image": str(a_pair[0]), "label": str(a_pair[1])}
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"training": [{**pair, "fold": number} for number in (0, 1.0, fold)]}))
    with pytest.raises(UnreadableFileError, match="expected a whole number") as caught:
        list_labelled_cases(path, "training", 0)
    assert f"found a case of fold {fold!r}, " in caught.value.message


def test_training_slices_have_their_neighbours_and_hold_lesions_as_often_as_asked():
    image = torch.arange(20.0).reshape(1, 1, 1, 20).expand(1, 40, 30, 20) + 1
    label = torch.zeros(1, 40, 30, 20)
    label[0, 10:14, 12:16, 7] = 1
    sample = RandSampleSlicesd((32, 32), num_samples=200, lesion_share=0.5)
    sample.set_random_state(0)
    found = sample({"image": image, "label": label})
    assert all(item["image"].shape == (3, 32, 32) and item["label"].shape == (1, 32, 32) for item in found)
    for item in found:
        below, centre, above = (float(item["image"][c, 0, 0]) for c in range(3))
        assert below == max(1.0, centre - 1)
        assert above == min(20.0, centre + 1)
    share = np.mean([bool(item["label"].any()) for item in found])
    assert 0.4 < share < 0.65
    assert float(found[0]["image"][0, 0, -1]) == 0.0  # 30 columns filled up to 32 with air


def test_label_maps_of_two_sources_with_one_name_do_not_replace_each_other(tmp_path):
    save = SaveImageLabelMapd("pred", tmp_path / "out")
    assert isinstance(save, SaveImaged)
    affine = torch.as_tensor(make_affine(axes=(2, 0, 1), signs=(-1, 1, -1), turn_degrees=12))
    for value in (1, 2):
        label_map = MetaTensor(
            torch.full((1, 4, 5, 6), value), affine=affine, meta={"filename_or_obj": "a/case.nii.gz"}
        )
        save({"pred": label_map})
    first, second = (nib.load(tmp_path / "out" / name) for name in ("case_seg.nii.gz", "case_2_seg.nii.gz"))
    assert np.asarray(first.dataobj).max() == 1
    assert np.asarray(second.dataobj).min() == 2
    assert first.get_data_dtype() == np.uint8
    np.testing.assert_allclose(first.affine, affine, atol=1e-5)
    np.testing.assert_allclose(first.get_qform(), affine, atol=1e-4)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    save = SaveImageLabelMapd("pred", tmp_path / "file" / "out")
    with pytest.raises(OutputError, match="cannot be written"):
        save({"pred": MetaTensor(torch.zeros(1, 2, 2, 2), meta={"filename_or_obj": "x"})})


def test_a_datalist_of_an_editor_that_begins_with_a_mark_is_read(a_pair, tmp_path):
    path = tmp_path / "list.json"
    content = {"training": [{"image": str(a_pair[0]), "label": str(a_pair[1])}]}
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    assert len(list_labelled_cases(path, "training")) == 1


def test_a_datalist_with_a_name_that_no_file_can_have_is_refused(a_pair, tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"training": [{"image": str(a_pair[0]), "label": "x" * 300}]}))
    with pytest.raises(NoImageFoundError, match="1 of 2 files missing, the first is"):
        list_labelled_cases(path, "training")


@pytest.mark.parametrize("space", ["LPS", "left-posterior-superior"])
def test_a_volume_in_memory_whose_affine_may_not_lead_to_ras_is_refused(space):
    volume = MetaTensor(torch.from_numpy(make_voxels())[None], affine=torch.as_tensor(make_affine()))
    assert LoadImageVolumed("image")({"image": volume})["image"] is volume
    volume.meta["space"] = space
    with pytest.raises(GeometryError, match=rf"meta\['space'\] is '{space}', expected 'RAS'"):
        LoadImageVolumed("image")({"image": volume})


@pytest.mark.parametrize(
    "affine",
    [
        torch.eye(3, dtype=torch.float64),
        torch.diag(torch.tensor([1.0, 1.0, 1.0, 2.0], dtype=torch.float64)),
        torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]], dtype=torch.float64),
    ],
)
def test_a_volume_in_memory_with_an_affine_of_another_form_is_refused(affine):
    with pytest.raises(GeometryError, match=r"the affine is .*, expected 4 x 4 numbers, the last row 0, 0, 0, 1"):
        LoadImageVolumed("image")({"image": MetaTensor(torch.zeros(1, 4, 4, 4), affine=affine)})


@pytest.mark.parametrize("shape", [(4, 4, 0), (4, 4, 1), (1, 4, 4)])
def test_a_volume_in_memory_of_no_or_one_slice_is_refused_as_its_file_is(shape):
    volume = MetaTensor(torch.zeros(1, *shape), affine=torch.as_tensor(make_affine()))
    found = " x ".join(map(str, shape))
    with pytest.raises(UnsupportedImageError, match=f"{found} voxels, expected three dimensions of 2 or more"):
        LoadImageVolumed("image")({"image": volume})


@pytest.mark.parametrize("kind", [torch.complex64, torch.bool])
def test_a_volume_in_memory_of_numbers_that_are_no_hounsfield_units_is_refused(kind):
    volume = MetaTensor(torch.from_numpy(make_voxels())[None].to(kind), affine=torch.as_tensor(make_affine()))
    with pytest.raises(UnsupportedImageError, match=f"its voxels are {kind}, expected Hounsfield units"):
        LoadImageVolumed("image")({"image": volume})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda hu: hu + 1024, "values from 0 to "),
        (lambda hu: hu / 1000 + 1.024, "values from 0 to "),
        (lambda hu: (hu / 10 + 103).astype(np.uint8), "values from "),
        (lambda hu: (hu + 1100).astype(np.uint16), "values from "),
    ],
)
def test_a_volume_in_memory_in_other_units_is_refused_as_its_file_is(change, found):
    voxels = np.maximum(make_voxels(), -1024)
    voxels[0, 0, 0] = -1024
    volume = MetaTensor(torch.from_numpy(change(voxels))[None], affine=torch.as_tensor(make_affine()))
    with pytest.raises(UnsupportedImageError, match=f"{found}.*, expected Hounsfield units"):
        LoadImageVolumed("image")({"image": volume})


def test_what_speaks_against_a_volume_in_memory_is_warned_of_once():
    volume = MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.as_tensor(make_affine()))
    loaded = LoadImageVolumed("image")({"image": volume})["image"]
    assert loaded.meta["warnings"][0] == "The volume in memory: all voxels have the value 0 HU."
    assert "warnings" not in volume.meta
    assert torch.equal(loaded.affine, volume.affine)
    assert LoadImageVolumed("image")({"image": loaded})["image"] is loaded


@pytest.mark.parametrize("kind", [">i2", ">f4", np.longdouble])
def test_an_image_in_memory_may_have_any_byte_order_and_precision(kind):
    pixels = np.arange(20.0 * 24).reshape(1, 20, 24, 1)
    image = LoadImage2Dd("image")({"image": pixels.astype(kind)})["image"]
    np.testing.assert_array_equal(image.numpy(), pixels.astype(np.float32))


@pytest.mark.parametrize("kind", [np.complex64, object, "U8"])
def test_an_image_in_memory_whose_pixels_are_no_real_numbers_is_refused(kind):
    pixels = np.arange(20.0 * 24).reshape(1, 20, 24, 1).astype(kind)
    with pytest.raises(UnsupportedImageError, match=r"its pixels are .*, expected whole or floating-point numbers"):
        LoadImage2Dd("image")({"image": pixels})


@pytest.mark.parametrize("make", [torch.as_tensor, MetaTensor])
def test_an_image_tensor_may_be_bfloat16_but_not_complex(make):
    pixels = torch.arange(20.0 * 24).reshape(1, 20, 24, 1)
    assert LoadImage2Dd("image")({"image": make(pixels.bfloat16())})["image"].dtype == torch.float32
    with pytest.raises(UnsupportedImageError, match=r"its pixels are torch\.complex64"):
        LoadImage2Dd("image")({"image": make(pixels.to(torch.complex64))})
