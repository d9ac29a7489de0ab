"""``lightunet inspect``."""

import json
import os
import sys

import pytest

from lightunet_monai.cli import main
from tests.builders.pictures import make_dicom2d, make_picture, make_region
from tests.builders.series import make_series
from tests.builders.volume import make_nifti


def inspect(capsys, *words):
    code = main(["inspect", *map(str, words)])
    return code, capsys.readouterr().out


def test_a_usable_study_is_shown_with_what_segment_would_take(tmp_path, capsys):
    truth = make_series(tmp_path, defect="localizer")
    code, text = inspect(capsys, tmp_path)
    assert code == 0
    assert f"segment would take {truth.series_uid}." in text
    assert "24 x 20 x 12" in text
    assert "0.8 x 0.9 x 1.5" in text
    assert "set aside: 1 x localizer" in text


def test_an_unusable_study_is_shown_with_the_reason_and_the_hint(tmp_path, capsys):
    make_series(tmp_path, defect="gap")
    code, text = inspect(capsys, tmp_path)
    assert code == 1
    assert "gap of 3.000 mm" in text
    assert "segment would refuse: gap." in text
    assert "complete export" in text


def test_a_series_without_a_uid_is_named_by_its_folder(tmp_path, capsys):
    def change(index, dataset):
        del dataset.SeriesInstanceUID

    make_series(tmp_path / "study", change=change)
    code, text = inspect(capsys, tmp_path)
    assert code == 0
    assert f"segment would take {tmp_path / 'study'}." in text
    make_series(tmp_path / "other", study=2, change=change)
    code, text = inspect(capsys, tmp_path)
    assert code == 1
    assert "segment would refuse: ambiguous." in text
    assert text.count("24 x 20 x 12") == 2


def test_the_json_document_says_the_same_to_programs(tmp_path, capsys):
    make_series(tmp_path / "dicom", defect="two kernels")
    make_nifti(tmp_path / "case.nii")
    code, text = inspect(capsys, tmp_path, "--json")
    document = json.loads(text)
    assert code == 1
    assert document["schema"] == 1
    study = document["study"]
    assert study["choice"]["selector"] is None
    assert study["choice"]["error"]["reason"] == "ambiguous"
    assert {source["kind"] for source in study["sources"]} == {"dicom", "file"}
    for source in study["sources"]:
        assert source["shape"] == [24, 20, 12]
        assert source["spacing"] == pytest.approx([0.8, 0.9, 1.5], abs=1e-4)
        assert source["problem"] is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file names of other systems are text")
def test_a_study_in_a_folder_whose_name_is_no_text_is_shown(tmp_path, capsys):
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    truth = make_series(folder, defect="gap")
    assert "segment would refuse: gap." in inspect(capsys, folder)[1]
    truth.files[0].write_bytes(b"")
    code, text = inspect(capsys, folder, "--json")
    assert code == 1
    assert str(folder) in json.dumps(json.loads(text), ensure_ascii=False)
    assert main(["inspect", str(folder / "missing")]) == 1
    assert r"M\udcfcller" in capsys.readouterr().err


def test_each_model_of_the_bundle_says_its_labels(capsys):
    documents = [json.loads(inspect(capsys, "--json", *words)[1]) for words in ((), ("--model", "tissues"))]
    names = [[label["name"] for label in document["model"]["labels"]] for document in documents]
    assert names == [["tumor"], ["tumor", "fibroglandular", "adipose", "skin"]]
    assert documents[1]["model"]["name"] == "breast_ct_tissue_segmentation"


def test_a_picture_is_shown_with_its_size_and_spacing_where_the_model_takes_pictures(tmp_path, capsys):
    path = make_dicom2d(tmp_path / "a.dcm", SequenceOfUltrasoundRegions=[make_region(0.01, 0.012)])
    code, text = inspect(capsys, path, "--model", "ultrasound")
    assert code == 0
    assert "90 x 70" in text
    assert "0.1 x 0.12" in text
    assert "segment would take a.dcm." in text
    assert "for US" in text
    code, text = inspect(capsys, make_picture(tmp_path / "a.jpg"), "--model", "ultrasound", "--json")
    (source,) = json.loads(text)["study"]["sources"]
    assert code == 0
    assert source["shape"] == [90, 70]
    assert source["spacing"] is None
    assert "no pixel spacing" in source["warnings"][0]


def test_a_picture_that_would_be_refused_is_shown_with_the_reason(tmp_path, capsys):
    (tmp_path / "a.png").touch()
    code, text = inspect(capsys, tmp_path / "a.png", "--model", "ultrasound")
    assert code == 1
    assert "cannot be used" in text
    assert "the file is empty" in text
    assert "segment would refuse: unreadable." in text
    assert "--model ultrasound" not in text
    assert main(["inspect", str(tmp_path / "none.png"), "--model", "ultrasound"]) == 1
    assert "no such file" in capsys.readouterr().err


def test_a_model_that_the_bundle_lacks_is_refused(capsys):
    assert main(["inspect", "--model", "liver"]) == 2
    assert "'liver', expected one of breast-ct, tissues, ultrasound" in capsys.readouterr().err


def test_a_broken_file_is_listed_with_its_problem(tmp_path, capsys):
    (tmp_path / "v.nii").write_bytes(b"text")
    code, text = inspect(capsys, tmp_path, "--json")
    (source,) = json.loads(text)["study"]["sources"]
    assert code == 1
    assert source["problem"]["kind"] == "UnreadableFileError"


def test_an_empty_folder_is_said_to_be_empty(tmp_path, capsys):
    code, text = inspect(capsys, tmp_path)
    assert code == 1
    assert "no volume" in text


def test_no_patient_data_is_printed(tmp_path, capsys):
    make_series(tmp_path)
    for option in ((), ("--json",)):
        _, text = inspect(capsys, tmp_path, *option)
        assert not any(secret in text for secret in ("Doe", "Jane", "MRN", "1970", "20200102"))
