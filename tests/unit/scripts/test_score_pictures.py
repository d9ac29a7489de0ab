"""Scores of pictures: a row a class and one of all, and one line where the datalist is none or has no case."""

import json

import pytest
from score_pictures import main

from tests.builders.bundle import tiny_bundle
from tests.builders.pictures import make_mask, make_picture

CASE = {"image": "a.png", "label": "m.png"}


@pytest.mark.parametrize(
    ("content", "kinds"),
    [
        ({"test": [CASE]}, ["all"]),
        ({"test": [CASE, {**CASE, "class": "benign"}]}, ["benign", "all"]),
        ([1], None),
        ({"test": []}, None),
    ],
)
def test_each_class_and_all_have_one_row(tmp_path, capsys, monkeypatch, content, kinds):
    bundle = tiny_bundle(tmp_path / "bundle")
    make_picture(tmp_path / "a.png")
    make_picture(tmp_path / "m.png", make_mask() * 255)
    (tmp_path / "list.json").write_text(json.dumps(content))
    monkeypatch.setattr("sys.argv", ["score_pictures.py", str(tmp_path / "list.json"), "--bundle", str(bundle)])
    assert main() == (kinds is None)
    said = capsys.readouterr()
    if kinds is None:
        assert said.err.startswith("error: ")
        assert said.out == ""
        return
    rows = [line.split(" | ") for line in said.out.splitlines()[2:]]
    assert [row[0].strip("| ") for row in rows] == kinds
    assert rows[-1][1] == str(len(content["test"]))
