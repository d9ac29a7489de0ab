"""What the objects of a result take over from their source, as other software reads it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from lightunet_monai.errors import OutputError
from lightunet_monai.inputs import choose_series, discover_sources
from lightunet_monai.outputs import (
    check_output,
    measure_lesions,
    write_case,
    write_dicom_seg,
    write_dicom_sr,
    write_rtstruct,
)
from lightunet_monai.segmentation import Segmentation
from lightunet_monai.sources import DicomSeries, DicomSlice
from tests.builders.segmentation import Case, make_case
from tests.builders.series import make_series
from tests.builders.witnesses import dicom_errors, find_tool, run_tool

JAPANESE, KOREAN = "Yamada^Tarou=山田^太郎=やまだ^たろう", "Hong^Gildong=洪^吉洞=홍^길동"


def _objects(case: Case, folder: Path) -> list[Path]:
    """SEG, SR and RTSTRUCT of a case whose source files were changed."""
    segmentation = replace(case.segmentation, source=choose_series(discover_sources(case.folder)))
    seg = write_dicom_seg(segmentation, folder / "seg.dcm")
    findings = measure_lesions(segmentation, case.volume_hu)
    sr = write_dicom_sr(segmentation, findings, seg, folder / "sr.dcm")
    return [seg, sr, write_rtstruct(segmentation, folder / "rtstruct.dcm")]


@pytest.mark.filterwarnings("ignore:(Incorrect value for Specific Character Set|Unknown encoding)")
@pytest.mark.parametrize(
    ("stated", "name", "written"),
    [
        (["", "ISO 2022 IR 87"], JAPANESE, ["ISO 2022 IR 6", "ISO 2022 IR 87"]),
        (["ISO 2022 IR 6", "ISO 2022 IR 87"], JAPANESE, ["ISO 2022 IR 6", "ISO 2022 IR 87"]),
        (["ISO_IR 13", "ISO 2022 IR 87"], JAPANESE, ["ISO 2022 IR 13", "ISO 2022 IR 87"]),
        (["", "ISO 2022 IR 149"], KOREAN, ["ISO 2022 IR 6", "ISO 2022 IR 149"]),
        ("GB18030", "Wang^XiaoDong=王^小东", "GB18030"),
        ("ISO_IR 192", JAPANESE, "ISO_IR 192"),
        ("ISO_IR 100", "Müller^Jörg", "ISO_IR 100"),
        ("ISO 2022 IR 100", "Müller^Jörg", "ISO_IR 100"),
        ("ISO-IR 100", "Müller^Jörg", "ISO_IR 192"),
        ("ISO_IR 999", "Miller^Jane", "ISO_IR 192"),
        ("ISO_IR 6", "Miller^Jane", None),
    ],
)
def test_names_in_any_character_set_come_back_right(
    tmp_path: Path, stated: str | list[str], name: str, written: str | list[str] | None
) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    description = name.partition("=")[2].replace("=", "").replace("^", "") or name.replace("^", " ")
    for path in case.folder.iterdir():
        dataset = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            dataset.SpecificCharacterSet, dataset.PatientName, dataset.StudyDescription = stated, name, description
            dataset.save_as(path)
    stored = pydicom.dcmread(path).get_item("PatientName").value

    for path in _objects(case, tmp_path):
        dataset = pydicom.dcmread(path)
        assert dataset.get("SpecificCharacterSet") == written
        assert (dataset.PatientName, dataset.get("StudyDescription", description)) == (name, description)
        assert dicom_errors(path) == []
        if "ISO 2022 IR 87" in (written or ""):  # which dcmtk does not know: byte for byte that of the source
            assert stored in path.read_bytes()
        else:
            run_tool(find_tool("dcmconv"), "+U8", path, tmp_path / "unicode.dcm")
            assert pydicom.dcmread(tmp_path / "unicode.dcm").PatientName == name


@pytest.mark.filterwarnings("ignore:Failed to encode")  # pydicom, when it reads such a name
def test_a_character_set_that_may_not_stand_alone_follows_the_one_for_ascii(tmp_path: Path) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    for path in case.folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet, dataset.PatientName = ["", "ISO 2022 IR 87"], JAPANESE
        dataset.save_as(path)
        content = path.read_bytes()
        assert content.count(b"\\ISO 2022 IR 87 ") == 1
        path.write_bytes(content.replace(b"\\ISO 2022 IR 87 ", b"ISO 2022 IR 87  "))

    for path in _objects(case, tmp_path):
        dataset = pydicom.dcmread(path)
        assert dataset.SpecificCharacterSet == ["ISO 2022 IR 6", "ISO 2022 IR 87"]
        assert dataset.PatientName == JAPANESE
        assert dicom_errors(path) == []


def _change_uids(case: Case, change: Callable[[int, pydicom.Dataset], None]) -> Segmentation:
    for index, path in enumerate(sorted(case.folder.iterdir())):
        dataset = pydicom.dcmread(path)
        change(index, dataset)
        dataset.save_as(path)
    return replace(case.segmentation, source=choose_series(discover_sources(case.folder)))


def _no_instance_uid(index: int, dataset: pydicom.Dataset) -> None:
    if index == 4:
        dataset.SOPInstanceUID = ""


def _one_instance_uid(index: int, dataset: pydicom.Dataset) -> None:
    dataset.SOPInstanceUID = "2.25.4711"


def _no_series_uid(index: int, dataset: pydicom.Dataset) -> None:
    del dataset.SeriesInstanceUID


@pytest.mark.parametrize(
    ("change", "found", "warned"),
    [
        (_no_instance_uid, "has no SOP Instance UID, expected one, to which", "1 slices have no SOP Instance UID"),
        (_one_instance_uid, "has the SOP Instance UID of .*, expected one of its own", "share one SOP Instance UID"),
        (_no_series_uid, "slices have no Series Instance UID, expected one", "no Series Instance UID; DICOM results"),
    ],
)
def test_a_series_that_cannot_be_referred_to_gives_a_label_map_and_no_dicom_result(
    tmp_path: Path, change: Callable[[int, pydicom.Dataset], None], found: str, warned: str
) -> None:
    segmentation = _change_uids(make_case(tmp_path, shape=(24, 24, 8)), change)

    # Before inference, by whoever calls a writer, and of a series that was made by hand.
    slices = tuple(DicomSlice(item.path, position=item.position) for item in segmentation.source.slices)
    by_hand = replace(segmentation, source=replace(segmentation.source, slices=slices))
    for refused in (
        lambda: check_output(tmp_path / "out", ["nifti", "seg"], source=segmentation.source),
        lambda: write_case(tmp_path / "out", segmentation, formats=["nifti", "rtstruct"]),
        lambda: write_dicom_seg(segmentation, tmp_path / "seg.dcm"),
        lambda: write_rtstruct(by_hand, tmp_path / "rtstruct.dcm"),
    ):
        with pytest.raises(OutputError, match=found) as caught:
            refused()
        assert str(tmp_path / "source") in caught.value.message
        assert caught.value.reason == "no-reference"
        assert "Use nifti, nrrd or segnrrd" in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]

    write_case(tmp_path / "out", segmentation, formats=["nifti"])
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert warned in " ".join(report["warnings"])
    assert (tmp_path / "out" / "labelmap.nii.gz").exists()


def test_a_series_whose_instances_another_volume_claims_too_cannot_be_referred_to(tmp_path: Path) -> None:
    truth = make_series(tmp_path / "source", defect="two kernels")
    for path in truth.files[12:]:  # the other kernel, with the UIDs of the first, upside down
        dataset = pydicom.dcmread(path)
        index = int(dataset.SOPInstanceUID.split(".")[-2])
        dataset.SOPInstanceUID = f"{truth.series_uid}.{13 - index}"
        dataset.save_as(path)
    for source in discover_sources(truth.folder):
        assert isinstance(source, DicomSeries)
        assert len({item.sop_instance_uid for item in source.slices}) == len(source.slices) == 12
        assert "share one SOP Instance UID" in " ".join(source.warnings)
        with pytest.raises(OutputError, match="another volume have one SOP Instance UID") as caught:
            check_output(tmp_path / "out", ["sr"], source=source)
        assert caught.value.reason == "no-reference"
        check_output(tmp_path / "out", source=source)


def test_a_series_that_was_made_by_hand_takes_its_uids_from_the_files(tmp_path: Path) -> None:
    case = make_case(tmp_path, shape=(24, 24, 8))
    source = case.segmentation.source
    assert isinstance(source, DicomSeries)
    slices = tuple(DicomSlice(item.path, position=item.position) for item in source.slices)
    by_hand = replace(source, slices=slices)
    check_output(tmp_path / "out", ["seg"], source=by_hand)
    seg = write_dicom_seg(replace(case.segmentation, source=by_hand), tmp_path / "seg.dcm")
    references = pydicom.dcmread(seg).ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert [item.ReferencedSOPInstanceUID for item in references] == [item.sop_instance_uid for item in source.slices]
