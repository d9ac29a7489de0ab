"""The whole comparison on three small images: trained, tuned, stopped, gone on with, and a table at the end."""

import csv
import json

import compare_networks
import numpy as np
import pytest
from comparison_data import Samples, SimulatedData, UltrasoundData, pick
from comparison_networks import NETWORKS, Entry
from PIL import Image

from lightunet_monai.errors import UnreadableFileError
from lightunet_monai.networks import LightUNet
from tests.builders.volume import make_nifti, make_voxels

ROWS = [("benign_1", "benign", 0, 0), ("malignant_1", "malignant", 1, 1), ("normal_1", "normal", 2, 0)]


def write_images(folder, rows=ROWS):
    """Dark discs on grey noise; the normal one has none."""
    generator = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for name, kind, _, _ in rows:
        mask = np.zeros((24, 32), bool)
        if kind != "normal":
            mask[8:16, 12:22] = True
        grey = np.where(mask, 60, 150) + generator.integers(0, 20, mask.shape)
        Image.fromarray(grey.astype(np.uint8)).save(folder / "images" / f"{name}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "class", "group", "fold"])
        writer.writerows(rows)
    return folder


def run(folder, out, networks, *more):
    size = ["--size", "32", "--iterations", "2", "--batch", "1", "--tune-cases", "1", "--device", "cpu"]
    command = ["--data", "ultrasound", str(folder), "-o", str(out), "--networks", networks, "--quick", *size, *more]
    return compare_networks.main(command)


def test_a_smoke_run_is_gone_on_with_and_gives_one_table(tmp_path, capsys):
    folder, out = write_images(tmp_path / "data"), tmp_path / "out"
    assert run(folder, out, "light,light_3d") == 0
    first = json.loads((out / "results.json").read_text())["runs"]["light"]
    assert "light_3d: left out" in capsys.readouterr().out
    assert run(folder, out, "light,otsu") == 0
    assert "light: done" not in capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    assert results["runs"]["light"] == first
    assert [case["name"] for case in first["0"]["cases"]] == ["benign_1", "normal_1"]
    assert [case["dice"] is None for case in first["0"]["cases"]] == [False, True]
    assert len(first["0"]["losses"]) == 2
    assert results["table"]["light"]["parameters"] == 4_198_000
    assert results["table"]["otsu"]["lesion_cases"] == results["table"]["otsu"]["clean_cases"] == 1
    table = (out / "table.md").read_text()
    assert "| LightUNet, beta learned |" in table
    assert "| Otsu threshold |" in table
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_divided_widths_are_said_and_not_mixed_with_whole_ones(tmp_path, capsys):
    folder, out = write_images(tmp_path / "data"), tmp_path / "out"
    assert run(folder, out, "light", "--divide-widths", "8") == 0
    assert "numbers of channels divided by 8" in (out / "table.md").read_text()
    assert json.loads((out / "results.json").read_text())["table"]["light"]["parameters"] < 4_198_000 / 32
    assert run(folder, out, "light") == 2
    assert "another run" in capsys.readouterr().err


@pytest.fixture
def a_datalist(tmp_path):
    pairs = []
    for index in range(3):
        image = make_nifti(tmp_path / f"image_{index}.nii.gz")
        label = make_nifti(tmp_path / f"label_{index}.nii.gz", (make_voxels() > 40).astype("uint8"))
        pairs.append({"image": image.name, "label": label.name})
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"training": pairs}))
    return path


def test_volumes_go_through_slices_windows_and_a_classical_method(a_datalist, tmp_path, monkeypatch):
    narrow = {"light": Entry("2-D", lambda divisor: LightUNet(widths=(4, 8)))}
    narrow["light_3d"] = Entry("3-D", lambda divisor: LightUNet(3, in_channels=1, widths=(4, 8)), spatial_dims=3)
    for name, entry in narrow.items():
        monkeypatch.setitem(NETWORKS, name, entry)
    out = tmp_path / "out"
    command = ["--data", "simulated", str(a_datalist), "-o", str(out), "--quick", "--iterations", "2", "--batch", "1"]
    assert compare_networks.main([*command, "--networks", "light,light_3d,region_growing", "--device", "cpu"]) == 0
    results = json.loads((out / "results.json").read_text())
    for name, voxels in (("light", 64**2), ("light_3d", 32**3), ("region_growing", 0)):
        run = results["runs"][name]["all"]
        assert [case["name"] for case in run["cases"]] == ["image_0.nii.gz"]
        assert run["voxels_iteration"] == voxels


def test_a_case_is_never_trained_on_and_tested(a_datalist, tmp_path):
    data = SimulatedData(a_datalist, None, tmp_path / "cache")
    train, test = data.split(None)
    assert {case.name for case in train} == {"image_1.nii.gz", "image_2.nii.gz"}
    assert {case.name for case in test} == {"image_0.nii.gz"}
    assert 0 < float(train[0].image.max()) <= 1
    with pytest.raises(UnreadableFileError, match="both a training and a test case"):
        SimulatedData(a_datalist, a_datalist, tmp_path / "cache").split(None)


def test_results_of_another_recipe_are_not_mixed_in(tmp_path, capsys):
    folder, out = write_images(tmp_path / "data"), tmp_path / "out"
    assert run(folder, out, "otsu") == 0
    assert run(folder, out, "edges", "--seed", "1") == 2
    assert "another run" in capsys.readouterr().err


def test_a_group_in_two_folds_is_refused(tmp_path):
    folder = write_images(tmp_path / "data", [("benign_1", "benign", 0, 0), ("benign_2", "benign", 0, 1)])
    with pytest.raises(UnreadableFileError, match="group 0 is in several folds"):
        UltrasoundData(folder, 32)


def test_a_sample_depends_on_its_number_only(tmp_path):
    data = UltrasoundData(write_images(tmp_path / "data"), 32)
    cases = data.split(1)[0][:1]
    first, second = (Samples(cases, data.random_transform(2), 6, 3, 2) for _ in range(2))
    forwards, backwards = [first[i] for i in range(6)], [second[i] for i in reversed(range(6))][::-1]
    for (image, label), (other, other_label) in zip(forwards, backwards, strict=True):
        assert image.shape == (3, 32, 32)
        assert label.shape == (1, 32, 32)
        assert image.equal(other)
        assert label.equal(other_label)
    assert not all(forwards[0][0].equal(image) for image, _ in forwards)


def test_near_duplicates_are_drawn_together_by_the_bootstrap():
    scores = [0.1, 0.9, 0.3, 0.7, 0.2, 0.8]
    alone = [{"group": str(i), "dice": score} for i, score in enumerate(scores)]
    tied = [{"group": str(i % 2), "dice": score} for i, score in enumerate(scores)]
    low, high = compare_networks.bootstrap(alone, 0)
    assert low < 0.5 < high
    assert compare_networks.bootstrap(tied, 0) == pytest.approx((0.2, 0.8))
    assert compare_networks.bootstrap(alone[:1], 0) is None


def test_few_of_many_are_picked_evenly():
    assert pick(range(10), 3) == [0, 3, 6]
    assert pick(range(2), 3) == [0, 1]
    assert pick(range(2), None) == [0, 1]
