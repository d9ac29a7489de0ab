"""The datalist of 2-D images: folds come from the index, and near-duplicates never cross them."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "ultrasound_datalist.py"


def _run(folder, rows):
    (folder / "index.csv").write_text("id,class,group,fold\n" + "".join(f"{row}\n" for row in rows))
    command = [sys.executable, str(SCRIPT), str(folder), "-o", str(folder / "lists" / "datalist.json")]
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


def test_a_group_in_two_folds_is_refused(tmp_path):
    done = _run(tmp_path, ["a,benign,7,0", "b,benign,7,1"])
    assert done.returncode == 1
    assert "1 groups lie in several folds, the first is 7" in done.stderr
    assert not (tmp_path / "lists").exists()
