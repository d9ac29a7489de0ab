"""Real and deliberately hard series: results refer to them, are valid, and lie where the voxels were."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from lightunet_monai.inputs import choose_series, discover_sources
from lightunet_monai.outputs import write_dicom_seg, write_rtstruct
from lightunet_monai.sources import DicomSeries
from tests.builders.hard_studies import CHEST, STUDIES, needs_chest, needs_studies
from tests.builders.segmentation import make_lesions, make_segmentation
from tests.builders.witnesses import dicom_errors, paste, read_dcmqi, read_frames, read_highdicom

ACCEPTED = (
    "D00_base",
    "D03_dup_identical_instances",
    "D06_localizer_in_series",
    "D07a_iop_noise_1e-5",
    "D08_z_jitter_4um",
    "D16_monochrome1",
    "D17_bigendian",
    "D18_deflated",
    "D19_rle",
    "D20_jpegls",
    "D21_j2k_lossless",
    "D22_jpeg_lossless_sv1",
    "D25_legacy_converted_enhanced",
    "D26_no_preamble_no_meta_implicit",
    "D29a_zip_flat",
    "D31_breastct_coronal_prone",
    "D44_synthetic_tilt15_sphere_r20",
    "R19a_siemens_7singleslices",
    "R27_toshiba_enhanced_2frames",
)
TILTED = ("D44_synthetic_tilt15_sphere_r20",)


def _check(folder: Path, out: Path, *, regular: bool = True) -> None:
    source = choose_series(discover_sources(folder))
    assert isinstance(source, DicomSeries)
    assert source.shape is not None
    assert source.affine is not None
    label_map = make_lesions(source.shape)
    segmentation = make_segmentation(label_map, np.array(source.affine), source)

    seg = write_dicom_seg(segmentation, out / "seg.dcm")
    rtstruct = write_rtstruct(segmentation, out / "rtstruct.dcm")

    assert np.array_equal(paste(read_frames(seg), segmentation), label_map)
    if regular:
        assert np.array_equal(paste(read_highdicom(seg), segmentation), label_map)
        assert np.array_equal(paste(read_dcmqi(seg, out / "dcmqi"), segmentation), label_map)
    for path in (seg, rtstruct):
        assert dicom_errors(path) == []
        assert pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID == source.study_uid


@needs_studies
@pytest.mark.parametrize("name", ACCEPTED)
def test_results_of_a_hard_study_are_valid_and_in_place(tmp_path: Path, name: str) -> None:
    _check(STUDIES / name, tmp_path, regular=name not in TILTED)


@needs_chest
@pytest.mark.slow
def test_results_of_a_chest_ct_with_a_frame_of_reference_per_slice_are_valid_and_in_place(tmp_path: Path) -> None:
    _check(CHEST, tmp_path)
