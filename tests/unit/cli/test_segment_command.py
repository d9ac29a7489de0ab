"""``lightunet segment`` as a person and as a program use it; bad input, one line each."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest

from lightunet_monai.batch.case import load_case
from lightunet_monai.batch.causes import cause_of
from lightunet_monai.batch.settings import CaseSettings
from lightunet_monai.cli import COMMANDS, main
from lightunet_monai.errors import OutputError, UsageError
from lightunet_monai.inputs import choose_series, discover_sources
from lightunet_monai.outputs.picture import check_picture_output
from tests.builders.bundle import tiny_bundle
from tests.builders.series import make_series
from tests.builders.volume import make_nifti, make_voxels


@pytest.fixture(scope="module")
def a_bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("model") / "bundle")


def _segment(a_bundle, study, out, *more):
    return main(["segment", str(study), "-o", str(out), "--bundle", str(a_bundle), *map(str, more)])


def test_a_study_gives_label_map_report_findings_and_picture(a_bundle, tmp_path, capsys):
    make_series(tmp_path / "study", shape=(40, 36, 20))
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "out", "--formats", "nifti,seg,sr") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "labelmap.nii.gz", "segmentation.dcm", "findings_sr.dcm",
        "findings.csv", "findings.json", "report.json", "overview.png",
    }  # fmt: skip
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["seconds"]) >= {"read", "open", "prepare", "infer", "restore", "measure"}
    assert report["run"]["engine"]
    printed = capsys.readouterr().out
    assert "ml" in printed
    assert "Research use only" in printed


def test_programs_get_json_lines_with_a_schema_number(a_bundle, tmp_path, capsys):
    path = make_nifti(tmp_path / "a.nii.gz", make_voxels((40, 36, 20)))
    assert _segment(a_bundle, path, tmp_path / "out", "--progress", "json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["schema"] for event in events} == {1}
    assert events[-1] == {"schema": 1, "event": "done", "report": str(tmp_path / "out" / "report.json")}
    fractions = [event["fraction"] for event in events if event["event"] == "progress" and event["stage"] == "infer"]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


@pytest.mark.parametrize("formats", ["", " , "])
def test_formats_that_name_none_are_refused(a_bundle, tmp_path, capsys, formats):
    path = make_nifti(tmp_path / "a.nii.gz")
    assert _segment(a_bundle, path, tmp_path / "out", "--formats", formats) == 2
    assert "formats: found none, expected some of nifti" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_formats_that_name_none_are_refused_for_a_picture(tmp_path):
    with pytest.raises(UsageError, match="formats: found none, expected some of mask"):
        check_picture_output(tmp_path / "out", ())


def test_an_unknown_format_is_wrong_use_with_all_volumes_too(a_bundle, tmp_path, capsys):
    (tmp_path / "study").mkdir()
    for number in range(2):
        make_nifti(tmp_path / "study" / f"{number}.nii.gz", make_voxels() + number)
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "out", "--all", "--formats", "tiff") == 2
    assert capsys.readouterr().err.count("found tiff") == 1


def test_a_result_is_not_replaced_unless_asked(a_bundle, tmp_path, capsys):
    path = make_nifti(tmp_path / "a.nii.gz")
    assert _segment(a_bundle, path, tmp_path / "out") == 0
    assert _segment(a_bundle, path, tmp_path / "out") == 1
    assert "holds a result already" in capsys.readouterr().err
    assert _segment(a_bundle, path, tmp_path / "out", "--overwrite") == 0


def _empty(folder):
    (folder / "study").mkdir()
    return folder / "study"


def _text(folder):
    (folder / "notes.txt").write_text("no image")
    return folder / "notes.txt"


def _truncated(folder):
    path = make_nifti(folder / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:-500])
    return path


def _flat(folder):
    nib.save(nib.Nifti1Image(np.zeros((20, 20), np.int16), np.eye(4)), folder / "flat.nii.gz")
    return folder / "flat.nii.gz"


def _four_dimensional(folder):
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 9, 3), np.int16), np.eye(4)), folder / "time.nii.gz")
    return folder / "time.nii.gz"


def _not_a_number(folder):
    voxels = make_voxels().astype(np.float32)
    voxels[3, 4, 5] = np.nan
    return make_nifti(folder / "nan.nii.gz", voxels)


def _mr(folder):
    def change(_, dataset):
        dataset.Modality = "MR"
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"

    make_series(folder / "study", change=change)
    return folder / "study"


def _absent(folder):
    return folder / "nowhere"


@pytest.mark.parametrize(
    "study",
    [_empty, _text, _truncated, _flat, _four_dimensional, _not_a_number, _mr, _absent],
    ids=lambda f: f.__name__[1:],
)
def test_bad_input_is_one_line_with_a_hint_and_leaves_nothing_behind(a_bundle, tmp_path, capsys, study):
    assert _segment(a_bundle, study(tmp_path), tmp_path / "out") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert lines[0].endswith(")")  # the hint
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    assert not list(tmp_path.glob(".*"))


def test_an_output_folder_that_cannot_be_written_is_refused_before_the_work(a_bundle, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    path = make_nifti(tmp_path / "a.nii.gz")
    start = time.monotonic()
    assert _segment(a_bundle, path, tmp_path / "file" / "out") == 1
    assert time.monotonic() - start < 60
    assert "error: " in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_refused(a_bundle, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert _segment(a_bundle, make_nifti(tmp_path / "a.nii.gz"), tmp_path / "locked" / "out") == 1
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["segment"],
        ["segment", "x", "-o", "y", "--threshold", "2"],
        ["fly"],
        ["segment", "x", "-o", "y", "--engine", "coal"],
        ["segment", "", "-o", "y"],
        ["batch", "", "-o", "y"],
        ["inspect", ""],
    ],
)
def test_wrong_use_gives_exit_code_two(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_an_unknown_format_is_wrong_use(a_bundle, tmp_path, capsys):
    assert _segment(a_bundle, make_nifti(tmp_path / "a.nii.gz"), tmp_path / "out", "--formats", "jpeg") == 2
    assert "jpeg" in capsys.readouterr().err


def test_an_error_is_a_json_line_for_programs(a_bundle, tmp_path, capsys):
    assert _segment(a_bundle, tmp_path / "nowhere", tmp_path / "out", "--progress", "json") == 1
    event = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (event["event"], event["kind"]) == ("error", "NoImageFoundError")
    assert event["hint"]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from lightunet_monai.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'monai', 'numpy', 'pydicom'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in COMMANDS)


def test_profile_prints_both_networks_side_by_side(capsys):
    assert main(["profile", "--size", "256", "256"]) == 0
    printed = capsys.readouterr().out
    assert "31,043,586" in printed
    assert "4,198,000" in printed
    assert main(["profile", "--size", "3"]) == 2


def test_a_tilted_series_is_refused_and_with_regularize_comes_back_on_its_own_slices(
    a_bundle, tmp_path, capsys, project_root
):
    study = project_root.parent / "shared" / "data" / "dicom" / "D44_synthetic_tilt15_sphere_r20"
    if not study.exists():
        pytest.skip("the tilted study is not in ../shared/data/dicom")
    assert _segment(a_bundle, study, tmp_path / "out") == 1
    assert "--regularize" in capsys.readouterr().err
    assert _segment(a_bundle, study, tmp_path / "out", "--regularize", "--formats", "nifti,seg") == 0
    image = nib.load(tmp_path / "out" / "labelmap.nii.gz")
    assert image.shape == (96, 96, 60)
    assert image.affine[2, 1] == pytest.approx(0.2588, abs=1e-3)  # the slices lean as the source's do


def test_a_tilted_main_series_is_taken_with_the_option_and_never_its_by_product(a_bundle, tmp_path, capsys):
    truth = make_series(tmp_path / "study" / "main", series=1, shape=(40, 36, 40), defect="tilt")
    make_series(tmp_path / "study" / "bolus", series=2, shape=(40, 36, 3))
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "out") == 1
    assert "leans by 12.00 degrees" in capsys.readouterr().err
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "out", "--regularize") == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["source"]["series_uid"] == truth.series_uid


@pytest.mark.parametrize("name", ["probability", "seg-fractional"])
def test_probabilities_of_a_series_that_is_resampled_are_refused_before_the_model_is_opened(tmp_path, capsys, name):
    truth = make_series(tmp_path / "study", defect="tilt")
    source = choose_series(discover_sources(tmp_path / "study"))
    words = ("--regularize", "--formats", f"nifti,{name}")
    assert _segment(tmp_path / "no bundle", tmp_path / "study", tmp_path / "out", *words) == 1
    message = capsys.readouterr().err
    assert f"format {name}: {source.name} is tilted or uneven" in message
    assert f"Leave {name} out" in message
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError) as caught:
        load_case(source, CaseSettings(formats=(name,), regularize=True))
    assert not cause_of(caught.value).may_pass
    make_series(tmp_path / "regular")
    regular = choose_series(discover_sources(tmp_path / "regular"))
    loaded = load_case(regular, CaseSettings(formats=(name,), regularize=True))
    assert loaded.volume.shape[1:] == truth.voxels.shape


def test_datalist_pairs_by_name_and_names_what_is_missing(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for index in range(4):
        make_nifti(tmp_path / "images" / f"{index}.nii.gz")
        make_nifti(tmp_path / "labels" / f"{index}.nii.gz")
    words = ["datalist", str(tmp_path / "images"), str(tmp_path / "labels"), "-o", str(tmp_path / "list.json")]
    assert main([*words, "--validation", "0.25"]) == 0
    content = json.loads((tmp_path / "list.json").read_text())
    assert (len(content["training"]), len(content["validation"])) == (3, 1)
    assert all((tmp_path / pair["image"]).exists() for pair in content["training"])
    (tmp_path / "labels" / "2.nii.gz").unlink()
    assert main(words) == 1
    assert "2.nii.gz" in capsys.readouterr().err


def test_evaluate_prints_a_table_and_a_free_response_curve(a_bundle, tmp_path, capsys):
    make_nifti(tmp_path / "image.nii.gz", make_voxels((40, 36, 20)))
    make_nifti(tmp_path / "label.nii.gz", (make_voxels((40, 36, 20)) > 40).astype(np.uint8))
    (tmp_path / "list.json").write_text(json.dumps({"test": [{"image": "image.nii.gz", "label": "label.nii.gz"}]}))
    words = [
        "evaluate",
        "--data",
        str(tmp_path / "list.json"),
        "--bundle",
        str(a_bundle),
        "-o",
        str(tmp_path / "e.json"),
    ]
    assert main([*words, "--thresholds", "0.3,0.7"]) == 0
    assert "false positives per volume" in capsys.readouterr().out
    results = json.loads((tmp_path / "e.json").read_text())["results"]
    assert [result["threshold"] for result in results] == [0.3, 0.7]


def test_a_study_of_two_series_is_ambiguous_and_all_takes_both(a_bundle, tmp_path, capsys):
    first = make_series(tmp_path / "study" / "a", series=1)
    make_series(tmp_path / "study" / "b", series=2)
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert first.series_uid in message
    assert "--all" in message
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "one", "--series", first.series_uid) == 0
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "out", "--all") == 0
    assert len(list((tmp_path / "out").glob("*/report.json"))) == 2
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "x", "--all", "--series", first.series_uid) == 2


def test_every_volume_of_a_study_has_a_folder_of_its_own(a_bundle, tmp_path, capsys):
    names = ("p1/ct", "p2/ct", "p3/ct_2", "p4/CT")
    for number, name in enumerate(names):
        (tmp_path / "study" / name).parent.mkdir(parents=True)
        make_nifti(tmp_path / "study" / f"{name}.nii.gz", make_voxels() + number)
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "out", "--all") == 0
    reports = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/report.json")]
    assert sorted(report["source"]["path"] for report in reports) == sorted(
        str(tmp_path / "study" / f"{name}.nii.gz") for name in names
    )


def test_results_within_the_study_are_no_volumes_of_it(a_bundle, tmp_path):
    make_series(tmp_path / "study")
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "study" / "out", "--formats", "nifti,probability,seg") == 0
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "again") == 0
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "all", "--all") == 0
    assert len(list((tmp_path / "all").iterdir())) == 1


def test_an_archive_that_is_refused_beside_the_series_is_a_warning_that_names_it(a_bundle, tmp_path, capsys):
    make_series(tmp_path / "study")
    (tmp_path / "study" / "more.zip").write_bytes(b"PK\3\4 cut off")
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "out") == 0
    warning = f"1 zip archives were refused ({tmp_path / 'study' / 'more.zip'}); slices may be missing"
    assert f"warning: {warning}" in capsys.readouterr().out
    assert warning in " ".join(json.loads((tmp_path / "out" / "report.json").read_text())["warnings"])


def _series_of_uid(folder, uid):
    make_series(folder, change=lambda _, dataset: setattr(dataset, "SeriesInstanceUID", uid))


def _folders_by_series(out):
    reports = {path.parent.name: json.loads(path.read_text()) for path in out.glob("*/report.json")}
    return {report["source"]["series_uid"]: name for name, report in reports.items()}


def test_a_study_that_grows_and_shrinks_keeps_the_folder_of_each_series(a_bundle, tmp_path):
    first, second = "1.2.3.55", "1.2.4.55"
    words = (a_bundle, tmp_path / "study", tmp_path / "out", "--all", "--overwrite")
    _series_of_uid(tmp_path / "study" / "b", first)
    assert _segment(*words) == 0
    assert _folders_by_series(tmp_path / "out") == {first: "series_55"}
    _series_of_uid(tmp_path / "study" / "a", second)  # found before the first one
    assert _segment(*words) == 0
    folders = _folders_by_series(tmp_path / "out")
    assert folders[first] == "series_55"
    assert re.fullmatch("series_55_[0-9a-f]{8}", folders[second])
    shutil.rmtree(tmp_path / "study" / "b")
    assert _segment(*words) == 0
    assert _folders_by_series(tmp_path / "out") == folders


def test_series_whose_uids_end_alike_have_the_same_folders_in_any_order(a_bundle, tmp_path):
    first, second = "1.2.3.55", "1.2.4.55"
    for out, order in (("one", (first, second)), ("two", (second, first))):
        for folder, uid in zip("ab", order, strict=True):
            shutil.rmtree(tmp_path / "study" / folder, ignore_errors=True)
            _series_of_uid(tmp_path / "study" / folder, uid)
        assert _segment(a_bundle, tmp_path / "study", tmp_path / out, "--all") == 0
    assert len(_folders_by_series(tmp_path / "one")) == 2
    assert _folders_by_series(tmp_path / "one") == _folders_by_series(tmp_path / "two")


def test_the_folder_of_another_series_is_not_taken(a_bundle, tmp_path):
    _series_of_uid(tmp_path / "study", "1.2.3.55")
    _series_of_uid(tmp_path / "other", "1.2.4.55")
    assert _segment(a_bundle, tmp_path / "other", tmp_path / "out", "--all") == 0
    assert _segment(a_bundle, tmp_path / "study", tmp_path / "out", "--all", "--overwrite") == 0
    assert set(_folders_by_series(tmp_path / "out")) == {"1.2.3.55", "1.2.4.55"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file names of other systems are text")
def test_a_file_whose_name_is_no_text_is_segmented(a_bundle, tmp_path):
    path = make_nifti(tmp_path / "a.nii.gz", make_voxels((40, 36, 20)))
    path = path.rename(tmp_path / os.fsdecode(b"M\xfcller.nii.gz"))
    assert _segment(a_bundle, path, tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["source"]["path"] == str(path)
    assert report["findings"]["lesions"]  # each has a UID that is made from the name


@pytest.mark.parametrize("words", [(), ("--all",), ("--overwrite",)])
def test_an_output_name_that_is_too_long_is_one_line(a_bundle, tmp_path, capsys, words):
    path = make_nifti(tmp_path / "a.nii.gz")
    assert _segment(a_bundle, path, tmp_path / ("a" * 300), *words) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "cannot be written" in lines[0]


def test_repeated_runs_with_deterministic_uids_give_the_same_object(a_bundle, tmp_path):
    import pydicom

    make_series(tmp_path / "study", shape=(40, 36, 12))
    uids = []
    for name in ("one", "two"):
        _segment(a_bundle, tmp_path / "study", tmp_path / name, "--formats", "seg", "--deterministic-uids")
        uids.append(pydicom.dcmread(tmp_path / name / "segmentation.dcm").SOPInstanceUID)
    assert uids[0] == uids[1]
