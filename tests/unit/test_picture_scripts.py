"""The datalist of 2-D images: folds come from the index, and near-duplicates never cross them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "ultrasound_datalist.py"


def _run(folder, rows, *options, files="abc", encoding="utf-8"):
    for part in ("images", "masks"):
        (folder / part).mkdir()
        for name in files:
            (folder / part / f"{name}.png").touch()
    (folder / "index.csv").write_text("id,class,group,fold\n" + "".join(f"{row}\n" for row in rows), encoding=encoding)
    command = [sys.executable, str(SCRIPT), str(folder), "-o", str(folder / "lists" / "datalist.json"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_each_image_keeps_its_fold_and_the_held_out_fold_is_the_test(tmp_path):
    done = _run(tmp_path, ["a,benign,0,0", "b,normal,1,1", "c,benign,2,2"])
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "lists" / "datalist.json").read_text())
    assert [(Path(case["image"]).name, case["fold"]) for case in content["training"]] == [
        ("a.png", 0), ("b.png", 1), ("c.png", 2),
    ]  # fmt: skip
    assert content["test"] == [content["training"][0]]
    assert (tmp_path / "lists" / content["test"][0]["label"]).resolve() == (tmp_path / "masks" / "a.png").resolve()


def test_all_images_are_for_training_without_folds(tmp_path):
    done = _run(tmp_path, ["a,benign,0,0", "b,normal,1,1", "c,benign,2,2"], "--all")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "lists" / "datalist.json").read_text())
    assert [Path(case["image"]).name for case in content["training"]] == ["a.png", "b.png", "c.png"]
    assert content["validation"] == content["training"]  # fewer than are seen again
    assert not any("fold" in case for case in content["training"])


def test_a_group_in_two_folds_is_refused(tmp_path):
    done = _run(tmp_path, ["a,benign,7,0", "b,benign,7,1"])
    assert done.returncode == 1
    assert "1 groups lie in several folds, the first is 7" in done.stderr
    assert not (tmp_path / "lists").exists()


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        (["a,benign,0,0", "a,benign,1,1"], (), "line 3: image a is listed twice"),
        (["a,benign,7,0", "b,benign,7 , 1"], (), "1 groups lie in several folds"),
        (["a,benign,0,0", "d,benign,1,1"], (), "line 3: images/d.png is missing"),
        (["a,benign,0,x"], (), "line 2: fold 'x', expected a whole number"),
        (["a;benign;0;0"], (), "line 2 has no class, group, fold"),
        (["a,benign,0,0"], ("--held-out", "9"), "no image is in fold 9"),
        ([], (), "no image is in fold 0"),
    ],
)
def test_an_index_that_would_leak_or_is_wrong_is_refused_in_one_line(tmp_path, rows, options, expected):
    done = _run(tmp_path, rows, *options)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "lists").exists()


def test_an_index_from_a_spreadsheet_is_read(tmp_path):
    done = _run(tmp_path, ["a,benign,0, 0", "b,normal,1,01"], encoding="utf-8-sig")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "lists" / "datalist.json").read_text())
    assert [case["fold"] for case in content["training"]] == [0, 1]


def test_the_paths_of_a_datalist_behind_a_link_hold(tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "lists").symlink_to(tmp_path / "far" / "away", target_is_directory=True)
    assert _run(tmp_path, ["a,benign,0,0"], files="a").returncode == 0
    content = json.loads((tmp_path / "lists" / "datalist.json").read_text())
    assert all((tmp_path / "lists" / content["test"][0][key]).is_file() for key in ("image", "label"))
