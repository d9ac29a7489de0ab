"""The table of all cases as people and programs read it."""

import csv
import json

from lightunet_monai.batch.lease import Owner
from lightunet_monai.batch.ledger import Ledger
from lightunet_monai.batch.publish import CASES, CHANGED
from lightunet_monai.batch.summary import write_summary


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
