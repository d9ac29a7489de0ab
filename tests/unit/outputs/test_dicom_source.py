"""What the objects of a result take over from their source, as other software reads it."""

from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from lightunet_monai.inputs import choose_series, discover_sources
from lightunet_monai.outputs import measure_lesions, write_dicom_seg, write_dicom_sr, write_rtstruct
from tests.builders.segmentation import Case, make_case
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
