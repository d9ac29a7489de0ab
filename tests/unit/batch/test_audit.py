import json
import sqlite3

import pytest

from lightunet_monai.batch.audit import first_broken_line, user_name
from lightunet_monai.batch.lease import Owner
from lightunet_monai.batch.ledger import Ledger


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path, Owner.of_this_process()) as made:
        for number in range(4):
            made.record({"event": "segmented", "case": f"case {number}"})
        yield made


def test_lines_say_who_when_and_what_and_hang_together(ledger):
    lines = list(ledger.audit_lines())
    assert first_broken_line(lines) is None
    assert [json.loads(line)["case"] for line in lines] == [f"case {number}" for number in range(4)]
    first = json.loads(lines[0])
    assert first["user"] == user_name()
    assert first["time"].endswith("+00:00")


def test_a_line_that_was_altered_shows_in_the_next_one(ledger):
    lines = list(ledger.audit_lines())
    lines[1] = lines[1].replace("case 1", "case 9")
    assert first_broken_line(lines) == 3


def test_a_line_that_was_taken_out_or_moved_shows(ledger):
    lines = list(ledger.audit_lines())
    assert first_broken_line(lines[1:]) == 1
    assert first_broken_line([lines[0], *lines[2:]]) == 2
    assert first_broken_line([lines[0], lines[2], lines[1], lines[3]]) == 2


@pytest.mark.parametrize("damaged", ["no JSON", "[]", "null"])
def test_a_line_that_is_no_record_is_broken(ledger, damaged):
    lines = list(ledger.audit_lines())
    assert first_broken_line([*lines, damaged]) == 5


@pytest.mark.parametrize("statement", ["UPDATE audit SET line = 'x' WHERE number = 2", "DELETE FROM audit"])
def test_the_database_refuses_to_change_or_remove_lines(ledger, statement):
    database = sqlite3.connect(ledger.path)
    with pytest.raises(sqlite3.IntegrityError, match="audit lines stay"):
        database.execute(statement)
    database.close()
    assert first_broken_line(ledger.audit_lines()) is None


def test_a_finished_case_has_one_line_however_often_it_is_finished(ledger):
    ledger.add("key", "place", "series")
    ledger.claim("key", retries=0)
    assert [ledger.finish("key", {}, {"case": "key"}) for _ in range(3)] == [True, False, False]
    assert sum(json.loads(line)["case"] == "key" for line in ledger.audit_lines()) == 1
