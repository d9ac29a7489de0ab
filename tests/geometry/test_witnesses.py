"""Independent readers agree on where voxels lie in the patient and what they hold."""

import json
import shutil
import subprocess
import sys
import zipfile

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import ExplicitVRLittleEndian

from lightunet_monai.inputs import choose_series, discover_sources, read_hu
from tests.builders.hard_studies import CHEST, STUDIES, expected_rows, needs_chest, needs_studies, rows_by_case
from tests.builders.series import CORONAL, SAGITTAL, make_series
from tests.builders.volume import make_affine, make_volume
from tests.builders.witnesses import RAS_TO_LPS, find_tool

GIVES_A_VOLUME = ("accept", "any", "ambiguous")
ACCEPTED, CHOSEN = rows_by_case("accept"), rows_by_case("any", "ambiguous")
"""Studies that give a volume as they are; and those that may be refused, or must be until one volume is chosen."""

ZIPPED = "D29"
MULTI_FRAME = ("D25", "R27", "R28")
"""ITK does not order frames by position; the frames are checked by number instead."""

MONOCHROME1 = "D16"
"""SimpleITK inverts these for display; its world positions are compared, the values are those of highdicom."""

JITTERY = "D08"
"""dcm2niix takes the distance of the first two slices for all: 4 micrometres add up over 30 slices."""


def check_against_simpleitk(source, volume, *, values=True, count=500):
    """World position and value of random voxels, by SimpleITK through GDCM, with our list of files."""
    names = [str(item.path) for item in source.slices]
    image = SimpleITK.ReadImage(names)
    rng = np.random.default_rng(0)
    for index in rng.integers(0, volume.voxels.shape, (count, 3)):
        ras = volume.affine[:3, :3] @ index + volume.affine[:3, 3]
        lps = ras * (-1, -1, 1)
        theirs = image.TransformPhysicalPointToIndex([float(v) for v in lps])
        np.testing.assert_allclose(theirs, index)
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint([int(v) for v in index]), lps, atol=0.01)
        if values:
            assert image.GetPixel(*map(int, theirs)) == pytest.approx(volume.voxels[tuple(index)], abs=0.01)


@needs_studies
@pytest.mark.parametrize("case", [case for case in ACCEPTED if not case.startswith((*MULTI_FRAME, ZIPPED))])
def test_simpleitk_finds_the_same_voxels_at_the_same_places(case):
    source = choose_series(discover_sources(ACCEPTED[case][0].path))
    check_against_simpleitk(source, read_hu(source), values=not case.startswith(MONOCHROME1))


@needs_studies
@pytest.mark.parametrize("case", [case for case in CHOSEN if not case.startswith(MULTI_FRAME)])
def test_simpleitk_finds_every_volume_that_can_be_chosen_at_the_same_places(case):
    sources = discover_sources(CHOSEN[case][0].path)
    assert len(sources) == len(CHOSEN[case])
    for source in sources:
        check_against_simpleitk(source, read_hu(source), count=200)


@needs_studies
@pytest.mark.parametrize("case", [case for case in ACCEPTED if case.startswith(ZIPPED)])
def test_simpleitk_finds_the_volume_of_a_zip_archive_in_its_files(case, tmp_path):
    volume = read_hu(choose_series(discover_sources(ACCEPTED[case][0].path)))
    zipfile.ZipFile(ACCEPTED[case][0].path / "study.zip").extractall(tmp_path)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))  # in the order that GDCM finds
    check_world_positions(SimpleITK.GetArrayFromImage(image := reader.Execute()).T, itk_affine(image), volume)


def itk_affine(image):
    """Voxel index to RAS+ mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return RAS_TO_LPS @ affine


def check_world_positions(array, affine, volume, *, off_voxel=0.01, count=500):
    """The other reader's voxels lie on ours, whatever the order of its axes, and hold the same."""
    index = np.random.default_rng(0).integers(0, volume.voxels.shape, (count, 3))
    to_theirs = np.linalg.inv(affine) @ volume.affine
    exact = index @ to_theirs[:3, :3].T + to_theirs[:3, 3]
    theirs = np.rint(exact).astype(int)
    assert np.abs(exact - theirs).max() < off_voxel
    assert sorted(array.shape) == sorted(volume.voxels.shape)
    np.testing.assert_allclose(array[tuple(theirs.T)], volume.voxels[tuple(index.T)], atol=0.01)


@needs_studies
@pytest.mark.parametrize("case", [case for case in (*ACCEPTED, *CHOSEN) if case.startswith(MULTI_FRAME)])
def test_highdicom_finds_the_frames_of_a_multi_frame_instance_at_the_same_places(case):
    source = choose_series(discover_sources(STUDIES / case))
    theirs = highdicom.imread(str(source.slices[0].path)).get_volume()
    assert theirs.coordinate_system.name == "PATIENT"
    check_world_positions(theirs.array, RAS_TO_LPS @ theirs.affine, read_hu(source))


@needs_studies
@pytest.mark.parametrize("case", [case for case in ACCEPTED if case.startswith(MONOCHROME1)])
def test_highdicom_without_display_finds_the_same_values_in_monochrome1(case):
    source = choose_series(discover_sources(STUDIES / case))
    datasets = [pydicom.dcmread(path) for path in source.paths]
    theirs = highdicom.get_volume_from_series(datasets, apply_presentation_lut=False)
    check_world_positions(theirs.array, RAS_TO_LPS @ theirs.affine, read_hu(source))


@needs_studies
@pytest.mark.parametrize("case", ACCEPTED)
def test_dcm2niix_finds_the_same_voxels_at_the_same_places(case, tmp_path):
    source = choose_series(discover_sources(ACCEPTED[case][0].path))
    (tmp_path / "in").mkdir()
    for number, path in enumerate(source.paths):
        if path.suffix == ".zip":
            zipfile.ZipFile(path).extractall(tmp_path / "in")
        elif case.startswith("D18"):  # dcm2niix does not inflate
            dataset = pydicom.dcmread(path)
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.save_as(tmp_path / "in" / f"{number}.dcm")
        else:
            shutil.copy(path, tmp_path / "in" / f"{number}.dcm")
    tool = find_tool("dcm2niix")
    command = [tool, "-b", "n", "-z", "n", "-f", "volume", "-o", str(tmp_path), str(tmp_path / "in")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    image = nibabel.load(tmp_path / "volume.nii")
    check_world_positions(
        np.asarray(image.dataobj), image.affine, read_hu(source), off_voxel=0.12 if case.startswith(JITTERY) else 0.01
    )


@needs_studies
@pytest.mark.parametrize("case", [case for case in ACCEPTED if case.startswith(MULTI_FRAME)])
def test_simpleitk_finds_the_same_frames_of_a_multi_frame_instance(case):
    source = choose_series(discover_sources(ACCEPTED[case][0].path))
    volume = read_hu(source)
    frames = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(source.slices[0].path)))
    for index, item in enumerate(source.slices):
        np.testing.assert_array_equal(frames[item.frame].T, volume.voxels[:, :, index])
        # LPS position of the first voxel, as the frame's own header gives it.
        lps = (volume.affine @ (0, 0, index, 1))[:3] * (-1, -1, 1)
        np.testing.assert_allclose(lps, item.position, atol=1e-4)


def cases_of(*tests):
    """The studies that these tests are run on."""
    return [case for test in tests for mark in test.pytestmark if mark.name == "parametrize" for case in mark.args[1]]


@needs_studies
def test_no_study_that_gives_a_volume_lacks_a_witness_that_every_installation_has():
    """dcm2niix comes on top: it may be absent, and then its tests are skipped."""
    positions = cases_of(
        test_simpleitk_finds_the_same_voxels_at_the_same_places,
        test_simpleitk_finds_every_volume_that_can_be_chosen_at_the_same_places,
        test_simpleitk_finds_the_volume_of_a_zip_archive_in_its_files,
        test_highdicom_finds_the_frames_of_a_multi_frame_instance_at_the_same_places,
    )
    assert sorted(positions) == sorted({row.case for row in expected_rows() if row.expect in GIVES_A_VOLUME})
    values = cases_of(test_highdicom_without_display_finds_the_same_values_in_monochrome1)
    assert values == [case for case in positions if case.startswith(MONOCHROME1)]
    assert cases_of(test_dcm2niix_finds_the_same_voxels_at_the_same_places) == list(ACCEPTED)


ITK_POSITIONS = """
import itk, json, sys
names, indices = json.load(sys.stdin)
reader = itk.ImageSeriesReader[itk.Image[itk.SS, 3]].New(FileNames=names)
reader.SetImageIO(itk.GDCMImageIO.New())
reader.Update()
image = reader.GetOutput()
print(json.dumps([[list(image.TransformIndexToPhysicalPoint(i)), image.GetPixel(i)] for i in indices]))
"""
"""In a process of its own: ITK and SimpleITK do not survive each other in one."""


@needs_chest
def test_itk_finds_the_chest_ct_at_the_same_places():
    source = choose_series(discover_sources(CHEST))
    volume = read_hu(source)
    indices = [(0, 0, 0), (511, 0, 19), (100, 200, 7), (250, 333, 12)]
    request = json.dumps([[str(item.path) for item in source.slices[:20]], indices])
    answer = subprocess.run(
        [sys.executable, "-c", ITK_POSITIONS], input=request, capture_output=True, text=True, check=True, timeout=120
    )
    for index, (lps, value) in zip(indices, json.loads(answer.stdout), strict=True):
        ras = volume.affine[:3, :3] @ index + volume.affine[:3, 3]
        np.testing.assert_allclose(lps, ras * (-1, -1, 1), atol=1e-3)
        assert value == volume.voxels[index]


@pytest.mark.parametrize(
    "orientation", [CORONAL, SAGITTAL, (0.8, 0.6, 0.0, -0.6, 0.8, 0.0), (0.0, 0.6, 0.8, 1.0, 0.0, 0.0)]
)
def test_simpleitk_agrees_for_every_orientation(tmp_path, orientation):
    make_series(tmp_path, orientation=orientation)
    source = choose_series(discover_sources(tmp_path))
    check_against_simpleitk(source, read_hu(source), count=100)


def right_angled_orientations():
    """Row and column directions along any two world axes, either way: 24 ways to hold a volume."""
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    return [tuple((*row, *column)) for row in axes for column in axes if row @ column == 0]


def test_every_right_angled_orientation_gives_the_exact_voxels_and_affine(tmp_path):
    orientations = right_angled_orientations()
    assert len(orientations) == 24
    for number, orientation in enumerate(orientations):
        truth = make_series(tmp_path / str(number), orientation=orientation, seed=number)
        volume = read_hu(choose_series(discover_sources(truth.folder)))
        np.testing.assert_array_equal(volume.voxels, truth.voxels)
        np.testing.assert_allclose(volume.affine, truth.affine, atol=1e-9)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_simpleitk_agrees_for_every_file_format_also_oblique_and_left_handed(tmp_path, suffix, signs):
    path = make_volume(tmp_path / f"v{suffix}", affine=make_affine(axes=(2, 0, 1), signs=signs, turn_degrees=20))
    source = choose_series(discover_sources(path))
    volume = read_hu(source)
    image = SimpleITK.ReadImage(str(path))
    for index in ((0, 0, 0), (23, 0, 5), (3, 19, 11)):
        lps = (volume.affine[:3, :3] @ index + volume.affine[:3, 3]) * (-1, -1, 1)
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), lps, atol=1e-4)
        assert image.GetPixel(*index) == pytest.approx(float(volume.voxels[index]))
