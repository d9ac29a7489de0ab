import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from lightunet_monai.errors import OutputError, UsageError
from lightunet_monai.outputs import FORMATS, check_output, describe_case, write_case, write_report
from lightunet_monai.outputs import dicom_seg as dicom_seg_module
from lightunet_monai.review import write_overview
from tests.builders.segmentation import make_case, make_segmentation


def test_all_formats_are_written_together_with_findings_picture_and_report(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    paths = write_case(
        tmp_path / "out", case.segmentation, formats=list(FORMATS), volume=case.volume_hu, overview=write_overview
    )

    expected = {item.file_name for item in FORMATS.values()}
    expected |= {"findings.csv", "findings.json", "overview.png", "report.json"}
    assert {path.name for path in paths} == expected == set(os.listdir(tmp_path / "out"))
    assert paths[-1].name == "report.json"


def test_the_report_lists_every_file_with_size_and_hash(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    write_case(tmp_path / "out", case.segmentation, formats=["nifti", "seg"], volume=case.volume_hu)
    report = json.loads((tmp_path / "out" / "report.json").read_text())

    assert [item["format"] for item in report["files"]] == ["nifti", "seg", "findings-csv", "findings-json"]
    for item in report["files"]:
        data = (tmp_path / "out" / item["name"]).read_bytes()
        assert item["size_bytes"] == len(data)
        assert item["sha256"] == hashlib.sha256(data).hexdigest()
    assert report["findings"]["count"] == 2


def test_a_structured_report_brings_the_segmentation_it_refers_to(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    names = {path.name for path in write_case(tmp_path / "out", case.segmentation, formats=["sr"])}
    assert {"findings_sr.dcm", "segmentation.dcm"} <= names


def test_an_existing_result_is_kept_without_overwrite(tmp_path: Path) -> None:
    segmentation = make_segmentation(np.ones((4, 4, 4), np.uint8))
    write_case(tmp_path / "out", segmentation)
    before = (tmp_path / "out" / "report.json").read_bytes()

    with pytest.raises(OutputError, match=r"holds a result already \(labelmap.nii.gz, findings.csv") as caught:
        write_case(tmp_path / "out", segmentation)

    assert caught.value.reason == "exists"
    assert (tmp_path / "out" / "report.json").read_bytes() == before


@pytest.mark.parametrize("folder_is_there", [False, True])
def test_a_result_that_appears_while_another_is_written_is_kept_without_overwrite(
    tmp_path: Path, folder_is_there: bool
) -> None:
    out = tmp_path / "out"
    if folder_is_there:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    first, second = make_segmentation(np.ones((4, 4, 4), np.uint8)), make_segmentation(np.zeros((4, 4, 4), np.uint8))

    def slow_picture(segmentation: object, volume: object, path: Path, **_: object) -> Path:
        write_case(out, first, formats=["nifti", "nrrd"])
        path.write_bytes(b"picture")
        return path

    with pytest.raises(OutputError, match="holds a result already") as caught:
        write_case(out, second, volume=np.zeros((4, 4, 4), np.int16), overview=slow_picture)

    assert caught.value.reason == "exists"
    assert json.loads((out / "report.json").read_text())["findings"]["count"] == 1
    assert (out / "labelmap.nrrd").exists()
    assert not (out / "overview.png").exists()
    assert set(os.listdir(tmp_path)) == {"out"}


def test_overwriting_removes_formats_of_the_earlier_result_and_keeps_other_files(tmp_path: Path) -> None:
    segmentation = make_segmentation(np.ones((4, 4, 4), np.uint8))
    write_case(tmp_path / "out", segmentation, formats=["nifti", "stl"])
    (tmp_path / "out" / "notes.txt").write_text("mine")

    write_case(tmp_path / "out", segmentation, formats=["nrrd"], overwrite=True)

    assert sorted(os.listdir(tmp_path / "out")) == [
        "findings.csv",
        "findings.json",
        "labelmap.nrrd",
        "notes.txt",
        "report.json",
    ]


def test_overwriting_keeps_a_file_that_somebody_changed_and_that_is_not_written_anew(tmp_path: Path) -> None:
    segmentation = make_segmentation(np.ones((4, 4, 4), np.uint8))
    out = tmp_path / "out"
    write_case(out, segmentation, formats=["nifti", "nrrd", "segnrrd"])
    (out / "labelmap.seg.nrrd").write_bytes(b"edited")
    (out / "labelmap.nii.gz").write_bytes(b"edited, and written anew")

    for _ in range(2):  # the second time no report lists it
        write_case(out, segmentation, formats=["nifti"], overwrite=True)

        assert (out / "labelmap.seg.nrrd").read_bytes() == b"edited"
        assert not (out / "labelmap.nrrd").exists()
        assert (out / "labelmap.nii.gz").read_bytes() != b"edited, and written anew"
        report = json.loads((out / "report.json").read_text())
        assert [item["name"] for item in report["files"]] == ["labelmap.nii.gz", "findings.csv", "findings.json"]
        (warning,) = [text for text in report["warnings"] if "kept" in text]
        assert warning.startswith("labelmap.seg.nrrd was changed")
    write_case(out, segmentation, formats=["segnrrd"], overwrite=True)
    assert sorted(os.listdir(out)) == ["findings.csv", "findings.json", "labelmap.seg.nrrd", "report.json"]
    assert not any("kept" in text for text in json.loads((out / "report.json").read_text())["warnings"])


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(tmp_path)

    def fail(*_: object, **__: object) -> Path:
        raise OutputError("disk full")

    monkeypatch.setattr(dicom_seg_module, "write_dicom_seg", fail)
    with pytest.raises(OutputError, match="disk full"):
        write_case(tmp_path / "out", case.segmentation, formats=["nifti", "seg"])
    assert os.listdir(tmp_path) == ["source"]


def test_a_writer_that_fails_leaves_the_old_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(tmp_path)
    write_case(tmp_path / "out", case.segmentation, formats=["nifti", "seg"])
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fail(*_: object, **__: object) -> Path:
        raise RuntimeError("bug")

    monkeypatch.setattr(dicom_seg_module, "write_dicom_seg", fail)
    with pytest.raises(RuntimeError, match="bug"):
        write_case(tmp_path / "out", case.segmentation, formats=["nifti", "seg"], overwrite=True)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_the_report_of_a_failed_attempt_does_not_block_the_next_one(tmp_path: Path) -> None:
    segmentation = make_segmentation(np.ones((4, 4, 4), np.uint8))
    failed = describe_case(segmentation.source, error=OutputError("no space"))
    write_report(failed, tmp_path / "out" / "report.json")

    check_output(tmp_path / "out")
    write_case(tmp_path / "out", segmentation)

    assert json.loads((tmp_path / "out" / "report.json").read_text())["status"] == "done"


def test_everything_that_would_be_refused_is_refused_before_inference(tmp_path: Path) -> None:
    segmentation = make_segmentation(np.ones((4, 4, 4), np.uint8))
    with pytest.raises(UsageError, match=r"formats: found dicom, expected some of nifti, nrrd"):
        check_output(tmp_path / "out", ["dicom"])
    with pytest.raises(OutputError, match=r"format seg: .* is not a DICOM series"):
        check_output(tmp_path / "out", ["nifti", "seg"], source=segmentation.source)
    write_case(tmp_path / "out", segmentation)
    with pytest.raises(OutputError, match="holds a result already"):
        check_output(tmp_path / "out")
    check_output(tmp_path / "out", overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_name_that_is_too_long_is_an_output_error(tmp_path: Path, overwrite: bool) -> None:
    segmentation = make_segmentation(np.ones((4, 4, 4), np.uint8))
    for work in (
        lambda: check_output(tmp_path / ("a" * 300), source=segmentation.source, overwrite=overwrite),
        lambda: write_case(tmp_path / ("a" * 300), segmentation, overwrite=overwrite),
    ):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            work()
        assert caught.value.reason == "not-writable"
    assert os.listdir(tmp_path) == []


def test_probabilities_that_are_missing_are_reported_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="format probability: the segmentation carries no probability map"):
        write_case(tmp_path / "out", make_segmentation(np.ones((4, 4, 4), np.uint8)), formats=["probability"])
    assert os.listdir(tmp_path) == []


def test_an_empty_case_is_written_in_every_format_and_the_report_says_so(tmp_path: Path) -> None:
    case = make_case(tmp_path, empty=True)
    write_case(
        tmp_path / "out", case.segmentation, formats=list(FORMATS), volume=case.volume_hu, overview=write_overview
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["findings"]["count"] == 0
    assert any("Nothing was found" in warning for warning in report["warnings"])
