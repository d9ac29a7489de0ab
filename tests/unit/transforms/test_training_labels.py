"""Training labels from DICOM SEG and 3D Slicer: our own writers, highdicom, slicerio and slicer-core read back."""

import os
import subprocess
import sys
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from monai.data import MetaTensor

from lightunet_monai.errors import GeometryError, UnreadableFileError, UnsupportedImageError
from lightunet_monai.labels import LabelTable
from lightunet_monai.outputs import write_dicom_seg, write_nrrd, write_seg_nrrd
from lightunet_monai.transforms import LoadImageVolumed
from lightunet_monai.transforms.load_label_map import load_label_map
from lightunet_monai.transforms.model_grid import unify_lesions
from lightunet_monai.transforms.read_dicom_seg import referenced_series
from lightunet_monai.transforms.segment_labels import NamedSegment, label_of
from tests.builders.segmentation import KINDS, MASS, ONE_LABEL, SKIN, THREE_LABELS, make_case
from tests.builders.volume import make_affine

ROOT = Path(__file__).resolve().parents[3]
SLICER_PYTHON = ROOT / ".venv-slicer" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
FINDING = highdicom.sr.CodedConcept("49755003", "SCT", "Morphologically Altered Structure")


@pytest.mark.parametrize("at", [70, 110])
def test_a_label_map_with_a_damaged_nifti_header_is_refused(tmp_path, at):
    path = tmp_path / "labels.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), make_affine()), path)
    data = bytearray(path.read_bytes())
    data[at : at + 2] = b"\x80\x7f"
    path.write_bytes(data)
    with pytest.raises(UnreadableFileError, match="cannot be read as NIfTI"):
        load_label_map(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file names of other systems are text")
@pytest.mark.parametrize("name", ["labels.nrrd", "labels.mha", "labels.seg.nrrd"])
def test_a_label_map_whose_name_is_no_text_is_refused(tmp_path, name):
    path = tmp_path / os.fsdecode(b"M\xfcller " + name.encode())
    path.write_bytes(b"NRRD0004\n")
    with pytest.raises(UnreadableFileError, match="not UTF-8"):
        load_label_map(path)


@pytest.mark.parametrize("name", ["labels.nrrd", "labels.mha", "labels.seg.nrrd"])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.7, 0.9])
def test_packed_labels_that_are_damaged_are_refused(tmp_path, name, part):
    values = (np.random.default_rng(0).random((20, 30, 40)) > 0.5).astype(np.uint8)
    image = SimpleITK.GetImageFromArray(values)
    for key, value in {"ID": "a", "Name": "tumor", "LabelValue": "1"}.items() if "seg" in name else ():
        image.SetMetaData(f"Segment0_{key}", value)
    path = tmp_path / name
    SimpleITK.WriteImage(image, str(path), useCompression=True)
    np.testing.assert_array_equal(load_label_map(path).as_tensor()[0], values.T)
    data = bytearray(path.read_bytes())
    data[int(part * len(data))] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UnreadableFileError, match=r"labels\."):
        load_label_map(path)


def test_a_single_slice_of_colours_is_no_label_map(tmp_path):
    colours = SimpleITK.GetImageFromArray(np.ones((1, 8, 8, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(colours, str(tmp_path / "colours.mha"))
    with pytest.raises(UnsupportedImageError, match=r"colours\.mha"):
        load_label_map(tmp_path / "colours.mha")


def volume_of(case):
    array = torch.from_numpy(np.ascontiguousarray(case.volume_hu).astype(np.float32))[None]
    return MetaTensor(array, affine=torch.as_tensor(case.segmentation.affine))


def read(path, case, labels=ONE_LABEL):
    label_map = load_label_map(path, volume_of(case), labels)
    np.testing.assert_allclose(label_map.affine, case.segmentation.affine)
    return label_map.as_tensor()[0].numpy()


@pytest.mark.parametrize("kind", ["binary", "labelmap", "fractional"])
@pytest.mark.parametrize("source", KINDS)
def test_a_dicom_seg_of_our_own_comes_back_on_every_grid(tmp_path, source, kind):
    case = make_case(tmp_path, source)
    path = write_dicom_seg(case.segmentation, tmp_path / "seg.dcm", kind=kind)
    np.testing.assert_array_equal(read(path, case), case.segmentation.label_map)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_several_structures_keep_their_label_values(tmp_path, kind):
    case = make_case(tmp_path, "oblique", labels=THREE_LABELS)
    path = write_dicom_seg(case.segmentation, tmp_path / "seg.dcm", kind=kind)
    np.testing.assert_array_equal(read(path, case, THREE_LABELS), case.segmentation.label_map)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("is_implicit", [True, False])
def test_a_dicom_seg_without_preamble_and_file_meta_is_read_too(tmp_path, kind, is_implicit):
    case = make_case(tmp_path, "axial")
    path = write_dicom_seg(case.segmentation, tmp_path / "seg.dcm", kind=kind)
    series = referenced_series(path)
    dataset = pydicom.dcmread(path)
    bare = pydicom.Dataset(dataset)
    pydicom.dcmwrite(path, bare, implicit_vr=is_implicit, little_endian=True, enforce_file_format=False)
    assert b"DICM" not in path.read_bytes()[:200]
    assert referenced_series(path) == series != ()
    assert np.array_equal(read(path, case), case.segmentation.label_map)


def test_an_empty_dicom_seg_is_a_case_without_a_lesion(tmp_path):
    case = make_case(tmp_path, empty=True)
    assert not read(write_dicom_seg(case.segmentation, tmp_path / "seg.dcm"), case).any()


def highdicom_seg(case, path, kind, names=("tumor",), masks=None, code="4147007"):
    """A segmentation by highdicom from the source files themselves, in the order of their names."""
    files = [pydicom.dcmread(item) for item in sorted(case.folder.iterdir())]
    for item in files:
        for keyword in ("PatientSex", "PatientBirthDate", "StudyID", "StudyDate", "StudyTime", "AccessionNumber"):
            item.setdefault(keyword, "")
        item.setdefault("ReferringPhysicianName", "")
    order = {item.sop_instance_uid: index for index, item in enumerate(case.segmentation.source.slices)}
    planes = [order[item.SOPInstanceUID] for item in files]
    masks = [case.segmentation.label_map > 0] if masks is None else masks
    array = np.stack([mask.transpose(2, 1, 0)[planes] for mask in masks], axis=-1)
    if kind == highdicom.seg.SegmentationTypeValues.FRACTIONAL:
        array = np.where(array, 0.8, 0.3).astype(np.float32)
    elif kind == highdicom.seg.SegmentationTypeValues.LABELMAP:
        array = (array * np.arange(1, len(masks) + 1)).max(axis=-1)
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=FINDING,
            segmented_property_type=highdicom.sr.CodedConcept(code, "SCT", name),
            algorithm_type="MANUAL",
        )
        for number, name in enumerate(names, start=1)
    ]
    highdicom.seg.Segmentation(
        source_images=files,
        pixel_array=array.astype(np.float32 if array.dtype.kind == "f" else np.uint8),
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid="2.25.500",
        series_number=5,
        sop_instance_uid="2.25.501",
        instance_number=1,
        manufacturer="somebody",
        manufacturer_model_name="else",
        software_versions="1",
        device_serial_number="1",
    ).save_as(path)
    return path


@pytest.mark.parametrize("kind", list(highdicom.seg.SegmentationTypeValues))
@pytest.mark.parametrize("source", ["axial", "coronal", "oblique", "anisotropic"])
def test_a_seg_that_highdicom_wrote_lies_on_the_slices_of_its_series(tmp_path, source, kind):
    case = make_case(tmp_path, source)
    path = highdicom_seg(case, tmp_path / "seg", kind)  # without a file name extension
    np.testing.assert_array_equal(read(path, case), case.segmentation.label_map)


@pytest.mark.parametrize("attribute", ["LongCodeValue", "URNCodeValue"])
def test_a_code_of_a_seg_may_be_a_long_one(tmp_path, attribute):
    case = make_case(tmp_path)
    path = highdicom_seg(case, tmp_path / "seg.dcm", highdicom.seg.SegmentationTypeValues.BINARY)
    dataset = pydicom.dcmread(path)
    code = dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    setattr(code, attribute, f"{code.CodeValue}0000000")
    del code.CodeValue
    dataset.save_as(path)
    np.testing.assert_array_equal(read(path, case), case.segmentation.label_map)  # by its name


def test_a_seg_of_another_series_is_refused_with_the_distance(tmp_path):
    case = make_case(tmp_path)
    path = write_dicom_seg(case.segmentation, tmp_path / "seg.dcm")
    volume = volume_of(case)
    volume.affine = torch.as_tensor(make_affine(origin=(3.3, 2, 1)))
    with pytest.raises(GeometryError, match=r"seg\.dcm.*voxels"):
        load_label_map(path, volume, ONE_LABEL)
    half_a_voxel = case.segmentation.affine.copy()
    half_a_voxel[:3, 3] += half_a_voxel[:3, 0] / 2
    volume.affine = torch.as_tensor(half_a_voxel)
    with pytest.raises(GeometryError, match=r"0\.500 voxels beside"):
        load_label_map(path, volume, ONE_LABEL)
    with pytest.raises(GeometryError, match="outside of the volume"):
        load_label_map(path, volume_of(case)[:, :, :, 4:9], ONE_LABEL)
    with pytest.raises(UnsupportedImageError, match="without its volume"):
        load_label_map(path)


def test_segments_that_no_label_fits_and_overlaps_are_refused(tmp_path):
    case = make_case(tmp_path)
    binary = highdicom.seg.SegmentationTypeValues.BINARY
    unknown = highdicom_seg(case, tmp_path / "a.dcm", binary, names=("Segment_1",), code="85756007")
    with pytest.raises(UnsupportedImageError, match=r"'Segment_1' \(SCT 85756007\) is no label.*tumor or Breast mass"):
        read(unknown, case)
    mask = case.segmentation.label_map > 0
    both = highdicom_seg(case, tmp_path / "b.dcm", binary, names=("tumor", "skin"), masks=[mask, mask], code="1")
    with pytest.raises(UnsupportedImageError, match=r"voxels belong to the labels 2 and 1"):
        read(both, case, THREE_LABELS)


def test_a_damaged_seg_and_another_dicom_object_are_refused(tmp_path):
    case = make_case(tmp_path)
    with pytest.raises(UnsupportedImageError, match="modality CT, expected a Segmentation"):
        read(next(case.folder.iterdir()), case)
    path = write_dicom_seg(case.segmentation, tmp_path / "seg.dcm")
    dataset = pydicom.dcmread(path)
    del dataset.SharedFunctionalGroupsSequence
    dataset.save_as(path)
    with pytest.raises(UnreadableFileError, match=r"seg\.dcm: damaged"):
        read(path, case)


@pytest.mark.parametrize("source", ["axial", "oblique", "left-handed", "anisotropic"])
def test_a_seg_nrrd_of_our_own_comes_back(tmp_path, source):
    case = make_case(tmp_path, source, labels=THREE_LABELS)
    path = write_seg_nrrd(case.segmentation, tmp_path / "labelmap.seg.nrrd")
    np.testing.assert_array_equal(read(path, case, THREE_LABELS), case.segmentation.label_map)
    alone = load_label_map(path, labels=THREE_LABELS)
    np.testing.assert_array_equal(alone.as_tensor()[0].numpy(), case.segmentation.label_map)
    plain = write_nrrd(case.segmentation, tmp_path / "labelmap.nrrd")
    np.testing.assert_array_equal(read(plain, case, THREE_LABELS), case.segmentation.label_map)


def test_a_seg_nrrd_that_slicerio_wrote_is_matched_by_name_not_by_value(tmp_path):
    slicerio = pytest.importorskip("slicerio")
    case = make_case(tmp_path, "oblique", labels=THREE_LABELS)
    truth = case.segmentation.label_map
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ case.segmentation.affine
    segmentation = slicerio.create_segmentation(truth.shape, lps)
    half = (truth == 1) & (np.indices(truth.shape)[0] % 2 == 0)
    for name, mask in (("Skin", truth == 2), ("Tumor 1", truth == 1), ("Tumor 2", half), ("Nipple", truth == 3)):
        slicerio.add_segment(segmentation, mask, {"name": name})
    assert segmentation["voxels"].ndim == 4  # the second tumour overlaps the first one
    slicerio.write_segmentation(str(tmp_path / "made.seg.nrrd"), segmentation)
    np.testing.assert_array_equal(read(tmp_path / "made.seg.nrrd", case, THREE_LABELS), truth)


@pytest.mark.slicer
@pytest.mark.parametrize("source", ["axial", "oblique"])
@pytest.mark.parametrize("crop", [False, True])
def test_layers_that_slicer_saved_become_labels_by_their_codes(tmp_path, source, crop):
    if not SLICER_PYTHON.exists():
        pytest.skip(".venv-slicer is missing; make it with scripts/setup_slicer_tests.sh")
    case = make_case(tmp_path, source)
    mask = case.segmentation.label_map > 0
    grown = mask | np.roll(mask, 1, axis=0)
    masks = [grown & ~mask, mask, grown]  # the last one overlaps both, so Slicer needs a second layer
    path = slicer_seg(tmp_path, case, masks, ("Rim", "Mass A", "Mass B"), ("39937001", "4147007", "4147007"), crop)
    with open(path, "rb") as stream:
        assert b"dimension: 4" in stream.read(2000)
    with pytest.raises(UnsupportedImageError, match="Rim"):
        read(path, case)
    with pytest.raises(UnsupportedImageError, match=r"labels [12] and [12]"):
        read(path, case, THREE_LABELS)
    path = slicer_seg(tmp_path, case, masks[1:], ("Mass A", "Mass B"), ("4147007", "4147007"), crop)
    np.testing.assert_array_equal(read(path, case) > 0, grown)


def slicer_seg(folder, case, masks, names, types, crop):
    request = {f"mask{index}": mask for index, mask in enumerate(masks)}
    np.savez(folder / "request.npz", affine=case.segmentation.affine, names=names, types=types, crop=crop, **request)
    path = folder / "saved.seg.nrrd"
    program = ROOT / "tests" / "builders" / "slicer_writer.py"
    subprocess.run([SLICER_PYTHON, program, folder / "request.npz", path], check=True, capture_output=True)
    return path


def test_a_seg_nrrd_without_segments_or_with_a_broken_one_is_refused(tmp_path):
    case = make_case(tmp_path)
    path = tmp_path / "labels.seg.nrrd"
    path.write_bytes(write_nrrd(case.segmentation, tmp_path / "plain.nrrd").read_bytes())
    with pytest.raises(UnsupportedImageError, match="0 named segments"):
        read(path, case)
    text = write_seg_nrrd(case.segmentation, path).read_bytes()
    path.write_bytes(text.replace(b"Segment0_LabelValue:=1", b"Segment0_LabelValue:=x"))
    with pytest.raises(UnreadableFileError, match="segment 0 has no layer or label value"):
        read(path, case)
    path.write_bytes(text[:100])
    with pytest.raises(UnreadableFileError, match=r"labels\.seg\.nrrd"):
        read(path, case)


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("Tumour 2", ("SCT", "85756007"), "tumor"),  # 3D Slicer gives every new segment the type "Tissue"
        ("LESION", None, "tumor"),
        ("Segment_1", ("SCT", "86049000"), "tumor"),
        ("Segment_1", ("SRT", "M-8FFFF"), "tumor"),
        ("Segment_1", ("SRT", "M-03000"), "tumor"),
        ("Fat", None, "adipose"),
        ("Segment_3", ("SCT", "39937001"), "skin"),
        ("Skin", ("SCT", "52988006"), "skin"),  # a name of the label's own goes before another code
    ],
)
def test_names_and_codes_that_people_use_for_the_same_structure_are_known(name, code, expected):
    assert label_of(NamedSegment(name, code), LabelTable.shipped("tissues"), "x").name == expected


@pytest.mark.parametrize(
    "segment",
    [
        NamedSegment("Segment_1", ("SCT", "85756007")),
        NamedSegment("Cyst", ("SCT", "367643001")),
        NamedSegment("Segment_1", ("SRT", "T-04000")),
        NamedSegment("Segment_1", ("99LOCAL", "4147007")),
    ],
)
def test_other_segments_are_no_guess(segment):
    with pytest.raises(UnsupportedImageError, match="is no label of the model"):
        label_of(segment, LabelTable.shipped(), "x")


def test_a_segment_is_a_label_by_its_code_and_else_by_its_name():
    code = ("SCT", "4147007")
    assert label_of(NamedSegment("Segment_1", code), THREE_LABELS, "x") is MASS
    assert label_of(NamedSegment("breast  MASS 2"), THREE_LABELS, "x") is MASS
    assert label_of(NamedSegment("Skin", ("SCT", "85756007")), THREE_LABELS, "x") is SKIN
    with pytest.raises(UnsupportedImageError, match="fits tumor and skin"):
        label_of(NamedSegment("Skin", code), THREE_LABELS, "x")
    twin = LabelTable((MASS, type(MASS)(2, "other", "Other mass", MASS.color, MASS.category, MASS.type)))
    assert label_of(NamedSegment("other mass", code), twin, "x").value == 2
    with pytest.raises(UnsupportedImageError, match="fits tumor and other"):
        label_of(NamedSegment("Segment_1", code), twin, "x")


def test_the_loader_of_the_bundle_reads_segmentations_beside_a_dicom_series(tmp_path):
    case = make_case(tmp_path)
    load = LoadImageVolumed("image", label_keys="label")
    for path in (
        write_dicom_seg(case.segmentation, tmp_path / "seg.dcm"),
        write_seg_nrrd(case.segmentation, tmp_path / "labels.seg.nrrd"),
    ):
        label = load({"image": case.folder, "label": str(path)})["label"]
        np.testing.assert_array_equal(label.as_tensor()[0].numpy(), case.segmentation.label_map)


def test_a_turned_part_of_the_grid_is_found_by_position(tmp_path):
    case = make_case(tmp_path)
    segmentation = case.segmentation
    path = write_seg_nrrd(segmentation, tmp_path / "labels.seg.nrrd")
    image = nibabel.Nifti1Image(segmentation.label_map, segmentation.affine)
    turned = nibabel.as_closest_canonical(image)
    volume = MetaTensor(
        torch.tensor(np.ascontiguousarray(turned.dataobj)).float()[None], affine=torch.as_tensor(turned.affine)
    )
    assert not np.allclose(turned.affine, segmentation.affine)
    found = load_label_map(path, volume, ONE_LABEL).as_tensor()[0].numpy()
    np.testing.assert_array_equal(found, np.asarray(turned.dataobj))


@pytest.mark.parametrize("value", [2, 255])
def test_a_mask_of_any_one_value_trains_as_a_mask_of_ones(tmp_path, value):
    from lightunet_monai.transforms import ToModelGridd

    affine = make_affine((0.5, 0.5, 0.7))
    voxels = np.zeros((40, 38, 30), dtype=np.uint8)
    voxels[15:22, 14:21, 12:18] = 1
    paths = {"image": tmp_path / "image.nii.gz", 1: tmp_path / "ones.nii.gz", value: tmp_path / "mask.nii.gz"}
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16) * 50 - 90, affine), paths["image"])
    load = LoadImageVolumed(keys="image", label_keys=["label"])
    to_grid = ToModelGridd(keys="label", spacing=(1.25, 1.25, 1.25), label_keys=["label"])
    results = {}
    for one in (1, value):
        nibabel.save(nibabel.Nifti1Image(voxels * one, affine), paths[one])
        loaded = load({"image": str(paths["image"]), "label": str(paths[one])})
        assert loaded["label"].max() == 1
        results[one] = to_grid(loaded)["label"].as_tensor()
    assert results[1].sum() > 0
    assert torch.equal(results[1], results[value])


def test_a_label_map_of_several_values_is_refused_where_lesions_alone_are_trained(tmp_path):
    from lightunet_monai.transforms import ToModelGridd

    voxels = np.zeros((20, 20, 20), dtype=np.uint8)
    voxels[4:9], voxels[5:7, 5:7, 5:7] = 2, 1
    path = tmp_path / "tissues.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, make_affine((1.0, 1.0, 1.0))), path)
    label = load_label_map(path, labels=ONE_LABEL)
    with pytest.raises(UnsupportedImageError, match=r"tissues\.nii\.gz: holds the values 0, 1, 2, expected 0 and one"):
        ToModelGridd(keys="label", spacing=(1.25, 1.25, 1.25), label_keys=["label"])({"label": label})


@pytest.mark.parametrize(
    ("lesion", "labels"), [(255, THREE_LABELS.values), (255, ()), (3, ()), (1, THREE_LABELS.values)]
)
def test_lesions_may_have_one_value_that_is_no_label_with_tissues_too(lesion, labels):
    drawn = torch.zeros((1, 3, 3, 3), dtype=torch.uint8)
    drawn[0, 1, 1] = lesion
    assert unify_lesions(MetaTensor(drawn.clone()), labels, "a").unique().tolist() == [0, 1]


@pytest.mark.parametrize("values", [(1, 255), (2,)])
def test_values_of_unknown_meaning_beside_tissues_are_refused(values):
    drawn = torch.zeros((1, 3, 3, 3), dtype=torch.uint8)
    for place, value in enumerate(values):
        drawn[0, place] = value
    with pytest.raises(UnsupportedImageError, match=r"a\.nii: the label map holds the values \["):
        unify_lesions(MetaTensor(drawn), THREE_LABELS.values, "a.nii")


def test_a_slicer_segmentation_in_two_files_is_refused(tmp_path):
    (tmp_path / "a.seg.nhdr").write_text("NRRD0004")
    with pytest.raises(UnsupportedImageError, match=r"Save it as \.seg\.nrrd"):
        load_label_map(tmp_path / "a.seg.nhdr")
