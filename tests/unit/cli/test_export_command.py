"""``lightunet export``: edited label maps as DICOM objects on their series."""

import json
from dataclasses import replace

import nibabel
import numpy as np
import pydicom
import pytest

from lightunet_monai.cli import main
from lightunet_monai.labels import LabelTable
from lightunet_monai.outputs import (
    describe_case,
    measure_lesions,
    write_case,
    write_dicom_seg,
    write_nrrd,
    write_report,
)
from lightunet_monai.outputs import write_seg_nrrd as write_segnrrd
from tests.builders.segmentation import MASS, make_case, make_segmentation
from tests.builders.series import make_series
from tests.builders.witnesses import dicom_errors, paste, read_frames


def edited(case):
    """The case after somebody took a corner of the larger lesion away."""
    label_map = case.segmentation.label_map.copy()
    label_map[:14] = 0
    assert 0 < label_map.sum() < case.segmentation.label_map.sum()
    return make_segmentation(label_map, case.segmentation.affine, case.segmentation.source)


def nifti(segmentation, path, flip=()):
    image = nibabel.Nifti1Image(segmentation.label_map, segmentation.affine)
    nibabel.save(image.as_reoriented([[a, -1 if a in flip else 1] for a in range(3)]), path)
    return path


def export(tmp_path, labelmap, case, *words, out="out"):
    command = ["export", str(labelmap), "--source", str(case.folder), "-o", str(tmp_path / out), *words]
    return main(command), tmp_path / out


WRITERS = {
    "map.nii.gz": nifti,
    "flipped.nii.gz": lambda s, p: nifti(s, p, flip=(0, 2)),
    "map.nrrd": write_nrrd,
    "map.seg.nrrd": write_segnrrd,
    "seg.dcm": write_dicom_seg,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", ["oblique", "multi-frame"])
def test_an_edited_label_map_becomes_valid_objects_on_its_series(tmp_path, name, kind):
    case = make_case(tmp_path, kind)
    changed = edited(case)
    path = tmp_path / name
    WRITERS[name](changed, path)
    code, out = export(tmp_path, path, case, "--formats", "seg,sr,rtstruct,nifti")
    assert code == 0
    seg = pydicom.dcmread(out / "segmentation.dcm")
    assert np.array_equal(paste(read_frames(out / "segmentation.dcm"), changed) > 0, changed.label_map > 0)
    assert {item.SegmentAlgorithmType for item in seg.SegmentSequence} == {"SEMIAUTOMATIC"}
    assert "edited AI" in seg.SeriesDescription
    structures = pydicom.dcmread(out / "rtstruct.dcm").StructureSetROISequence
    assert {item.ROIGenerationAlgorithm for item in structures} == {"SEMIAUTOMATIC"}
    for file in ("segmentation.dcm", "findings_sr.dcm", "rtstruct.dcm"):
        assert dicom_errors(out / file) == []
    report = json.loads((out / "report.json").read_text())
    expected = measure_lesions(changed, case.volume_hu)
    assert report["run"]["algorithm_type"] == "SEMIAUTOMATIC"
    assert [item["voxels"] for item in report["findings"]["lesions"]] == [item.voxels for item in expected]
    assert [item["mean_hu"] for item in report["findings"]["lesions"]] == pytest.approx(
        [item.mean_hu for item in expected], abs=1e-3
    )


def test_a_model_for_pictures_drew_no_volume(tmp_path, capsys):
    case = make_case(tmp_path, "oblique")
    path = nifti(edited(case), tmp_path / "map.nii.gz")
    code, out = export(tmp_path, path, case, "--model", "ultrasound")
    assert code == 2
    assert "ultrasound takes pictures" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("name", ["probability", "seg-fractional"])
def test_a_label_map_cannot_become_probabilities(tmp_path, capsys, name):
    case = make_case(tmp_path, "oblique")
    code, out = export(tmp_path, nifti(edited(case), tmp_path / "map.nii.gz"), case, "--formats", f"seg,{name}")
    assert code == 2
    assert f"option --formats: found {name}, which a label map without probabilities" in capsys.readouterr().err
    assert not out.exists()


def test_the_label_map_of_a_run_with_other_structures_needs_its_own_bundle(tmp_path, capsys):
    case = make_case(tmp_path, labels=LabelTable((replace(MASS, name="cyst", title="Cyst"),)))
    path = nifti(case.segmentation, tmp_path / "map.nii.gz")
    write_report(describe_case(case.folder, segmentation=case.segmentation), tmp_path / "report.json")
    code, out = export(tmp_path, path, case)
    assert code == 2
    message = capsys.readouterr().err
    assert f"{path}: its report says that it holds cyst, found a model of tumor." in message
    assert "--bundle" in message
    assert not out.exists()
    code, _ = export(tmp_path, path, case, "--model", "breast-ct")  # whoever names the model says what the values are
    assert code == 0


def test_the_model_is_that_of_the_run_and_a_manual_one_has_none(tmp_path):
    case = make_case(tmp_path)
    changed = edited(case)
    plain, own = nifti(changed, tmp_path / "map.nii.gz"), write_segnrrd(changed, tmp_path / "map.seg.nrrd")
    write_report(describe_case(case.folder, segmentation=case.segmentation), tmp_path / "run.json")
    words = {"report": (plain, "--report", str(tmp_path / "run.json")), "tags": (own,), "bundle": (plain,)}
    names = {}
    for title, (path, *options) in words.items():
        code, out = export(tmp_path, path, case, *options, out=title)
        assert code == 0
        (algorithm,) = (
            pydicom.dcmread(out / "segmentation.dcm").SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
        )
        names[title] = (algorithm.AlgorithmName, algorithm.AlgorithmVersion)
    assert names["report"] == names["tags"] == ("lightunet-test", "0.0.1")
    assert names["bundle"][0] == "breast_ct_tumor_segmentation"
    assert (
        "threshold"
        in pydicom.dcmread(tmp_path / "report" / "segmentation.dcm")
        .SegmentSequence[0]
        .SegmentationAlgorithmIdentificationSequence[0]
        .AlgorithmParameters
    )

    _, out = export(tmp_path, plain, case, "--manual", "--formats", "seg,sr,rtstruct", out="manual")
    segment = pydicom.dcmread(out / "segmentation.dcm").SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "MANUAL"
    assert "SegmentAlgorithmName" not in segment
    assert "SegmentationAlgorithmIdentificationSequence" not in segment
    for file in ("segmentation.dcm", "findings_sr.dcm", "rtstruct.dcm"):
        assert dicom_errors(out / file) == []
    _, out = export(tmp_path, plain, case, "--unedited", out="unedited")
    assert pydicom.dcmread(out / "segmentation.dcm").SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"


def test_an_emptied_label_map_says_that_nothing_is_marked(tmp_path):
    case = make_case(tmp_path, empty=True)
    code, out = export(tmp_path, nifti(case.segmentation, tmp_path / "map.nii.gz"), case)
    assert code == 0
    (segment,) = pydicom.dcmread(out / "segmentation.dcm").SegmentSequence
    assert segment.SegmentDescription.startswith("Nothing is marked.")
    assert "Nothing is marked" in json.loads((out / "report.json").read_text())["warnings"][0]


def test_a_label_map_on_another_grid_is_refused_with_the_numbers(tmp_path, capsys):
    case = make_case(tmp_path)
    affine = case.segmentation.affine.copy()
    affine[0, 3] += 0.4
    moved = make_segmentation(case.segmentation.label_map, affine)
    assert export(tmp_path, nifti(moved, tmp_path / "moved.nii.gz"), case)[0] == 1
    assert "lies up to 0.500 voxels beside" in capsys.readouterr().err
    small = make_segmentation(case.segmentation.label_map[:, :, 1:], case.segmentation.affine)
    assert export(tmp_path, nifti(small, tmp_path / "small.nii.gz"), case)[0] == 1
    assert "40 x 36 x 19 voxels, its source has 40 x 36 x 20" in capsys.readouterr().err
    scaled = make_segmentation(case.segmentation.label_map, case.segmentation.affine @ np.diag([2, 2, 2, 1.0]))
    assert export(tmp_path, nifti(scaled, tmp_path / "scaled.nii.gz"), case)[0] == 1
    assert "one voxel is 2 x 2 x 2 voxels of its volume" in capsys.readouterr().err
    values = make_segmentation(case.segmentation.label_map, case.segmentation.affine)
    values.label_map[values.label_map > 0] = 9
    assert export(tmp_path, nifti(values, tmp_path / "values.nii.gz"), case)[0] == 1
    assert "holds the values [9], the labels of the model are [1]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_series_is_named_or_that_which_the_segmentation_refers_to(tmp_path, capsys):
    case = make_case(tmp_path)
    make_series(case.folder, shape=(40, 36, 20), spacing=(0.8, 0.9, 1.5), series=2)
    path = nifti(case.segmentation, tmp_path / "map.nii.gz")
    assert export(tmp_path, path, case)[0] == 1
    assert "2 volumes could be meant" in capsys.readouterr().err
    assert export(tmp_path, path, case, "--series", case.segmentation.source.series_uid)[0] == 0
    path = write_dicom_seg(case.segmentation, tmp_path / "seg.dcm")
    assert export(tmp_path, path, case, out="again")[0] == 0


def test_the_label_map_of_one_patient_is_not_written_for_another(tmp_path, capsys):
    case = make_case(tmp_path / "a")
    other = make_case(tmp_path / "b")
    for path in other.folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientID, dataset.SeriesInstanceUID = "B", "2.25.4711"
        dataset.save_as(path)
    own = case.segmentation.source.series_uid
    done = tmp_path / "done"
    write_case(done, case.segmentation, formats=["nifti", "segnrrd", "seg"])
    report = str(done / "report.json")
    away = tmp_path / "away"
    away.mkdir()
    seg = write_dicom_seg(case.segmentation, away / "seg.dcm")
    plain = nifti(case.segmentation, away / "map.nii.gz")
    for path, words, said in (
        (done / "labelmap.nii.gz", [], "report.json"),
        (done / "labelmap.seg.nrrd", [], "report.json"),
        (plain, ["--report", report], "report.json"),
        (seg, ["--series", "2.25.4711"], "seg.dcm"),
    ):
        capsys.readouterr()
        assert export(tmp_path, path, other, *words)[0] == 1
        message = capsys.readouterr().err
        assert f"{said}: says that the label map was drawn on series {own}, found series 2.25.4711" in message
        assert not (tmp_path / "out").exists()
    assert export(tmp_path, done / "labelmap.nii.gz", case, "--report", report)[0] == 0
    assert export(tmp_path, seg, case, "--series", own, out="seg")[0] == 0
    assert export(tmp_path, plain, other, out="unnamed")[0] == 0  # says nothing of a series


def test_a_tilted_series_is_exported_on_its_own_slices(tmp_path):
    case = make_case(tmp_path, "tilted")
    code, out = export(tmp_path, write_nrrd(case.segmentation, tmp_path / "map.nrrd"), case)
    assert code == 0
    found = paste(read_frames(out / "segmentation.dcm"), case.segmentation)
    assert np.array_equal(found > 0, case.segmentation.label_map > 0)


def test_nothing_is_overwritten_and_the_label_map_is_never_replaced(tmp_path, capsys):
    case = make_case(tmp_path)
    path = tmp_path / "out" / "labelmap.seg.nrrd"
    path.parent.mkdir()
    write_segnrrd(case.segmentation, path)
    before = path.read_bytes()
    assert export(tmp_path, path, case, "--overwrite")[0] == 2
    assert "would be replaced" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert export(tmp_path, path, case, out="other")[0] == 0
    assert export(tmp_path, path, case, out="other")[0] == 1
    assert "holds a result already" in capsys.readouterr().err
    assert export(tmp_path, path, case, "--overwrite", out="other")[0] == 0


@pytest.mark.parametrize("spelled", ["out/../out", "link", "link/../out"])
def test_the_label_map_is_not_replaced_however_its_folder_is_spelled(tmp_path, capsys, spelled):
    case = make_case(tmp_path)
    path = tmp_path / "out" / "labelmap.seg.nrrd"
    path.parent.mkdir()
    write_segnrrd(case.segmentation, path)
    (tmp_path / "link").symlink_to(path.parent, target_is_directory=True)
    before = path.read_bytes()
    assert export(tmp_path, path, case, "--overwrite", out=spelled)[0] == 2
    assert "would be replaced" in capsys.readouterr().err
    (tmp_path / "edited.seg.nrrd").symlink_to(path)
    assert export(tmp_path, tmp_path / "edited.seg.nrrd", case, "--overwrite")[0] == 2
    assert path.read_bytes() == before


def test_an_edited_file_that_is_not_written_anew_is_kept_and_told(tmp_path, capsys):
    case = make_case(tmp_path)
    path = nifti(case.segmentation, tmp_path / "map.nii.gz")
    assert export(tmp_path, path, case, "-f", "segnrrd,nrrd")[0] == 0
    mine = tmp_path / "out" / "labelmap.seg.nrrd"
    mine.write_bytes(b"edited")
    capsys.readouterr()
    assert export(tmp_path, path, case, "-f", "nifti", "--overwrite")[0] == 0
    assert "warning: labelmap.seg.nrrd was changed since" in capsys.readouterr().out
    assert mine.read_bytes() == b"edited"
    assert not (tmp_path / "out" / "labelmap.nrrd").exists()


def test_programs_get_json_lines(tmp_path, capsys):
    case = make_case(tmp_path)
    path = write_segnrrd(case.segmentation, tmp_path / "map.seg.nrrd")
    capsys.readouterr()
    assert export(tmp_path, path, case, "--progress", "json")[0] == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event.get("stage") for event in events] == ["read", "measure", "write", "write", None]
    assert events[-1] == {"schema": 1, "event": "done", "report": str(tmp_path / "out" / "report.json")}
    (tmp_path / "bad.json").write_text("{}")
    assert export(tmp_path, path, case, "--progress", "json", "--report", str(tmp_path / "bad.json"), out="x")[0] == 2
    event = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (event["event"], event["kind"]) == ("error", "UsageError")
    assert "bad.json: is no report" in event["message"]
