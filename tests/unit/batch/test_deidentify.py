"""What our writers make of a series with a patient's data, and what is left of them afterwards."""

import gzip
import hashlib
import json
import re
import shutil
from copy import deepcopy

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom import Dataset, Sequence
from pydicom.dataelem import RawDataElement

from lightunet_monai.batch.deidentify import (
    TABLE,
    _pseudonym,
    _renamed_cells,
    _renamer,
    check_available,
    deidentify,
    deidentify_case,
    new_uid,
)
from lightunet_monai.batch.publish import CASES, publish, read_result
from lightunet_monai.batch.scrub import redact_report
from lightunet_monai.inputs import choose_series, discover_sources
from lightunet_monai.outputs import FORMATS, describe_case, measure_lesions, write_case
from lightunet_monai.outputs.marking import RESEARCH_STATEMENT
from lightunet_monai.review import write_overview
from tests.builders.segmentation import make_lesions, make_segmentation
from tests.builders.series import make_series
from tests.builders.witnesses import dicom_errors

pytest.importorskip(
    f"dicomanonymizer.dicom_anonymization_databases.dicomfields_{TABLE}",
    reason="dicom-anonymizer is not installed; it comes with the extra 'deidentify'",
)

SECRET = "a secret"
ROOT = "1.2.826.0.1.3680043.4711"
SHAPE = (40, 36, 20)
OBJECTS = tuple(sorted(item.file_name for item in FORMATS.values() if item.file_name.endswith(".dcm")))

PLANTED = {
    "PatientName": "PLANTED^PATIENT",
    "PatientID": "PLANTED-ID",
    "PatientBirthDate": "19470411",
    "PatientBirthName": "PLANTED^BIRTH",
    "PatientAge": "072Y",
    "PatientSize": "1.6471",
    "PatientWeight": "64.711",
    "PatientAddress": "PLANTED street",
    "PatientComments": "PLANTED comments",
    "OtherPatientIDs": "PLANTED-OTHER",
    "IssuerOfPatientID": "PLANTED issuer",
    "EthnicGroup": "PLANTED group",
    "InstitutionName": "PLANTED clinic",
    "InstitutionAddress": "PLANTED road",
    "StationName": "PLANTED-STATION",
    "DeviceSerialNumber": "PLANTED-SERIAL",
    "OperatorsName": "PLANTED^OPERATOR",
    "ReferringPhysicianName": "PLANTED^PHYSICIAN",
    "PhysiciansOfRecord": "PLANTED^RECORD",
    "StudyDescription": "PLANTED study",
    "SeriesDescription": "PLANTED series",
    "ProtocolName": "PLANTED protocol",
    "AccessionNumber": "PLANTED-ACC",
    "StudyID": "PLANTED-SID",
    "StudyDate": "20190417",
    "StudyTime": "174711",
    "ImageComments": "PLANTED image",
    "ClinicalTrialSubjectID": "PLANTED-TRIAL",
}
DATES = {"PatientBirthDate", "StudyDate", "StudyTime", "PatientAge", "PatientSize", "PatientWeight"}
TRACES = [b"PLANTED", ROOT.encode(), *(PLANTED[name].encode() for name in DATES)]


def _plant(index, dataset):
    for name, value in PLANTED.items():
        setattr(dataset, name, value)
    dataset.private_block(0x0011, "PLANTED CREATOR", create=True).add_new(1, "LO", "PLANTED private")
    request = Dataset()
    request.RequestedProcedureDescription = "PLANTED procedure"
    dataset.RequestAttributesSequence = Sequence([request])
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{ROOT}.1", f"{ROOT}.2"
    dataset.FrameOfReferenceUID = f"{ROOT}.3"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.4.{index}"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Every format of a case, as the batch writes it to its staging folder."""
    folder = tmp_path_factory.mktemp("planted")
    truth = make_series(folder / "PLANTED PATIENT", shape=SHAPE, change=_plant)
    source = choose_series(discover_sources(truth.folder))
    segmentation = make_segmentation(make_lesions(SHAPE), np.array(source.affine), source, probability=True)
    findings = measure_lesions(segmentation, truth.voxels)
    report = describe_case(source, segmentation=segmentation, findings=findings)
    write_case(
        folder / "case",
        segmentation,
        formats=list(FORMATS),
        findings=findings,
        report=redact_report(report, source, "key"),
        volume=truth.voxels,
        overview=write_overview,
    )
    return folder / "case"


@pytest.fixture(scope="module")
def cleaned(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cleaned") / "case"
    shutil.copytree(original, folder)
    deidentify_case(folder, secret=SECRET)
    return folder


def _bytes(path):
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def _uids(dataset):
    return {str(item.value) for item in dataset.iterall() if item.VR == "UI" and item.VM == 1}


def _write(folder, change, formats, label_map=None, shape=SHAPE):
    """A case of a series that was changed, as the batch writes it to its staging folder."""
    truth = make_series(folder / "source", shape=shape, change=change)
    source = choose_series(discover_sources(truth.folder))
    label_map = make_lesions(shape) if label_map is None else label_map
    segmentation = make_segmentation(label_map, np.array(source.affine), source)
    report = redact_report(describe_case(source, segmentation=segmentation), source, "key")
    write_case(folder / "case", segmentation, formats=formats, report=report)
    return folder / "case"


def test_the_objects_tell_the_patient_before(original):
    for name in OBJECTS:
        assert b"PLANTED^PATIENT" in (original / name).read_bytes()


def test_no_file_holds_anything_of_the_patient_afterwards(original, cleaned):
    assert {path.name for path in cleaned.iterdir()} == {path.name for path in original.iterdir()}
    for path in cleaned.iterdir():
        assert [trace for trace in TRACES if trace in _bytes(path)] == [], path.name


@pytest.mark.parametrize("name", OBJECTS)
def test_the_object_is_valid_and_says_what_was_done(cleaned, name):
    dataset = pydicom.dcmread(cleaned / name)
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.LongitudinalTemporalInformationModified == "REMOVED"
    assert TABLE in dataset.DeidentificationMethod
    assert [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence] == ["113100", "113104", "113105"]
    assert not any(item.tag.is_private for item in dataset.iterall())
    assert dicom_errors(cleaned / name) == []


@pytest.mark.parametrize("name", OBJECTS)
def test_what_our_writers_say_of_the_result_stays(original, cleaned, name):
    before, after = pydicom.dcmread(original / name), pydicom.dcmread(cleaned / name)
    content = (cleaned / name).read_bytes()
    assert b"RESEARCH USE ONLY - NOT FOR DIAGNOSIS" in content
    assert b"Research use only; not for diagnosis" in content
    assert after.SeriesDescription == before.SeriesDescription
    contributions = [one.ContributingEquipmentSequence[0].ContributionDescription for one in (before, after)]
    assert contributions[0] == contributions[1] == RESEARCH_STATEMENT


def test_the_names_of_contours_stay(original, cleaned):
    before, after = (pydicom.dcmread(folder / "rtstruct.dcm") for folder in (original, cleaned))
    words = ("ROIName", "ROIDescription", "ROIGenerationDescription", "ROIObservationLabel")
    said = [[item.value for item in one.iterall() if item.keyword in words] for one in (before, after)]
    assert said[0] == said[1]
    assert {"Breast mass 1", "Breast mass 2"} < set(said[1])
    for keyword in ("StructureSetLabel", "StructureSetName", "StructureSetDescription"):
        assert after[keyword].value == before[keyword].value != ""


def test_an_empty_result_still_says_what_it_does_not_mean(tmp_path):
    case = _write(tmp_path, _plant, ["sr", "rtstruct"], np.zeros(SHAPE, np.uint8))
    deidentify_case(case, secret=SECRET)
    for name in ("segmentation.dcm", "findings_sr.dcm", "rtstruct.dcm"):
        content = (case / name).read_bytes()
        assert b"This does not mean that there is no lesion." in content
        assert [trace for trace in TRACES if trace in content] == []


def test_words_of_another_maker_are_not_taken_for_ours(tmp_path):
    truth = make_series(tmp_path / "ct", shape=(24, 20, 2), change=_plant)
    dataset = pydicom.dcmread(truth.files[0])
    dataset.ROIName = dataset.StructureSetName = dataset.ROIDescription = "PLANTED"
    deidentify(dataset, secret=SECRET)
    assert "PLANTED" not in str(dataset)


def _patient(identifier, study, issuer=""):
    def change(index, dataset):
        dataset.PatientID, dataset.StudyInstanceUID = identifier, f"{ROOT}.{study}"
        if issuer:
            dataset.IssuerOfPatientID = issuer

    return change


def test_patients_stay_apart_and_the_studies_of_one_stay_together(tmp_path):
    patients = {
        "jane": _patient("MRN-1", 1),
        "jane again": _patient("MRN-1", 2),
        "john": _patient("MRN-2", 3),
        "another clinic": _patient("MRN-1", 4, "clinic"),
        "nobody": _patient("", 5),
        "nobody else": _patient("", 6),
    }
    found = {}
    for name, change in patients.items():
        case = _write(tmp_path / name, change, ["sr", "rtstruct"], shape=(24, 24, 8))
        deidentify_case(case, secret=SECRET)
        (found[name],) = {pydicom.dcmread(path).PatientID for path in case.glob("*.dcm")}
        for path in case.iterdir():
            assert b"MRN-" not in _bytes(path)
    assert re.fullmatch("DEID-[0-9a-f]{16}", found["jane"])
    assert found["jane"] == found.pop("jane again")
    assert len(set(found.values())) == len(found)

    dataset = Dataset()
    dataset.PatientID = "MRN-1"
    assert _pseudonym(dataset, SECRET) == found["jane"] != _pseudonym(dataset, "another")


@pytest.mark.filterwarnings("ignore:(Invalid value for VR UI|The UID|The value for)")
@pytest.mark.parametrize(
    ("study", "series"),
    [
        ("MRN12345.20190417", f"{ROOT}.MRN12345"),
        (f"{ROOT}.MRN12345", "MRN12345.20190417"),
        ("2.1234", "2.12345"),
        ("2.12345", "2.1234"),
        ("1.2.840.10008.MRN12345", "1.2.840.10008.1.MRN12345.20190417"),
    ],
)
def test_uids_that_are_none_are_mapped_everywhere_too(tmp_path, study, series):
    def change(index, dataset):
        with pydicom.config.disable_value_validation():
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series

    case = _write(tmp_path, change, ["sr", "rtstruct", "segnrrd"], shape=(24, 24, 8))
    report = json.loads((case / "report.json").read_text(encoding="utf-8"))
    report["warnings"].append(f"series {series} of study {study}: odd, 2.1234567 mm")
    report["geometry"]["spacing_mm"] = [2.1234, 2.12345, 1.0]
    (case / "report.json").write_text(json.dumps(report), encoding="utf-8")
    deidentify_case(case, secret=SECRET)

    told = json.loads((case / "report.json").read_text(encoding="utf-8"))
    reference = pydicom.dcmread(case / "segmentation.dcm").ReferencedSeriesSequence[0]
    assert told["source"]["series_uid"] == reference.SeriesInstanceUID == new_uid(series, SECRET)
    for path in case.glob("*.dcm"):
        assert pydicom.dcmread(path).StudyInstanceUID == told["source"]["study_uid"] == new_uid(study, SECRET)
    new = (told["source"]["series_uid"], told["source"]["study_uid"])
    assert told["warnings"][-1] == "series {} of study {}: odd, 2.1234567 mm".format(*new)
    assert told["geometry"]["spacing_mm"] == [2.1234, 2.12345, 1.0]
    for path in case.iterdir():
        assert [trace for trace in (b"MRN12345", b"20190417", ROOT.encode()) if trace in _bytes(path)] == [], path.name


def test_numbers_in_the_table_of_findings_stay_what_they_are():
    rename = _renamer(["2.1234", "1.5"], SECRET)
    assert _renamed_cells("a,b,c\n2.1234,-1.5,x 1.5\n", rename) == f"a,b,c\n2.1234,-1.5,x {new_uid('1.5', SECRET)}\n"


def test_the_points_of_contours_are_not_read(original, tmp_path):
    dataset = pydicom.dcmread(original / "rtstruct.dcm")
    deidentify(dataset, secret=SECRET)
    dataset.save_as(tmp_path / "after.dcm", enforce_file_format=True)
    contours = [item for roi in dataset.ROIContourSequence for item in roi.ContourSequence]
    assert contours
    assert all(isinstance(item.get_item("ContourData"), RawDataElement) for item in contours)


@pytest.mark.parametrize("name", OBJECTS)
def test_uids_are_mapped_and_those_of_the_standard_stay(original, cleaned, name):
    before, after = pydicom.dcmread(original / name), pydicom.dcmread(cleaned / name)
    assert after.SOPClassUID == before.SOPClassUID == after.file_meta.MediaStorageSOPClassUID
    assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        assert after[keyword].value == new_uid(before[keyword].value, SECRET) != before[keyword].value
    for uid in _uids(before):
        if uid.startswith(ROOT):
            assert new_uid(uid, SECRET) in _uids(after)


@pytest.mark.parametrize("name", [name for name in OBJECTS if name.startswith("segmentation")])
def test_the_segmentation_refers_to_the_mapped_series_and_keeps_its_pixels(original, cleaned, name):
    before, after = pydicom.dcmread(original / name), pydicom.dcmread(cleaned / name)
    assert after.PixelData == before.PixelData
    assert after.ReferencedSeriesSequence[0].SeriesInstanceUID == new_uid(f"{ROOT}.2", SECRET)
    assert after.SegmentSequence[0].SegmentLabel == before.SegmentSequence[0].SegmentLabel


def test_contours_and_measurements_stay(original, cleaned):
    before, after = (pydicom.dcmread(folder / "rtstruct.dcm") for folder in (original, cleaned))
    contours = [
        [item.ContourData for roi in one.ROIContourSequence for item in roi.ContourSequence] for one in (before, after)
    ]
    assert contours[0] == contours[1] != []

    before, after = (pydicom.dcmread(folder / "findings_sr.dcm") for folder in (original, cleaned))
    values = [[item.value for item in one.iterall() if item.keyword == "NumericValue"] for one in (before, after)]
    assert values[0] == values[1] != []


def test_the_objects_of_a_case_still_refer_to_each_other(cleaned):
    segmentation = pydicom.dcmread(cleaned / "segmentation.dcm")
    report = pydicom.dcmread(cleaned / "findings_sr.dcm")
    assert segmentation.SOPInstanceUID in _uids(report)
    assert segmentation.StudyInstanceUID == report.StudyInstanceUID == new_uid(f"{ROOT}.1", SECRET)
    told = json.loads((cleaned / "report.json").read_text(encoding="utf-8"))
    assert told["source"]["series_uid"] == new_uid(f"{ROOT}.2", SECRET)


def test_every_file_tracks_the_lesions_by_the_same_mapped_uids(original, cleaned):
    before, after = (
        [lesion["tracking_uid"] for lesion in json.loads((folder / "findings.json").read_text())["lesions"]]
        for folder in (original, cleaned)
    )
    assert after == [new_uid(uid, SECRET) for uid in before] != []
    segments = pydicom.dcmread(cleaned / "segmentation.dcm").SegmentSequence
    assert [item.TrackingUID for item in segments] == after
    image = SimpleITK.ReadImage(str(cleaned / "labelmap.seg.nrrd"))
    tags = dict(tag.split(":", 1) for tag in image.GetMetaData("Segment0_Tags").split("|") if tag)
    assert tags["LightUNet.TrackingUIDs"].split() == after
    untouched = SimpleITK.ReadImage(str(original / "labelmap.seg.nrrd"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), SimpleITK.GetArrayFromImage(untouched))


def test_the_report_fits_the_files_and_the_case_can_be_published(cleaned, tmp_path):
    report = json.loads((cleaned / "report.json").read_text(encoding="utf-8"))
    assert {item["name"] for item in report["files"]} == {path.name for path in cleaned.iterdir()} - {"report.json"}
    for item in report["files"]:
        assert item["sha256"] == hashlib.sha256((cleaned / item["name"]).read_bytes()).hexdigest()

    shutil.copytree(cleaned, tmp_path / "staging")
    assert publish(tmp_path / "staging", tmp_path, "key")
    assert read_result(tmp_path, "key") == report
    assert (tmp_path / CASES / "key" / "segmentation.dcm").is_file()


def test_the_same_secret_gives_the_same_uids_and_another_one_others(original):
    once, again, other = (pydicom.dcmread(original / "segmentation.dcm") for _ in range(3))
    for dataset, secret in ((once, SECRET), (again, SECRET), (other, "another")):
        deidentify(dataset, secret=secret)
    assert once == again
    mapped = {uid for uid in _uids(once) if not uid.startswith("1.2.840.10008.")}
    assert mapped
    assert not mapped & _uids(other)


@pytest.mark.parametrize("uid", ["", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.2.1"])
def test_a_uid_of_the_standard_is_never_mapped(uid):
    assert new_uid(uid, SECRET) == uid


def test_a_mapped_uid_is_a_valid_uid():
    mapped = pydicom.uid.UID(new_uid(f"{ROOT}.1", SECRET))
    assert mapped.is_valid
    assert mapped.startswith("2.25.")
    check_available()


def test_a_data_set_that_holds_all_of_it_loses_all_of_it(tmp_path):
    truth = make_series(tmp_path / "ct", shape=(24, 20, 2), change=_plant)
    dataset = pydicom.dcmread(truth.files[0])
    inner = Dataset()
    inner.PatientID, inner.ReferencedSOPInstanceUID = "PLANTED", f"{ROOT}.5"
    inner.ReferencedSOPClassUID = dataset.SOPClassUID
    inner.private_block(0x0013, "PLANTED", create=True).add_new(2, "UN", b"PLANTED private")
    dataset.ReferencedImageSequence = Sequence([deepcopy(inner)])
    dataset.ReferencedStudySequence = Sequence([deepcopy(inner)])
    dataset.SourceImageSequence = Sequence([deepcopy(inner)])
    dataset.add_new((0x6000, 0x4000), "LT", "PLANTED overlay")
    dataset.add_new((0x5002, 0x3000), "OW", b"PLANTED curve ")
    dataset.PhysiciansReadingStudyIdentificationSequence = Sequence([deepcopy(inner)])
    dataset.AcquisitionDateTime, dataset.ContentDate, dataset.SeriesTime = "20190417174711", "20190417", "174711"
    dataset.IrradiationEventUID = [f"{ROOT}.6", f"{ROOT}.7"]
    pixels = dataset.PixelData

    deidentify(dataset, secret=SECRET)
    dataset.save_as(tmp_path / "after.dcm", enforce_file_format=True)

    content = (tmp_path / "after.dcm").read_bytes()
    assert [trace for trace in TRACES if trace in content] == []
    after = pydicom.dcmread(tmp_path / "after.dcm")
    assert after.PixelData == pixels
    assert after.IrradiationEventUID == [new_uid(f"{ROOT}.{number}", SECRET) for number in (6, 7)]
    assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == new_uid(f"{ROOT}.5", SECRET)
