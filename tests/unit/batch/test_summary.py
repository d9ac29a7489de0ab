"""The table of all cases as people and programs read it."""

import csv
import json
import re

import pytest

from lightunet_monai.batch.lease import Owner
from lightunet_monai.batch.ledger import Ledger
from lightunet_monai.batch.publish import CASES, CHANGED
from lightunet_monai.batch.summary import _short, write_summary


def test_results_that_were_changed_and_are_kept_stand_beside_their_case_and_are_no_cases(tmp_path):
    with Ledger(tmp_path, Owner.of_this_process()) as ledger:
        for key in ("a", "b"):
            ledger.add(key, "place", f"series-{key}")
            ledger.claim(key, retries=0)
            ledger.finish(key, {})
            (tmp_path / CASES / key).mkdir(parents=True)
        kept = f"b{CHANGED}0123abcd"
        (tmp_path / CASES / kept).mkdir()
        page = write_summary(ledger).read_text(encoding="utf-8")
    with (tmp_path / "summary.csv").open(newline="") as stream:
        rows = {row["case"]: row["message"] for row in csv.DictReader(stream)}
    assert rows == {"a": "", "b": f"an earlier result that was changed is kept in cases/{kept}."}
    cases = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["cases"]
    assert {row["case"]: row["message"] for row in cases} == rows
    assert page.count(kept) == 1


def test_the_page_links_what_is_there_and_writes_numbers_without_powers_of_ten(tmp_path):
    with Ledger(tmp_path, Owner.of_this_process()) as ledger:
        for key in ("here", "gone"):
            ledger.add(key, "place", f"series-{key}")
            ledger.claim(key, retries=0)
            ledger.finish(key, {"seconds": 999.7, "lesions": 1, "lesions_ml": 0.00004, "doubtful": 7})
        (tmp_path / CASES / "here").mkdir(parents=True)
        for name in ("report.json", "overview.png"):
            (tmp_path / CASES / "here" / name).touch()
        page = write_summary(ledger).read_text(encoding="utf-8")
    links = re.findall('(?:href|src)="([^"]+)"', page)
    assert len(links) == 3  # report, picture and its large form
    assert all((tmp_path / link).is_file() for link in links)
    assert 'alt="overview of case here"' in page
    assert page.count('<td class="number">1000</td>') == 2
    assert page.count('<td class="number">0.00004</td>') == 2
    assert page.count('<td class="number">7</td>') == 2


@pytest.mark.parametrize(
    ("value", "written"), [(5.40324, "5.4"), (14.173, "14.2"), (1234.567, "1235"), (0.0, "0"), (20, "20"), ("", "")]
)
def test_numbers_on_the_page_have_three_digits(value, written):
    assert _short(value) == written
