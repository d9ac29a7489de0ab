"""``lightunet evaluate`` from end to end: label maps against references, and the model with a page."""

import csv
import json
import math
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK

from lightunet_monai.batch.keys import case_key
from lightunet_monai.batch.lease import Owner
from lightunet_monai.batch.ledger import Ledger
from lightunet_monai.cli import main
from lightunet_monai.cli.density import read_density
from lightunet_monai.cli.evaluate import _parse_thresholds, distinct_names
from lightunet_monai.cli.evaluation_output import Gallery
from lightunet_monai.inputs import discover_sources
from lightunet_monai.outputs import write_dicom_seg, write_seg_nrrd
from lightunet_monai.simulation.tissues import Tissue, breast_density
from tests.builders.bundle import tiny_bundle
from tests.builders.segmentation import make_case, make_lesions, make_segmentation
from tests.builders.series import make_series
from tests.builders.volume import make_affine, make_nifti, make_volume, make_voxels
from tests.unit.review.test_page import check_page

SHAPE = (24, 20, 12)


def _map(*boxes):
    values = np.zeros(SHAPE, dtype=np.uint8)
    for box in boxes:
        values[tuple(slice(a, b) for a, b in box)] = 1
    return values


CUBE = ((4, 10), (4, 10), (2, 8))
HALF = ((4, 10), (4, 10), (2, 5))
OTHER = ((16, 20), (14, 18), (2, 6))


@pytest.fixture
def folders(tmp_path):
    """Three cases: half found, nothing to find with one false positive, and one found wholly."""
    predictions, references = tmp_path / "pred", tmp_path / "data" / "labels"
    predictions.mkdir()
    references.mkdir(parents=True)
    for name, prediction, reference, suffix in (
        ("half", _map(HALF), _map(CUBE), ".nii.gz"),
        ("clean", _map(OTHER), _map(), ".nrrd"),
        ("whole", _map(CUBE), _map(CUBE), ".nii.gz"),
    ):
        make_volume(predictions / f"{name}{suffix}", prediction)
        make_nifti(references / f"{name}.nii.gz", reference)
    return predictions, references


def _run(*words):
    return main(["evaluate", *map(str, words)])


def test_two_folders_give_tables_json_and_a_page(folders, tmp_path, capsys):
    for name, glandular in (("half", 400), ("whole", 100)):  # of 1000 voxels
        tissues = np.full((10, 10, 10), Tissue.ADIPOSE, dtype=np.uint8)
        tissues.reshape(-1)[:glandular] = Tissue.FIBROGLANDULAR
        (tmp_path / "data" / "tissues").mkdir(exist_ok=True)
        make_nifti(tmp_path / "data" / "tissues" / f"{name}.nii.gz", tissues)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train.log").write_text('{"event": "progress", "epoch": 1, "loss": 0.5}\n')
    out = tmp_path / "out"
    assert _run(*folders, "-o", out, "--run", tmp_path / "run") == 0
    assert "| Dice | 0.556 |" in capsys.readouterr().out  # (2/3 + 0 + 1) / 3
    assert {path.name for path in out.iterdir()} == {
        "evaluation.json", "cases.csv", "lesions.csv", "evaluation.html"
    }  # fmt: skip
    content = json.loads((out / "evaluation.json").read_text())
    figures = content["figures"]
    assert figures["dice"]["value"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert figures["lesion_sensitivity"]["value"] == 1.0
    assert figures["false_positives_per_volume"]["value"] == pytest.approx(1 / 3)
    assert figures["volume_error"]["value"] == pytest.approx((0.5 + 0) / 2)
    assert figures["hausdorff95_mm"]["value"] == pytest.approx((3 * 1.5 + 0) / 2)  # three slices of 1.5 mm are missing
    assert [(row["low"], row["cases"]) for row in content["by_density"]] == [(0.1, 1), (0.3, 1)]
    assert content["cases_without_density"] == 1
    assert (content["best"], content["worst"]) == (["whole", "half", "clean"], [])
    rows = list(csv.DictReader((out / "cases.csv").read_text().splitlines()))
    assert [(row["case"], row["lesions"], row["lesions_found"]) for row in rows] == [
        ("clean", "0", "0"),
        ("half", "1", "1"),
        ("whole", "1", "1"),
    ]
    assert len((out / "lesions.csv").read_text().splitlines()) - 1 == 2
    page = check_page((out / "evaluation.html").read_text())
    assert len(page.pictures) == 1 + 3  # the learning curve and three cases
    assert "0.556" in page.cells
    assert str(tmp_path) not in page.text
    assert _run(*folders, "-o", out) == 0  # again, over its own result


def test_two_files_and_a_json_file_and_volumes_behind_the_outlines(folders, tmp_path, capsys):
    predictions, references = folders
    assert _run(predictions / "half.nii.gz", references / "half.nii.gz", "-o", tmp_path / "e.json") == 0
    content = json.loads((tmp_path / "e.json").read_text())
    assert (content["cases"], content["figures"]["recall"]["value"]) == (1, 0.5)
    (tmp_path / "images").mkdir()
    for name in ("half", "clean"):
        make_nifti(tmp_path / "images" / f"{name}.nii.gz", make_voxels(SHAPE))
    assert _run(*folders, "-o", tmp_path / "out", "--images", tmp_path / "images") == 1
    assert "no volume of the name whole" in capsys.readouterr().err
    make_nifti(tmp_path / "images" / "whole.nii.gz", make_voxels(SHAPE))
    assert _run(*folders, "-o", tmp_path / "out", "--images", tmp_path / "images") == 0


def test_what_this_package_writes_is_taken_as_it_lies(folders, tmp_path, capsys):
    predictions, references = folders
    results = tmp_path / "results"
    for path, name in (
        (predictions / "half.nii.gz", "labelmap.nii.gz"),
        (predictions / "whole.nii.gz", "whole_seg.nii.gz"),
    ):
        (results / path.name.split(".")[0]).mkdir(parents=True)
        shutil.copy(path, results / path.name.split(".")[0] / name)
    (references / "clean.nii.gz").unlink()
    assert _run(results, references) == 0
    assert "| Dice | 0.833 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("shape", "affine", "found"),
    [
        ((24, 20, 11), make_affine(), "24 x 20 x 11 voxels of 0.8 x 0.9 x 1.5 mm"),
        (SHAPE, make_affine((0.8, 0.9, 2.0)), "0.8 x 0.9 x 2 mm"),
        (SHAPE, make_affine(origin=(10.0, -20.0, 31.0)), "(10, -20, 31) mm"),
        (SHAPE, make_affine(signs=(-1, 1, 1)), "axes LAS"),
    ],
)
def test_another_grid_is_refused_with_both_files_and_both_grids(folders, capsys, shape, affine, found):
    predictions, references = folders
    make_nifti(predictions / "half.nii.gz", np.zeros(shape, dtype=np.uint8), affine)
    assert _run(predictions, references) == 1
    message = capsys.readouterr().err
    assert str(predictions / "half.nii.gz") in message
    assert str(references / "half.nii.gz") in message
    assert found in message
    assert "24 x 20 x 12 voxels of 0.8 x 0.9 x 1.5 mm from (10, -20, 30) mm with axes RAS" in message


@pytest.mark.parametrize("side", [0, 1])
def test_a_case_without_its_partner_is_refused_on_either_side(folders, capsys, side):
    (folders[side] / "half.nii.gz").unlink()
    assert _run(*folders) == 1
    message = capsys.readouterr().err
    assert f"{folders[side]}: no label map for 1 of 3 cases, the first is half" in message


def test_axes_of_another_order_or_direction_change_no_figure(folders, tmp_path, capsys):
    predictions, references = folders
    assert _run(predictions, references) == 0
    straight = capsys.readouterr().out
    for path in references.iterdir():
        whole = nib.load(path)
        to = nib.orientations.axcodes2ornt("SPL")
        nib.save(whole.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(whole.affine), to)), path)
    assert _run(predictions, references) == 0
    assert capsys.readouterr().out == straight


@pytest.fixture
def batch(folders, tmp_path):
    """The same three cases as results of a batch, named by their keys, and the volumes that they are of."""
    predictions, references = folders
    output, volumes = tmp_path / "batch", tmp_path / "volumes"
    Ledger(output, Owner.of_this_process()).close()
    volumes.mkdir()
    for value, path in enumerate(sorted(predictions.iterdir())):
        name, suffix = path.name.split(".", 1)
        volume = make_nifti(volumes / f"{name}.nii.gz", np.full(SHAPE, value, dtype=np.int16))
        case = output / "cases" / case_key(discover_sources(volume)[0])
        case.mkdir(parents=True)
        path.rename(case / f"labelmap.{suffix}")
    shutil.copytree(case, case.with_name(f"{case.name}.changed-12345678"))
    return output, references, volumes


@pytest.mark.parametrize("inside", ["", "cases"])
def test_the_results_of_a_batch_are_found_by_their_volumes(batch, tmp_path, capsys, inside):
    output, references, volumes = batch
    assert _run(output / inside, references, "--images", volumes, "-o", tmp_path / "out") == 0
    with open(tmp_path / "out" / "cases.csv") as file:
        dice = {row["case"]: float(row["dice"]) for row in csv.DictReader(file)}
    assert dice == {"clean": 0, "half": pytest.approx(2 / 3), "whole": 1}
    assert "not counted" not in capsys.readouterr().out

    (references / "clean.nii.gz").unlink()
    assert _run(output / inside, references, "--images", volumes) == 0
    assert "1 of 3 results of the batch have no reference: not counted." in capsys.readouterr().out


def test_a_volume_without_a_result_in_the_batch_is_refused(batch, capsys):
    output, references, volumes = batch
    make_nifti(volumes / "half.nii.gz", np.full(SHAPE, 77, dtype=np.int16))  # other content under the same name
    assert _run(output, references, "--images", volumes) == 1
    message = capsys.readouterr().err
    assert f"{output / 'cases'}: no result of {volumes / 'half.nii.gz'}, as it is now." in message


def test_the_references_of_a_batch_may_be_named_by_its_keys(batch, capsys):
    output, references, volumes = batch
    assert _run(output, references) == 1
    assert "With --images VOLUMES the references are named like the volumes" in capsys.readouterr().err
    for path in sorted(references.iterdir()):
        path.rename(references / f"{case_key(discover_sources(volumes / path.name)[0])}.nii.gz")
    assert _run(output, references) == 0


@pytest.mark.parametrize("is_shared", [False, True])
def test_dicom_segmentations_of_a_batch_meet_those_that_refer_to_their_series(tmp_path, capsys, is_shared):
    output, references, studies = tmp_path / "batch", tmp_path / "refs", tmp_path / "studies"
    Ledger(output, Owner.of_this_process()).close()
    case = make_case(studies / "p1", "axial")
    uid = discover_sources(case.folder)[0].series_uid
    other = make_series(tmp_path / "other", series=2)
    beside = case.folder if is_shared else studies / "p2"
    beside.mkdir(exist_ok=True)
    for path in other.folder.iterdir():
        path.rename(beside / f"other_{path.name}")
    for source in discover_sources(studies):
        folder = output / "cases" / case_key(source)
        folder.mkdir(parents=True)
        if source.series_uid == uid:
            write_dicom_seg(case.segmentation, folder / "segmentation.dcm")
        else:
            make_nifti(folder / "labelmap.nii.gz", np.zeros(source.shape, np.uint8), np.array(source.affine))
    (references / "deep").mkdir(parents=True)
    write_dicom_seg(case.segmentation, references / "deep" / "by_hand.dcm")
    assert _run(output, references, "--images", studies, "-o", tmp_path / "out") == 0
    assert "1 of 2 results of the batch have no reference: not counted." in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "cases.csv").read_text().splitlines()))
    place = case.folder.relative_to(studies).as_posix()
    assert [(row["case"], float(row["dice"])) for row in rows] == [(place, 1)]

    shutil.copy(references / "deep" / "by_hand.dcm", references / "again.dcm")
    assert _run(output, references, "--images", studies) == 2
    assert "2 DICOM Segmentations refer to it" in capsys.readouterr().err

    (references / "again.dcm").unlink()
    elsewhere = pydicom.dcmread(references / "deep" / "by_hand.dcm")
    elsewhere.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.7"
    elsewhere.save_as(references / "elsewhere.dcm")
    assert _run(output, references, "--images", studies) == 1  # a reference is never left out without a word
    message = capsys.readouterr().err
    assert (
        f"{studies}: no series that {references / 'elsewhere.dcm'} refers to; 1 of the references have none" in message
    )


def test_two_references_of_one_volume_are_refused(batch, capsys):
    output, references, volumes = batch
    shutil.copy(volumes / "half.nii.gz", volumes / "again.nii.gz")
    shutil.copy(references / "half.nii.gz", references / "again.nii.gz")
    assert _run(output, references, "--images", volumes) == 2
    message = capsys.readouterr().err
    assert f"{references / 'again.nii.gz'} and {references / 'half.nii.gz'}: references of one volume" in message


def test_a_batch_without_results_is_refused(tmp_path, folders, capsys):
    Ledger(tmp_path / "batch", Owner.of_this_process()).close()
    assert _run(tmp_path / "batch", folders[1]) == 1
    assert f"{tmp_path / 'batch' / 'cases'}: not there" in capsys.readouterr().err


def test_empty_and_missing_folders_a_file_beside_a_folder_and_two_of_one_name_are_refused(folders, tmp_path, capsys):
    predictions, references = folders
    (tmp_path / "empty").mkdir()
    assert _run(tmp_path / "empty", references) == 1
    message = capsys.readouterr().err
    assert "no label map, expected files that end with" in message
    assert _run(tmp_path / "nowhere", references) == 1
    assert "not there" in capsys.readouterr().err
    assert _run(predictions / "half.nii.gz", references) == 2
    assert "a file and a folder" in capsys.readouterr().err
    make_volume(predictions / "half.nrrd", _map())
    assert _run(*folders) == 2
    assert "2 label maps of one name" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [[], ["a"], ["a", "b", "--data", "c"], ["a", "b", "--thresholds", "0.5"], ["--data", "c", "--images", "d"]],
)
def test_the_two_forms_do_not_mix(words):
    assert _run(*words) == 2


def test_wrong_options_are_told_before_the_work(folders, tmp_path, capsys):
    assert _run(*folders, "--run", tmp_path) == 2
    assert _run(*folders, "-o", tmp_path / "out", "--run", tmp_path / "none") == 2
    assert "none: no such folder" in capsys.readouterr().err
    assert _run("--data", tmp_path / "list.json", "--thresholds", "0.3,x") == 2
    assert _parse_thresholds("0.5,0.3,0.5") == [0.5, 0.3]
    (tmp_path / "file").write_text("")
    assert _run(*folders, "-o", tmp_path / "file" / "out") == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--threshold", "0.5"), "--threshold: label maps hold no probabilities"),
        (("--thresholds", ""), "--thresholds: label maps hold no probabilities"),
        (("--section", "test"), "--section: no model runs on label maps"),
        (("--device", "cpu"), "--device: no model"),
        (("--sw-batch-size", "4"), "--sw-batch-size: no model"),
    ],
)
def test_options_of_the_model_are_refused_for_label_maps(folders, capsys, words, said):
    assert _run(*folders, *words) == 2
    assert said in capsys.readouterr().err


def test_a_number_that_is_none_is_told_as_such(folders, capsys):
    with pytest.raises(SystemExit):
        _run(*folders, "--threshold", "half")
    assert "argument --threshold: 'half' is no number" in capsys.readouterr().err


def test_an_error_has_a_line_of_its_own_below_the_bar(folders, capsys):
    (folders[0] / "half.nii.gz").write_bytes(b"no label map")
    assert _run(*folders, "--progress", "bar") == 1
    bar, error, _ = capsys.readouterr().err.split("\n")
    assert "reading" in bar
    assert error.startswith("error: ")


def test_the_model_on_a_datalist_gives_free_response_and_calibration(tmp_path):
    for index in range(2):
        make_nifti(tmp_path / f"image_{index}.nii.gz", make_voxels((40, 36, 20), seed=index))
        make_nifti(tmp_path / f"label_{index}.nii.gz", (make_voxels((40, 36, 20), seed=index) > 40).astype(np.uint8))
    entries = [{"image": f"image_{i}.nii.gz", "label": f"label_{i}.nii.gz"} for i in range(2)]
    (tmp_path / "list.json").write_text(json.dumps({"test": entries}))
    bundle = tiny_bundle(tmp_path / "bundle")
    out = tmp_path / "out"
    assert _run("--data", tmp_path / "list.json", "--bundle", bundle, "-o", out, "--thresholds", "0.3,0.6") == 0
    content = json.loads((out / "evaluation.json").read_text())
    assert [point["threshold"] for point in content["free_response"]] == [0.3, 0.6]
    assert sum(group["voxels"] for group in content["calibration"]["curve"]) == 2 * 40 * 36 * 20
    assert content["cases"] == 2
    assert content["model"]["version"]
    assert content["threshold"] == 0.5  # of the small bundle
    page = check_page((out / "evaluation.html").read_text())
    assert len(page.pictures) >= 1 + 1 + 1  # free response, calibration, cases


def test_the_gallery_keeps_the_best_and_worst_and_draws_only_what_may_be_among_them():
    drawn = []
    gallery = Gallery(size=2)
    offered = {"a": 0.5, "b": 0.9, "c": 0.1, "none": math.nan, "e": 0.95, "f": 0.2, "mid": 0.6}
    for name, dice in offered.items():
        gallery.offer(name, dice, lambda name=name: drawn.append(name) or b"")
    assert [picture.name for picture in gallery.best] == ["e", "b"]
    assert [picture.name for picture in gallery.worst] == ["c", "f"]
    assert drawn == ["a", "b", "c", "e", "f"]


def test_density_is_dense_over_dense_and_fat_from_the_tissue_map_or_else_the_parameters(tmp_path):
    tissues = np.array([Tissue.ADIPOSE] * 6 + [Tissue.FIBROGLANDULAR, Tissue.LIGAMENT, Tissue.SKIN, Tissue.TUMOUR])
    assert breast_density(tissues.reshape(10, 1, 1)) == pytest.approx(2 / 8)
    assert breast_density(np.zeros((2, 2, 2), dtype=np.uint8)) is None
    label = tmp_path / "labels" / "case_0001.nii.gz"
    assert read_density(label) is None
    (tmp_path / "parameters").mkdir()
    (tmp_path / "parameters" / "case_0001.json").write_text('{"parenchyma": {"glandular_fraction": 0.21}}')
    assert read_density(label) == 0.21
    (tmp_path / "tissues").mkdir()
    make_nifti(tmp_path / "tissues" / "case_0001.nii.gz", tissues.astype(np.uint8).reshape(10, 1, 1))
    assert read_density(label) == pytest.approx(0.25)


# Tissues beside the lesions


def _with_tissues(values):
    """Fat around, a slab of gland, skin at one side; lesions stay."""
    filled = values.copy()
    filled[values == 0] = 3
    filled[:, 12:, :][values[:, 12:, :] == 0] = 2
    filled[0][values[0] == 0] = 4
    return filled


@pytest.fixture
def tissue_folders(tmp_path):
    """Two cases: lesion half found, and all right but for a slice of gland that is taken for fat."""
    predictions, references = tmp_path / "pred", tmp_path / "ref"
    pale = _with_tissues(_map(OTHER))
    pale[5, 12:, :] = 3
    for folder, maps in (
        (predictions, {"half": _with_tissues(_map(HALF)), "pale": pale}),
        (references, {"half": _with_tissues(_map(CUBE)), "pale": _with_tissues(_map(OTHER))}),
    ):
        folder.mkdir()
        for name, values in maps.items():
            make_nifti(folder / f"{name}.nii.gz", values)
    return predictions, references


def test_with_a_model_of_tissues_lesions_are_its_lesions_and_every_structure_is_compared(
    tissue_folders, tmp_path, capsys
):
    out = tmp_path / "out"
    assert _run(*tissue_folders, "--model", "tissues", "-o", out) == 0
    printed = capsys.readouterr().out
    content = json.loads((out / "evaluation.json").read_text())
    assert content["figures"]["dice"]["value"] == pytest.approx((2 / 3 + 1) / 2)  # of the lesions alone
    structures = content["structures"]
    assert [row["name"] for row in structures["structures"]] == ["tumor", "fibroglandular", "adipose", "skin"]
    assert structures["structures"][3]["figures"]["dice"]["value"] == 1.0
    gland = structures["structures"][1]["figures"]
    assert gland["precision"]["value"] == 1.0
    assert gland["recall"]["value"] < 1.0
    assert structures["confusion_matrix"]["voxels"][2][3] == 8 * 12  # gland of one plane taken for fat
    assert f"| fibroglandular | {gland['dice']['value']:.3f} |" in printed
    page = check_page((out / "evaluation.html").read_text())
    assert "Fibroglandular tissue" in page.cells
    rows = list(csv.DictReader((out / "structures.csv").read_text().splitlines()))
    assert [(row["case"], row["structure"]) for row in rows[:2]] == [("half", "tumor"), ("half", "fibroglandular")]
    assert _run(*tissue_folders, "--label", 1, "-o", out) == 0
    assert not (out / "structures.csv").exists()  # of the run before


def test_several_values_that_nothing_names_count_as_lesions_and_are_told(tissue_folders, capsys):
    assert _run(*tissue_folders) == 0
    printed = capsys.readouterr().out
    for side in ("predictions", "references"):
        assert f"warning: the {side} hold the values [1, 2, 3, 4], and all of them count as lesions" in printed
    for words in (("--model", "tissues"), ("--label", 1)):
        assert _run(*tissue_folders, *words) == 0
        assert "warning" not in capsys.readouterr().out


def test_a_reference_of_lesions_alone_says_nothing_of_tissues(tissue_folders, capsys):
    for name, box in (("half", CUBE), ("pale", OTHER)):
        make_nifti(tissue_folders[1] / f"{name}.nii.gz", _map(box))
    assert _run(*tissue_folders, "--model", "tissues") == 0
    assert "fibroglandular" not in capsys.readouterr().out
    make_nifti(tissue_folders[1] / "pale.nii.gz", _with_tissues(_map(OTHER)))
    assert _run(*tissue_folders, "--model", "tissues") == 0
    (gland,) = [line for line in capsys.readouterr().out.splitlines() if "fibroglandular" in line]
    assert gland.endswith("| 1 |")  # of the two cases


def test_a_value_that_is_no_label_of_the_model_is_refused(tissue_folders, capsys):
    values = _with_tissues(_map(CUBE))
    values[1, 1, 1] = 9
    make_nifti(tissue_folders[1] / "half.nii.gz", values)
    assert _run(*tissue_folders, "--model", "tissues") == 1
    message = capsys.readouterr().err
    assert str(tissue_folders[1] / "half.nii.gz") in message
    assert "the values [9], expected some of [0, 1, 2, 3, 4]" in message


def test_one_of_label_and_model(tissue_folders, capsys):
    assert _run(*tissue_folders, "--model", "tissues", "--label", 1) == 2
    assert "expected one of them" in capsys.readouterr().err
    assert _run(*tissue_folders, "--label", 1) == 0
    assert "fibroglandular" not in capsys.readouterr().out


@pytest.mark.parametrize("has_tissue_map", [True, False])
def test_the_model_on_labelled_cases_with_tissue_maps(tmp_path, capsys, has_tissue_map):
    bundle = tiny_bundle(tmp_path / "bundle")
    make_nifti(tmp_path / "image.nii.gz", make_voxels(SHAPE))
    make_nifti(tmp_path / "label.nii.gz", _map(CUBE))
    tissues = np.full(SHAPE, Tissue.ADIPOSE, dtype=np.uint8)
    tissues[:, 12:, :], tissues[0], tissues[1] = Tissue.LIGAMENT, Tissue.SKIN, Tissue.MUSCLE
    make_nifti(tmp_path / "tissue.nii.gz", tissues)
    case = {"image": "image.nii.gz", "label": "label.nii.gz"}
    case |= {"tissue": "tissue.nii.gz"} if has_tissue_map else {}
    (tmp_path / "list.json").write_text(json.dumps({"test": [case]}))
    options = ("--bundle", bundle, "--model", "tissues", "--device", "cpu", "--engine", "torch")
    assert _run("--data", tmp_path / "list.json", "-o", tmp_path / "e.json", *options) == 0
    structures = json.loads((tmp_path / "e.json").read_text())["structures"]
    assert ("fibroglandular" in capsys.readouterr().out) == has_tissue_map
    if not has_tissue_map:
        assert structures is None
        return
    rows = np.sum(structures["confusion_matrix"]["voxels"], axis=1)
    plane = SHAPE[1] * SHAPE[2]
    lesion = _map(CUBE).sum()
    assert rows[1] == lesion
    assert rows[4] == plane
    assert rows[0] == plane  # muscle is background
    assert rows[2] == (SHAPE[0] - 2) * 8 * SHAPE[2]  # ligaments count as fibroglandular
    assert rows.sum() == np.prod(SHAPE)


def test_a_named_model_means_its_own_lesions_and_refuses_other_values(folders, capsys):
    make_nifti(folders[0] / "whole.nii.gz", _map(CUBE) + 2 * _map(OTHER))
    assert _run(*folders, "--model", "breast-ct") == 1
    assert "the values [2], expected some of [0, 1]" in capsys.readouterr().err
    assert _run(*folders, "--label", 1) == 0
    assert "| Dice | 0.556 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "code", "said"), [(7, 2, "holds the value 7, found [0, 1] in the predictions"), (0, 2, "from 1 to 255")]
)
def test_a_label_that_is_nowhere_is_refused(folders, capsys, value, code, said):
    assert _run(*folders, "--label", value) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("value", "side"), [(1, "references"), (255, "predictions")])
def test_a_label_that_one_side_writes_with_another_value_is_refused(tmp_path, capsys, value, side):
    make_nifti(tmp_path / "pred.nii.gz", _map(CUBE))
    make_nifti(tmp_path / "ref.nii.gz", 255 * _map(CUBE))
    assert _run(tmp_path / "pred.nii.gz", tmp_path / "ref.nii.gz", "--label", value) == 2
    message = capsys.readouterr().err
    assert f"holds the value {value}, found [0, {256 - value}] in the {side}" in message


def test_label_maps_with_their_header_in_a_file_of_its_own_count_like_all_others(tmp_path, capsys):
    for side in ("pred", "ref"):
        (tmp_path / side).mkdir()
        make_nifti(tmp_path / side / "a.nii.gz", _map(CUBE))
        for name in ("b.mhd", "c.nhdr"):
            make_volume(tmp_path / side / name, _map(CUBE) if side == "ref" else _map())
    assert _run(tmp_path / "pred", tmp_path / "ref") == 0
    said = capsys.readouterr().out
    assert "3 volumes" in said
    assert "| Dice | 0.333 |" in said


def _sheared():
    affine = make_affine()
    affine[0, 1] = 0.3
    return affine


@pytest.mark.parametrize("side", [0, 1])
def test_a_header_without_a_geometry_is_refused_on_either_side(folders, capsys, side):
    image = nib.load(folders[side] / "half.nii.gz")
    image.header["qform_code"] = image.header["sform_code"] = 0
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), folders[side] / "half.nii.gz")
    assert _run(*folders) == 1
    assert f"{folders[side] / 'half.nii.gz'}: neither qform nor sform is set" in capsys.readouterr().err


def test_micrometres_count_as_such_and_leaning_axes_have_no_distances(folders, tmp_path, capsys):
    predictions, references = folders
    in_microns = make_affine()
    in_microns[:3] *= 1000.0
    make_nifti(predictions / "half.nii.gz", _map(HALF), in_microns, unit="micron")
    assert _run(*folders, "-o", tmp_path / "e.json") == 0
    figures = json.loads((tmp_path / "e.json").read_text())["figures"]
    assert figures["hausdorff95_mm"]["value"] == pytest.approx((3 * 1.5 + 0) / 2)
    affine = _sheared()
    for folder, values in ((predictions, _map(HALF)), (references, _map(CUBE))):
        image = nib.Nifti1Image(values, affine)
        image.set_sform(affine, 1)
        image.header["qform_code"] = 0
        image.header.set_xyzt_units("mm")
        nib.save(image, folder / "half.nii.gz")
    assert _run(*folders) == 1
    assert "off a right angle" in capsys.readouterr().err


def test_a_loss_that_is_no_number_is_null_in_the_curves(folders, tmp_path):
    (tmp_path / "run").mkdir()
    lines = ['{"event": "progress", "epoch": 1, "loss": 0.5}', '{"event": "progress", "epoch": 2, "loss": NaN}']
    (tmp_path / "run" / "train.log").write_text("\n".join(lines))
    out = tmp_path / "out"
    assert _run(*folders, "-o", out, "--run", tmp_path / "run") == 0
    assert json.loads((out / "evaluation.json").read_text())["learning_curves"] == {"loss": [[1, 0.5], [2, None]]}


def test_a_json_name_that_is_a_folder_is_refused_before_the_work(folders, tmp_path, capsys):
    (tmp_path / "e.json").mkdir()
    assert _run(*folders, "-o", tmp_path / "e.json") == 2
    assert "is a folder, expected a file" in capsys.readouterr().err


def test_a_file_and_a_folder_of_results_of_one_name_are_refused(folders, capsys):
    predictions, _ = folders
    (predictions / "half").mkdir()
    shutil.copy(predictions / "half.nii.gz", predictions / "half" / "labelmap.nii.gz")
    assert _run(*folders) == 2
    assert "2 label maps of one name: half/labelmap.nii.gz, half.nii.gz" in capsys.readouterr().err


def test_a_tissue_map_that_cannot_be_read_is_named(folders, tmp_path, capsys):
    (tmp_path / "data" / "tissues").mkdir()
    (tmp_path / "data" / "tissues" / "half.nii.gz").write_bytes(b"no NIfTI")
    assert _run(*folders) == 1
    assert f"{tmp_path / 'data' / 'tissues' / 'half.nii.gz'}" in capsys.readouterr().err


def test_a_model_for_pictures_is_refused_by_its_name(tmp_path, capsys):
    make_nifti(tmp_path / "a.nii.gz")
    (tmp_path / "list.json").write_text(json.dumps({"test": [{"image": "a.nii.gz", "label": "a.nii.gz"}]}))
    assert _run("--data", tmp_path / "list.json", "--model", "ultrasound") == 2
    assert "ultrasound takes pictures, expected a model for volumes" in capsys.readouterr().err


def test_cases_are_named_by_what_tells_their_files_apart():
    paths = [Path("/d/a/image.nii.gz"), Path("/d/b/image.nii.gz")]
    assert distinct_names(paths) == ["a/image.nii.gz", "b/image.nii.gz"]
    assert distinct_names([Path("/d/x.nii.gz"), Path("/e/y.nii.gz")]) == ["x.nii.gz", "y.nii.gz"]
    assert distinct_names([paths[0], paths[0]]) == ["image.nii.gz", "image.nii.gz (2)"]
    assert distinct_names([]) == []


def _cut(path, target):
    """Cut a segmentation to what is in it, as 3D Slicer does."""
    image = SimpleITK.ReadImage(str(path))
    filled = np.argwhere(SimpleITK.GetArrayFromImage(image) > 0)
    low, high = filled.min(0)[::-1].tolist(), filled.max(0)[::-1].tolist()
    cut = image[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
    for key in image.GetMetaDataKeys():
        cut.SetMetaData(key, image.GetMetaData(key))
    SimpleITK.WriteImage(cut, str(target))


def test_a_reference_of_3d_slicer_that_covers_a_part_is_painted_on_the_grid_of_its_prediction(tmp_path, capsys):
    volume = make_segmentation(make_lesions((40, 36, 20)), make_affine())
    write_seg_nrrd(volume, tmp_path / "whole.seg.nrrd")
    _cut(tmp_path / "whole.seg.nrrd", tmp_path / "cut.seg.nrrd")
    make_nifti(tmp_path / "pred.nii.gz", volume.label_map, volume.affine)
    assert _run(tmp_path / "pred.nii.gz", tmp_path / "cut.seg.nrrd") == 0
    assert "| Dice | 1.000 |" in capsys.readouterr().out


@pytest.mark.parametrize("side", [0, 1])
def test_a_dicom_segmentation_is_painted_on_the_grid_of_the_other_side(tmp_path, capsys, side):
    segmentation = make_case(tmp_path).segmentation
    write_dicom_seg(segmentation, tmp_path / "segmentation.dcm")
    make_nifti(tmp_path / "map.nii.gz", segmentation.label_map, segmentation.affine)
    files = (tmp_path / "segmentation.dcm", tmp_path / "map.nii.gz")
    assert _run(*(files if side == 0 else files[::-1])) == 0
    assert "| Dice | 1.000 |" in capsys.readouterr().out


def _two_cut_segmentations(folder, shift=(0, 0, 0)):
    """Half of the cube found, and the cube with another lesion: boxes of different sizes and places."""
    affine = make_affine()
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ np.array(shift)
    for name, values, grid in (("pred", _map(HALF), moved), ("ref", _map(CUBE, OTHER), affine)):
        write_seg_nrrd(make_segmentation(values, grid), folder / "whole.seg.nrrd")
        _cut(folder / "whole.seg.nrrd", folder / f"{name}.seg.nrrd")
    return folder / "pred.seg.nrrd", folder / "ref.seg.nrrd"


def test_two_segmentations_of_3d_slicer_that_cover_parts_are_painted_on_the_box_around_both(tmp_path, capsys):
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        pair = _two_cut_segmentations(tmp_path / place)
        assert _run(*(pair if place == "here" else pair[::-1]), "-o", tmp_path / place / "e.json") == 0
        figures = json.loads((tmp_path / place / "e.json").read_text())["figures"]
        assert figures["dice"]["value"] == pytest.approx(2 * 108 / (108 + 216 + 64))
    capsys.readouterr()
    with_room = _two_cut_segmentations(tmp_path, shift=(0, 0, 2))  # whole voxels: still one grid
    assert _run(*with_room) == 0
    assert f"| Dice | {2 * 108 / (108 + 216 + 64):.3f} |" in capsys.readouterr().out


def test_two_segmentations_of_no_common_grid_need_their_volume(tmp_path, capsys):
    pair = _two_cut_segmentations(tmp_path, shift=(0.5, 0, 0))
    assert _run(*pair) == 1
    message = capsys.readouterr().err
    assert "--images" in message
    assert f"{pair[0]} has 6 x 6 x 3 voxels of 0.8 x 0.9 x 1.5 mm" in message
    assert f"{pair[1]} has 16 x 14 x 6 voxels" in message
    far = _two_cut_segmentations(tmp_path, shift=(100_000, 100_000, 0))
    assert _run(*far) == 1
    assert "--images" in capsys.readouterr().err


@pytest.mark.parametrize("images", ["images", "images/ref.nii.gz"])
def test_two_segmentations_are_painted_on_their_volume(tmp_path, capsys, images):
    pair = _two_cut_segmentations(tmp_path)
    (tmp_path / "images").mkdir()
    make_nifti(tmp_path / "images" / "ref.nii.gz", make_voxels(SHAPE))
    out = tmp_path / "out"
    assert _run(*pair, "--images", tmp_path / images, "-o", out) == 0
    assert f"| Dice | {2 * 108 / (108 + 216 + 64):.3f} |" in capsys.readouterr().out
    counts = json.loads((out / "evaluation.json").read_text())["confusion_matrix"]["voxels"]
    assert np.sum(list(counts.values())) == np.prod(SHAPE)  # of the volume, not of the boxes


def test_two_dicom_segmentations_need_their_volume(tmp_path, capsys):
    case = make_case(tmp_path)
    for name in ("a.dcm", "b.dcm"):
        write_dicom_seg(case.segmentation, tmp_path / name)
    assert _run(tmp_path / "a.dcm", tmp_path / "b.dcm") == 1
    message = capsys.readouterr().err
    assert "leaves out empty slices" in message
    assert "--images" in message
    volume = make_nifti(tmp_path / "volume.nii.gz", case.volume_hu, case.segmentation.affine)
    for images in (volume, case.folder):  # a file, and the DICOM series that they were drawn on
        assert _run(tmp_path / "a.dcm", tmp_path / "b.dcm", "--images", images) == 0
        assert "| Dice | 1.000 |" in capsys.readouterr().out
    assert _run(tmp_path / "a.dcm", tmp_path / "b.dcm", "--images", tmp_path / "source" / "none") == 1
    assert "no volume of the name b" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cases.csv", "evaluation.json", "evaluation.html", "structures.csv"])
def test_files_of_somebody_else_are_not_replaced(folders, tmp_path, capsys, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text('{"patients": 3}')
    (out / "notes.txt").write_text("mine")
    assert _run(*folders, "-o", out) == 1
    message = capsys.readouterr()
    assert f"{out}: holds {name} and no evaluation.json of ours" in message.err
    assert "Dice" not in message.out  # before the work
    assert (out / name).read_text() == '{"patients": 3}'
    assert len(list(out.iterdir())) == 2
    (out / name).unlink()
    assert _run(*folders, "-o", out) == 0
    assert _run(*folders, "-o", out) == 0  # over our own
    assert (out / "notes.txt").exists()


def test_a_json_file_of_somebody_else_is_not_replaced(folders, tmp_path, capsys):
    (tmp_path / "datalist.json").write_text('{"training": []}')
    assert _run(*folders, "-o", tmp_path / "datalist.json") == 1
    assert "datalist.json: is no evaluation, and would be replaced" in capsys.readouterr().err
    assert (tmp_path / "datalist.json").read_text() == '{"training": []}'
    (tmp_path / "e.json").write_text("")
    assert _run(*folders, "-o", tmp_path / "e.json") == 0
    assert _run(*folders, "-o", tmp_path / "e.json") == 0


def test_the_threshold_of_the_model_has_its_own_figures_beside_those_of_the_curve(tmp_path, capsys):
    make_nifti(tmp_path / "image.nii.gz", make_voxels(SHAPE))
    make_nifti(tmp_path / "label.nii.gz", (make_voxels(SHAPE) > 40).astype(np.uint8))
    (tmp_path / "list.json").write_text(json.dumps({"test": [{"image": "image.nii.gz", "label": "label.nii.gz"}]}))
    given = ("--data", tmp_path / "list.json", "--bundle", tiny_bundle(tmp_path / "bundle"), "-o", tmp_path / "e.json")
    assert _run(*given, "--threshold", "0.45") == 0
    alone = json.loads((tmp_path / "e.json").read_text())
    assert _run(*given, "--threshold", "0.45", "--thresholds", "0.3,0.6") == 0
    content = json.loads((tmp_path / "e.json").read_text())
    assert [result["threshold"] for result in content["results"]] == [None, 0.3, 0.6]
    assert content["settings"]["threshold"] == 0.45
    assert content["results"][0] == alone["results"][0]
    assert "threshold 0.45, as the model is used" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("evaluate",), ("calibrate",), ("calibrate", "--pieces")])
def test_a_label_map_beside_its_volume_is_refused_before_the_first_case_is_segmented(
    tmp_path, capsys, monkeypatch, words
):
    entries = []
    for index, shape in enumerate((SHAPE, (*SHAPE[:2], 10))):
        make_nifti(tmp_path / f"image_{index}.nii.gz", make_voxels(SHAPE))
        make_nifti(tmp_path / f"label_{index}.nii.gz", (make_voxels(shape) > 40).astype(np.uint8))
        entries.append({"image": f"image_{index}.nii.gz", "label": f"label_{index}.nii.gz"})
    (tmp_path / "list.json").write_text(json.dumps({"test": entries}))
    begun = []
    monkeypatch.setattr("lightunet_monai.cli.evaluate.read_labelled", lambda *_: begun.append(1))
    given = ["--data", str(tmp_path / "list.json"), "--section", "test", "--bundle", str(tiny_bundle(tmp_path / "b"))]
    assert main([*words, *given]) == 1
    assert "label_1.nii.gz: (24, 20, 10) voxels, its volume has (24, 20, 12)" in capsys.readouterr().err
    assert not begun
