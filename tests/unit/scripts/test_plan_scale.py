"""The plan of many workers: the table of the document, and numbers that no plan can have."""

from pathlib import Path

import pytest
from plan_scale import main

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "scale.md"


def test_the_table_of_the_document_is_what_the_script_gives(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["plan_scale.py", "--workers", "1", "8"])
    assert main() == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 4
    assert set(rows) <= set(DOCUMENT.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--workers", "0"], "--workers: 0 found, at least 1 expected"),
        (["--workers"], "--workers: expected at least one argument"),
        (["--storage", "0"], "--storage: 0 found, a number above 0 expected"),
        (["--mtbf", "0"], "--mtbf: 0 found, a number above 0 expected"),
        (["--infer", "-1"], "--infer: -1 found, a finite number of 0 or more expected"),
        (["--decode", "nan"], "--decode: nan found, a finite number of 0 or more expected"),
    ],
)
def test_numbers_that_no_plan_can_have_are_refused_by_the_name_of_their_option(capsys, monkeypatch, words, told):
    monkeypatch.setattr("sys.argv", ["plan_scale.py", *words])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert told in capsys.readouterr().err
