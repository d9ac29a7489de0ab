"""Each defect of a series: what becomes of it, and what the user reads."""

import zipfile

import numpy as np
import pydicom
import pytest

from lightunet_monai.cli import print_error
from lightunet_monai.errors import (
    AmbiguousSeriesError,
    GeometryError,
    InputError,
    SeriesNotFoundError,
    UnreadableFileError,
    UnsupportedImageError,
)
from lightunet_monai.inputs import choose_series, discover_sources, read_hu, survey
from lightunet_monai.inputs.describe import describe_source, describe_survey
from lightunet_monai.inputs.geometry import check_extent
from lightunet_monai.outputs import write_dicom_seg
from lightunet_monai.sources import DicomSeries, DicomSlice
from tests.builders.multi_frame import make_enhanced
from tests.builders.segmentation import make_case
from tests.builders.series import DEFECTS, make_series, set_hu
from tests.builders.volume import make_nifti

REFUSED = {
    "gap": (GeometryError, "gap", ("3.000 mm", "1.500 mm", "slices 5 and 6")),
    "two images per position": (GeometryError, "duplicate-positions", ("24 images at 12 positions",)),
    "odd size": (GeometryError, "mixed-size", ("24 x 18", "24 x 20")),
    "odd orientation": (GeometryError, "mixed-orientation", ("5.00 degrees",)),
    "odd pixel spacing": (GeometryError, "mixed-spacing", ("0.7000", "0.9000 x 0.8000")),
    "tilt": (GeometryError, "tilt", ("12.00 degrees",)),
    "uneven spacing": (GeometryError, "uneven-spacing", ("1.400 to 1.600 mm",)),
    "no position": (GeometryError, "no-position", ("12 of 12",)),
    "no orientation": (GeometryError, "no-position", ("12 of 12",)),
    "no pixel spacing": (GeometryError, "no-spacing", ("12 of 12",)),
    "constant position": (GeometryError, "duplicate-positions", ("12 images at 1 positions",)),
    "single slice": (GeometryError, "single-slice", ("1 slice",)),
    "no rescale": (UnsupportedImageError, "no-rescale", ("Rescale Slope",)),
    "magnetic resonance": (UnsupportedImageError, "modality", ("MR", "CT")),
    "colour": (UnsupportedImageError, "no-volume", ("RGB",)),
    "two kernels": (AmbiguousSeriesError, "ambiguous", ("B30f", "B70f", "24 x 20 x 12")),
    "two phases": (AmbiguousSeriesError, "ambiguous", ("acquisition 1", "acquisition 2")),
    "interleaved kernels": (AmbiguousSeriesError, "ambiguous", ("24 x 20 x 6",)),
    "two patients": (AmbiguousSeriesError, "ambiguous", ("patient 1", "patient 2")),
}
ACCEPTED = {
    None: "",
    "duplicate": "1 identical copies",
    "localizer": "",
    "unnamed localizer": "",
    "no instance number": "",
    "reversed instance numbers": "",
    "no frame of reference": "",
    "no modality": "no modality",
    "frame of reference per slice": "12 frames of reference",
    "derived": "derived",
}


def load(folder):
    return read_hu(choose_series(discover_sources(folder)))


def test_every_defect_has_a_test():
    assert set(DEFECTS) == {*REFUSED, *ACCEPTED} - {None}


@pytest.mark.parametrize("defect", REFUSED)
def test_a_defect_is_refused_with_its_numbers(tmp_path, defect):
    kind, reason, parts = REFUSED[defect]
    make_series(tmp_path, defect=defect)
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert type(caught.value) is kind
    assert caught.value.reason == reason
    assert caught.value.hint
    assert all(part in caught.value.message for part in parts), caught.value.message


@pytest.mark.parametrize(
    ("defect", "hint"),
    [("constant position", "each slice has its own"), ("two images per position", "one acquisition")],
)
def test_images_at_one_position_are_told_from_several_volumes(tmp_path, defect, hint):
    make_series(tmp_path, defect=defect)
    with pytest.raises(GeometryError) as caught:
        load(tmp_path)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("shape", "spacing", "found"),
    [
        ((130, 4, 3), (20.0, 1.0, 1.0), "2600 x 4 x 3 mm"),
        ((64, 64, 64), (20.0, 19.0, 18.0), "1280 x 1216 x 1152 mm, 1.79 cubic metres"),
    ],
)
def test_a_volume_larger_than_any_patient_is_refused_on_its_headers(tmp_path, shape, spacing, found):
    make_series(tmp_path, shape=shape, spacing=spacing)
    with pytest.raises(GeometryError) as caught:
        load(tmp_path)
    assert caught.value.reason == "implausible-spacing"
    assert caught.value.message.startswith("Series 2.25.1001: ")
    assert found in caught.value.message
    assert "at most 2500 mm along each axis and 1.5 cubic metres" in caught.value.message
    assert "units of the spacing" in caught.value.hint
    (source,) = survey(tmp_path).sources
    assert describe_source(source)["problem"]["message"] == caught.value.message  # so `inspect` tells it


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((512, 512, 2000), (1.523, 1.523, 1.0)), ((700, 700, 320), (0.4, 0.4, 1.0)), ((512, 512, 2500), (1.0, 1.0, 1.0))],
)
def test_a_whole_body_is_not_too_large(shape, spacing):
    check_extent(shape, spacing, "x")


@pytest.mark.parametrize("defect", ACCEPTED)
def test_a_tolerated_defect_gives_the_right_volume_and_a_warning(tmp_path, defect):
    truth = make_series(tmp_path, defect=defect)
    volume = load(tmp_path)
    np.testing.assert_array_equal(volume.voxels, truth.voxels)
    np.testing.assert_allclose(volume.affine, truth.affine, atol=1e-9)
    assert volume.voxels.dtype == np.int16
    assert ACCEPTED[defect] in " ".join(volume.warnings)
    assert bool(volume.warnings) == bool(ACCEPTED[defect])


@pytest.mark.parametrize("defect", ["localizer", "unnamed localizer"])
def test_a_localizer_is_set_aside_with_the_reason(tmp_path, defect):
    make_series(tmp_path, defect=defect)
    (item,) = survey(tmp_path).set_aside
    assert (item.code, item.count) == ("localizer", 1)
    assert "localizer" in item.reason


def test_a_segmentation_of_many_frames_is_set_aside_as_one_file(tmp_path):
    case = make_case(tmp_path)
    write_dicom_seg(case.segmentation, case.folder / "drawn.dcm")
    assert pydicom.dcmread(case.folder / "drawn.dcm").NumberOfFrames > 1
    (item,) = survey(case.folder).set_aside
    assert item.count == 1


@pytest.mark.parametrize("index", [0, 11])
@pytest.mark.parametrize(("name", "value"), [("", None), ("Rows", 18), ("ImageType", ["ORIGINAL", "SECONDARY"])])
def test_a_slice_at_an_end_that_lost_its_place_is_warned_of(tmp_path, index, name, value):
    def lose(number, dataset):
        if number == index:
            del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
            if name == "Rows":
                set_hu(dataset, np.zeros((24, value), np.int16))
            elif name:
                setattr(dataset, name, value)

    make_series(tmp_path, change=lose)
    volume = load(tmp_path)
    assert volume.voxels.shape == (24, 20, 11)
    warning = "1 images of its kind have no place and were left out; slices may be missing at the ends of the volume."
    assert [text.split(": ")[1] for text in volume.warnings] == ([] if name else [warning])
    assert [item.code for item in survey(tmp_path).set_aside] == ["localizer"]


@pytest.mark.parametrize("size", [0.2, 0.8, 3.0])
def test_pixel_spacing_is_compared_relative_to_its_size(tmp_path, size):
    for number, (change, count) in enumerate([(0.00008, 1), (0.00025, 2)]):
        folder = tmp_path / str(number)

        def alternate(index, dataset, change=change):
            dataset.PixelSpacing = [f"{size * (1 + change * (index % 2)):.9f}"] * 2

        make_series(folder, spacing=(size, size, 1.5), change=alternate)
        sources = discover_sources(folder)
        assert len(sources) == count
        assert all(source.problem is None for source in sources)


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        (["ORIGINAL", "PRIMARY", "OTHER"], ""),
        (["ORIGINAL", "PRIMARY", "AXIAL", "OTHER"], ""),
        (["DERIVED", "SECONDARY", "OTHER"], "derived from other images"),
        (["ORIGINAL", "PRIMARY", "AXIAL", "3D"], "derived from other images"),
        (["DERIVED", "SECONDARY", "AVERAGE IP"], "derived from other images"),
    ],
)
def test_a_stack_is_a_volume_whatever_vague_words_its_image_type_has(tmp_path, words, warning):
    truth = make_series(tmp_path, change=lambda index, dataset: setattr(dataset, "ImageType", words))
    (source,) = discover_sources(tmp_path)
    volume = read_hu(source)
    np.testing.assert_array_equal(volume.voxels, truth.voxels)
    assert source.is_derived == bool(warning)
    assert warning in " ".join(volume.warnings)
    assert bool(volume.warnings) == bool(warning)


@pytest.mark.parametrize("missing", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
@pytest.mark.parametrize(
    ("word", "code"), [("OTHER", "secondary-capture"), ("3D", "projection"), ("AVERAGE IP", "projection")]
)
def test_vague_words_set_an_image_aside_that_has_no_place(tmp_path, word, code, missing):
    def change(index, dataset):
        dataset.ImageType = ["DERIVED", "SECONDARY", word]
        delattr(dataset, missing)

    make_series(tmp_path, change=change)
    found = survey(tmp_path)
    assert found.sources == ()
    assert [(item.code, item.count) for item in found.set_aside] == [(code, 12)]


@pytest.mark.parametrize("word", ["MIP", "VRT", "SCREEN SAVE", "LOCALIZER"])
def test_plain_words_set_an_image_aside_wherever_it_lies(tmp_path, word):
    make_series(tmp_path, change=lambda index, dataset: setattr(dataset, "ImageType", ["DERIVED", "SECONDARY", word]))
    assert survey(tmp_path).sources == ()


@pytest.mark.parametrize("defect", ["two kernels", "two phases", "two patients"])
def test_each_volume_of_an_ambiguous_series_can_be_chosen_by_its_selector(tmp_path, defect):
    truth = make_series(tmp_path, defect=defect)
    sources = discover_sources(tmp_path)
    volumes = [read_hu(choose_series(sources, source.selector)) for source in sources]
    np.testing.assert_array_equal(volumes[0].voxels, truth.voxels)
    np.testing.assert_array_equal(volumes[1].voxels, truth.voxels + 20)
    assert len({source.name for source in sources}) == 2


def test_two_series_in_one_folder_are_two_sources(tmp_path):
    first, second = make_series(tmp_path, series=1), make_series(tmp_path, series=2, seed=5)
    sources = discover_sources(tmp_path)
    with pytest.raises(AmbiguousSeriesError, match="2 volumes"):
        choose_series(sources)
    for truth in (first, second):
        volume = read_hu(choose_series(sources, truth.series_uid))
        np.testing.assert_array_equal(volume.voxels, truth.voxels)


def without_series_uid(index, dataset):
    del dataset.SeriesInstanceUID


@pytest.mark.parametrize("second_study", [1, 2])
def test_series_without_a_uid_in_two_folders_are_two_sources(tmp_path, second_study):
    truths = [
        make_series(tmp_path / name, seed=seed, study=study, change=without_series_uid)
        for name, seed, study in (("a", 0, 1), ("b", 5, second_study))
    ]
    sources = discover_sources(tmp_path)
    assert [source.selector for source in sources] == [str(truth.folder) for truth in truths]
    with pytest.raises(AmbiguousSeriesError, match=str(tmp_path / "b")):
        choose_series(sources)
    for truth in truths:
        volume = read_hu(choose_series(sources, str(truth.folder)))
        np.testing.assert_array_equal(volume.voxels, truth.voxels)
        (warning,) = volume.warnings
        assert warning == f"{truth.folder}: no Series Instance UID; DICOM results cannot refer to the series."


def test_slices_that_share_an_instance_uid_at_different_positions_are_kept_with_a_warning(tmp_path):
    def change(index, dataset):
        dataset.SOPInstanceUID = f"{dataset.SeriesInstanceUID}.{min(index, 10)}"

    truth = make_series(tmp_path, change=change)
    (source,) = discover_sources(tmp_path)
    volume = read_hu(source)
    np.testing.assert_array_equal(volume.voxels, truth.voxels)
    (warning,) = volume.warnings
    assert "different slices share one SOP Instance UID; DICOM results cannot refer to them" in warning
    assert source.shares_instance_uids


def test_slices_without_an_instance_uid_are_kept_with_a_warning(tmp_path):
    def change(index, dataset):
        if index in (3, 7):
            dataset.SOPInstanceUID = ""

    truth = make_series(tmp_path, change=change)
    volume = load(tmp_path)
    np.testing.assert_array_equal(volume.voxels, truth.voxels)
    (warning,) = volume.warnings
    assert "2 slices have no SOP Instance UID; DICOM results cannot refer to them" in warning


def test_series_without_a_uid_in_two_folders_of_an_archive_are_two_sources(tmp_path):
    truths = [make_series(tmp_path / name, seed=seed, change=without_series_uid) for name, seed in (("a", 0), ("b", 5))]
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for truth in truths:
            for path in truth.files:
                archive.write(path, f"{truth.folder.name}/{path.name}")
    sources = discover_sources(tmp_path / "study.zip")
    assert [source.selector for source in sources] == [f"{tmp_path / 'study.zip'}!{name}" for name in ("a", "b")]
    for source, truth in zip(sources, truths, strict=True):
        np.testing.assert_array_equal(read_hu(source).voxels, truth.voxels)


def test_a_series_with_a_uid_may_lie_in_several_folders(tmp_path):
    truth = make_series(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for path in truth.files[6:]:
        path.rename(tmp_path / "b" / path.name)
    np.testing.assert_array_equal(load(tmp_path).voxels, truth.voxels)


def test_a_series_that_is_not_there_is_reported_with_those_that_are(tmp_path):
    truth = make_series(tmp_path)
    with pytest.raises(SeriesNotFoundError, match=truth.series_uid):
        choose_series(discover_sources(tmp_path), "2.25.404")


ACQUISITION_FACTS = {
    "AcquisitionNumber": lambda number: number + 1,
    "AcquisitionTime": lambda number: f"10{number:02d}00",
    "TriggerTime": lambda number: str(500 * number),
    "SliceThickness": lambda number: str(1 + 4 * number),
}


@pytest.mark.parametrize("name", ACQUISITION_FACTS)
def test_acquisitions_whose_slices_interleave_are_two_volumes(tmp_path, name):
    truth = make_series(
        tmp_path, change=lambda index, dataset: setattr(dataset, name, ACQUISITION_FACTS[name](index % 2))
    )
    sources = discover_sources(tmp_path)
    assert [source.shape for source in sources] == [(24, 20, 6)] * 2
    for start, source in enumerate(sources):
        np.testing.assert_array_equal(read_hu(source).voxels, truth.voxels[:, :, start::2])
    with pytest.raises(AmbiguousSeriesError):
        choose_series(sources)


def test_stacks_of_an_enhanced_ct_whose_frames_interleave_are_two_volumes(tmp_path):
    (path,) = make_enhanced(tmp_path / "x.dcm").files
    dataset = pydicom.dcmread(path)
    heights = [
        float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        for frame in dataset.PerFrameFunctionalGroupsSequence
    ]
    for frame, height in zip(dataset.PerFrameFunctionalGroupsSequence, heights, strict=True):
        content = pydicom.Dataset()
        content.StackID = str(sorted(heights).index(height) % 2)
        frame.FrameContentSequence = [content]
    dataset.save_as(path)
    assert [source.shape for source in discover_sources(tmp_path)] == [(24, 20, 6)] * 2


@pytest.mark.parametrize("name", ACQUISITION_FACTS)
@pytest.mark.parametrize("block", [1, 3, 4])
def test_step_and_shoot_stays_one_volume(tmp_path, name, block):
    truth = make_series(
        tmp_path, change=lambda index, dataset: setattr(dataset, name, ACQUISITION_FACTS[name](index // block))
    )
    volume = load(tmp_path)
    np.testing.assert_array_equal(volume.voxels, truth.voxels)
    expected = f"{12 // block} acquisition numbers in one stack of 12 slices" if name == "AcquisitionNumber" else ""
    assert expected in " ".join(volume.warnings)
    assert bool(volume.warnings) == bool(expected)


def test_the_long_original_series_is_the_obvious_choice_whatever_is_wrong_with_by_products(tmp_path):
    truth = make_series(tmp_path / "good", series=1, shape=(16, 16, 40))
    make_series(tmp_path / "tilted", series=2, shape=(16, 16, 3), defect="tilt")
    make_series(tmp_path / "short", series=3, shape=(16, 16, 3))
    make_series(tmp_path / "derived", series=4, shape=(16, 16, 40), defect="derived")
    make_series(tmp_path / "mr", series=5, shape=(16, 16, 80), defect="magnetic resonance")
    make_series(tmp_path / "single", series=6, defect="single slice")
    make_series(tmp_path / "bolus", series=7, shape=(16, 16, 30), defect="constant position")
    make_series(tmp_path / "repeated", series=8, shape=(16, 16, 3), defect="two images per position")
    assert choose_series(discover_sources(tmp_path)).series_uid == truth.series_uid


@pytest.mark.parametrize("defect", ["gap", "tilt", "no rescale"])
def test_a_main_series_that_cannot_be_loaded_is_not_replaced_by_a_by_product(tmp_path, defect):
    main = make_series(tmp_path / "main", series=1, shape=(16, 16, 60), defect=defect)
    bolus = make_series(tmp_path / "bolus", series=2, shape=(16, 16, 4))
    sources = discover_sources(tmp_path)
    with pytest.raises(InputError) as caught:
        choose_series(sources)
    kind, reason, _ = REFUSED[defect]
    assert (type(caught.value), caught.value.reason) == (kind, reason)
    assert main.series_uid in caught.value.message or str(main.folder) in caught.value.message
    assert f"name it with --series; these would load: {bolus.series_uid}." in caught.value.hint
    assert choose_series(sources, bolus.series_uid).series_uid == bolus.series_uid
    (study,) = [describe_survey(survey(tmp_path), tmp_path)]
    assert study["choice"]["selector"] is None
    assert study["choice"]["error"]["reason"] == reason


@pytest.mark.parametrize("defect", ["gap", "tilt", "no rescale", "constant position", "no position"])
def test_a_series_that_cannot_be_loaded_beside_one_of_its_rank_is_ambiguous(tmp_path, defect):
    left = make_series(tmp_path / "left", series=1, shape=(16, 16, 60), defect=defect)
    right = make_series(tmp_path / "right", series=2, shape=(16, 16, 59))
    with pytest.raises(AmbiguousSeriesError) as caught:
        choose_series(discover_sources(tmp_path))
    lines = caught.value.message.splitlines()[1:]
    assert [line.split()[0] for line in lines] == [left.series_uid, right.series_uid]
    assert f"16 x 16 x {len(left.files)}" in lines[0]
    assert lines[0].endswith(f"cannot be loaded: {REFUSED[defect][1]};")
    assert "cannot" not in lines[1]


def test_volumes_to_choose_from_stand_apart_in_the_one_line_of_the_command(tmp_path, capsys):
    for name in ("left", "right"):
        make_nifti(tmp_path / f"{name}.nii.gz")
    with pytest.raises(AmbiguousSeriesError) as caught:
        choose_series(discover_sources(tmp_path))
    print_error(caught.value)
    assert f": {tmp_path / 'left.nii.gz'}; {tmp_path / 'right.nii.gz'} (Choose" in capsys.readouterr().err


@pytest.mark.parametrize(("defect", "option"), [("tilt", "regularize"), ("no rescale", "assume_hu")])
def test_a_problem_that_an_option_takes_care_of_does_not_count(tmp_path, defect, option):
    main = make_series(tmp_path / "main", series=1, shape=(16, 16, 60), defect=defect)
    make_series(tmp_path / "bolus", series=2, shape=(16, 16, 4))
    sources = discover_sources(tmp_path)
    assert choose_series(sources, **{option: True}).series_uid == main.series_uid
    make_series(tmp_path / "right", series=3, shape=(16, 16, 60))
    with pytest.raises(AmbiguousSeriesError) as caught:
        choose_series(discover_sources(tmp_path), **{option: True})
    assert "cannot be loaded" not in caught.value.message


def test_of_only_unusable_series_the_longest_one_explains_the_refusal(tmp_path):
    make_series(tmp_path / "a", series=1, defect="gap")
    make_series(tmp_path / "b", series=2, defect="tilt", shape=(16, 16, 20))
    with pytest.raises(GeometryError, match=r"12\.00 degrees"):
        load(tmp_path)


def test_a_series_made_by_hand_is_read_like_a_discovered_one(tmp_path):
    truth = make_series(tmp_path)
    series = DicomSeries(truth.series_uid, "", tuple(DicomSlice(path) for path in reversed(truth.files)))
    np.testing.assert_array_equal(read_hu(series).voxels, truth.voxels)


def test_a_series_made_by_hand_with_a_gap_is_refused(tmp_path):
    truth = make_series(tmp_path)
    kept = truth.files[:4] + truth.files[5:]
    with pytest.raises(GeometryError, match=r"gap of 3\.000 mm"):
        read_hu(DicomSeries(truth.series_uid, "", tuple(map(DicomSlice, kept))))


@pytest.mark.parametrize("defect", ["two kernels", "two phases", "interleaved kernels"])
def test_a_series_made_by_hand_of_two_volumes_is_refused_unless_it_names_one(tmp_path, defect):
    truth = make_series(tmp_path, defect=defect)
    slices = tuple(map(DicomSlice, truth.files))
    with pytest.raises(AmbiguousSeriesError, match="2 volumes, expected 1"):
        read_hu(DicomSeries(truth.series_uid, "", slices))
    for source in discover_sources(tmp_path):
        named = DicomSeries(truth.series_uid, "", slices, volume_key=source.volume_key)
        np.testing.assert_array_equal(read_hu(named).voxels, read_hu(source).voxels)


def test_a_series_made_by_hand_with_a_frame_that_is_not_there_is_refused(tmp_path):
    truth = make_series(tmp_path)
    slices = (*map(DicomSlice, truth.files), DicomSlice(truth.files[0], frame=3))
    with pytest.raises(UnreadableFileError, match="12 of 13 slices"):
        read_hu(DicomSeries(truth.series_uid, "", slices))


def test_a_series_made_by_hand_with_a_file_that_is_no_slice_is_refused(tmp_path):
    truth = make_series(tmp_path, defect="localizer")
    with pytest.raises(UnsupportedImageError, match="localizer"):
        read_hu(DicomSeries(truth.series_uid, "", tuple(map(DicomSlice, truth.files))))


def test_a_file_that_changed_after_discovery_is_refused(tmp_path):
    truth = make_series(tmp_path)
    source = choose_series(discover_sources(tmp_path))
    with truth.files[3].open("ab") as stream:
        stream.write(b"\0\0")
    with pytest.raises(UnreadableFileError, match="changed since"):
        read_hu(source)


def test_a_damaged_header_beside_a_series_is_a_warning(tmp_path):
    truth = make_series(tmp_path)
    data = truth.files[-1].read_bytes()
    truth.files[-1].write_bytes(data[:400])
    volume = load(tmp_path)
    assert volume.voxels.shape[2] == 11
    assert "1 damaged DICOM files" in " ".join(volume.warnings)


def test_slices_are_listed_in_slice_order(tmp_path):
    make_series(tmp_path, defect="reversed instance numbers")
    (source,) = discover_sources(tmp_path)
    heights = [item.position[2] for item in source.slices]
    assert heights == sorted(heights)
    assert source.shape == (24, 20, 12)


@pytest.mark.parametrize("defect", [*DEFECTS, None])
def test_no_patient_data_reaches_a_message_a_name_or_a_survey(tmp_path, defect):
    make_series(tmp_path, defect=defect)
    found = survey(tmp_path)
    texts = [repr(found)]
    for source in found.sources:
        texts += [source.name, source.selector, repr(source)]
    try:
        texts += load(tmp_path).warnings
    except InputError as error:
        texts += [error.message, error.hint]
    for secret in ("Doe", "Jane", "MRN", "12345", "99999", "19700304", "20200102"):
        assert secret not in "\n".join(texts)


def test_a_hostile_series_uid_does_not_reach_a_file_name(tmp_path):
    def poison(index, dataset):
        dataset.SeriesInstanceUID = "1.2./../../etc/passwd"

    with pytest.warns(UserWarning, match="Invalid value"):
        make_series(tmp_path, change=poison)
    (source,) = discover_sources(tmp_path)
    assert source.name.replace("_", "").isalnum()


@pytest.mark.parametrize("offset", [0.0, 0.75], ids=["one place", "between the slices"])
def test_two_breasts_in_one_series_are_two_volumes(tmp_path, offset):
    def make_side(index, dataset, side):
        dataset.ImageLaterality = side
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{ord(side)}.{index}"

    truths = [
        make_series(
            tmp_path / side,
            seed=ord(side),
            origin=(-10.0, -20.0, 30.0 + shift),
            change=lambda index, dataset, side=side: make_side(index, dataset, side),
        )
        for side, shift in (("L", 0.0), ("R", offset))
    ]
    left, right = discover_sources(tmp_path)
    assert [left.volume_key, right.volume_key] == ["laterality1", "laterality2"]
    assert [left.description, right.description] == ["laterality L", "laterality R"]
    for source, truth in zip((left, right), truths, strict=True):
        np.testing.assert_array_equal(read_hu(source).voxels, truth.voxels)
    with pytest.raises(AmbiguousSeriesError, match="laterality R"):
        load(tmp_path)


def test_overlapping_time_series_of_one_position_are_never_stacked(tmp_path):
    def second_phase_of_odd_slices(index, dataset):
        if index % 2:
            set_hu(dataset, np.zeros((24, 20)))
            dataset.TemporalPositionIdentifier = 2

    make_series(tmp_path, change=second_phase_of_odd_slices)
    with pytest.raises(AmbiguousSeriesError):
        load(tmp_path)
