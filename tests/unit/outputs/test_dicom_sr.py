import json
from datetime import datetime
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from lightunet_monai.errors import OutputError
from lightunet_monai.inputs import choose_series, discover_sources
from lightunet_monai.outputs import (
    Findings,
    Stamp,
    measure_lesions,
    write_dicom_seg,
    write_dicom_sr,
    write_findings_csv,
)
from lightunet_monai.sources import DicomSeries
from tests.builders.segmentation import Case, make_case, make_segmentation
from tests.builders.series import make_series
from tests.builders.witnesses import dicom_errors, find_tool, run_tool

SOURCES = ("axial", "oblique", "left-handed", "tilted", "multi-frame", "frame of reference per slice")


def _write(case: Case, folder: Path) -> tuple[Path, Path, Findings]:
    findings = measure_lesions(case.segmentation, case.volume_hu)
    seg = write_dicom_seg(case.segmentation, folder / "seg.dcm")
    return write_dicom_sr(case.segmentation, findings, seg, folder / "sr.dcm"), seg, findings


@pytest.mark.parametrize("source", SOURCES)
def test_the_report_is_valid(tmp_path: Path, source: str) -> None:
    path, _, _ = _write(make_case(tmp_path, source), tmp_path)
    assert dicom_errors(path) == []
    printed = run_tool(find_tool("dsrdump"), path)
    assert [line for line in printed.splitlines() if line.startswith(("E:", "W:"))] == []


def test_dcmqi_reads_the_measurements_of_every_lesion(tmp_path: Path) -> None:
    path, seg, findings = _write(make_case(tmp_path, "multi-frame"), tmp_path)
    run_tool(find_tool("tid1500reader"), "--inputDICOM", path, "--outputMetadata", tmp_path / "sr.json")
    groups = json.loads((tmp_path / "sr.json").read_text())["Measurements"]

    assert len(groups) == len(findings) == 2
    for number, (group, lesion) in enumerate(zip(groups, findings, strict=True), start=1):
        assert group["TrackingIdentifier"] == f"Breast mass {number}"
        assert group["TrackingUniqueIdentifier"] == lesion.tracking_uid
        assert group["ReferencedSegment"] == number
        assert group["segmentationSOPInstanceUID"] == pydicom.dcmread(seg).SOPInstanceUID
        assert group["Finding"]["CodeValue"] == "4147007"
        assert group["FindingSite"]["CodeMeaning"] == "Breast"
        assert group["Laterality"]["CodeMeaning"] == "Left"
        values = {
            (item["quantity"]["CodeMeaning"], item.get("derivationModifier", {}).get("CodeMeaning")): float(
                item["value"]
            )
            for item in group["measurementItems"]
        }
        assert values["Volume", None] == pytest.approx(lesion.volume_ml, rel=1e-5)
        assert values["Long Axis", None] == pytest.approx(lesion.axial_long_axis_mm, abs=1e-3)
        assert values["Short Axis", None] == pytest.approx(lesion.axial_short_axis_mm, abs=1e-3)
        assert values["Attenuation Coefficient", "Mean"] == pytest.approx(lesion.mean_hu, abs=1e-3)


def test_the_volume_of_a_few_voxels_is_not_rounded_to_nothing(tmp_path: Path) -> None:
    make_series(tmp_path / "source", shape=(24, 20, 12), spacing=(0.3, 0.3, 0.3))
    source = choose_series(discover_sources(tmp_path / "source"))
    label_map = np.zeros((24, 20, 12), np.uint8)
    label_map[10:12, 10:13, 6:9] = 1
    segmentation = make_segmentation(label_map, np.array(source.affine), source)
    volume_ml = 18 * 0.3**3 / 1000

    seg = write_dicom_seg(segmentation, tmp_path / "seg.dcm")
    findings = measure_lesions(segmentation)
    path = write_dicom_sr(segmentation, findings, seg, tmp_path / "sr.dcm")
    write_findings_csv(findings, tmp_path / "findings.csv")

    assert dicom_errors(path) == []
    measured = [item for item in pydicom.dcmread(path).iterall() if item.keyword == "NumericValue"]
    assert float(measured[0].value) == pytest.approx(volume_ml, rel=1e-5)
    assert findings.to_json()["lesions"][0]["volume_ml"] == pytest.approx(volume_ml, rel=1e-5)
    header, row = (line.split(",") for line in (tmp_path / "findings.csv").read_text().splitlines())
    assert float(row[header.index("volume_ml")]) == pytest.approx(volume_ml, rel=1e-5)


def test_the_report_is_preliminary_and_unverified_and_for_research_only(tmp_path: Path) -> None:
    path, _, _ = _write(make_case(tmp_path), tmp_path)
    dataset = pydicom.dcmread(path)

    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert (dataset.PreliminaryFlag, dataset.CompletionFlag, dataset.VerificationFlag) == (
        "PRELIMINARY",
        "COMPLETE",
        "UNVERIFIED",
    )
    assert dataset.SeriesDescription.startswith("RESEARCH USE ONLY - NOT FOR DIAGNOSIS")
    assert "simulated data" in dataset.ContentSequence[-1].TextValue


def test_highdicom_finds_the_groups_by_tracking_uid(tmp_path: Path) -> None:
    path, _, findings = _write(make_case(tmp_path), tmp_path)
    report = highdicom.sr.srread(path)
    for lesion in findings:
        groups = report.content.get_volumetric_roi_measurement_groups(tracking_uid=lesion.tracking_uid)
        assert len(groups) == 1


def test_a_case_without_lesions_gives_a_valid_report_that_says_absent(tmp_path: Path) -> None:
    path, _, findings = _write(make_case(tmp_path, empty=True), tmp_path)

    assert len(findings) == 0
    assert dicom_errors(path) == []
    printed = run_tool(find_tool("dsrdump"), "+Pl", path)
    assert '(2667000,SCT,"Absent")' in printed
    assert "The model found nothing. This does not mean that there is no lesion." in printed


def test_what_is_absent_in_two_volumes_of_one_series_is_tracked_apart(tmp_path: Path) -> None:
    truth = make_series(tmp_path / "source", defect="two kernels")
    tracked = []
    for number, source in enumerate(discover_sources(truth.folder)):
        assert isinstance(source, DicomSeries)
        segmentation = make_segmentation(np.zeros((24, 20, 12), np.uint8), np.array(source.affine), source)
        seg = write_dicom_seg(segmentation, tmp_path / f"seg{number}.dcm")
        report = write_dicom_sr(segmentation, measure_lesions(segmentation), seg, tmp_path / f"sr{number}.dcm")
        tracked += [
            item.UID
            for element in pydicom.dcmread(report).iterall()
            if element.keyword == "ContentSequence"
            for item in element.value
            if item.ConceptNameCodeSequence[0].CodeMeaning == "Tracking Unique Identifier"
        ]
    assert len(tracked) == len(set(tracked)) == 2


def test_findings_of_another_segmentation_are_refused(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    seg = write_dicom_seg(case.segmentation, tmp_path / "seg.dcm")
    with pytest.raises(OutputError, match="found 2 tracked lesions in the segmentation object, expected the 0"):
        write_dicom_sr(case.segmentation, Findings(), seg, tmp_path / "sr.dcm")


def test_derived_uids_and_a_fixed_clock_give_the_same_bytes(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    findings = measure_lesions(case.segmentation, case.volume_hu.astype(np.float32))
    stamp = Stamp.derived(case.segmentation, lambda: datetime(2026, 1, 2, 3, 4, 5))
    seg = write_dicom_seg(case.segmentation, tmp_path / "seg.dcm", stamp=stamp)
    first, second = (
        write_dicom_sr(case.segmentation, findings, seg, tmp_path / f"{name}.dcm", stamp=stamp) for name in "ab"
    )
    assert first.read_bytes() == second.read_bytes()
    every = write_dicom_seg(case.segmentation, tmp_path / "seg.dcm", stamp=stamp, keep_empty_frames=True)
    other = write_dicom_sr(case.segmentation, findings, every, tmp_path / "c.dcm", stamp=stamp)
    assert pydicom.dcmread(other).SOPInstanceUID != pydicom.dcmread(first).SOPInstanceUID
