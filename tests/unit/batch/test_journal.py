"""The log of a run as a program reads it."""

import json

from lightunet_monai.batch.journal import Journal


def test_each_event_is_a_json_object_with_its_facts_as_they_were(tmp_path):
    journal = Journal(tmp_path, "run")
    message = "a gap of 30 % (%s, %d%%), ümlaut"
    journal.write("failed", {"case": "0123", "message": message})
    journal.write("done", {"case": "4567"})
    journal.close()
    events = [json.loads(line) for line in journal.path.read_text(encoding="utf-8").splitlines()]
    assert [(event["event"], event["level"], event["case"]) for event in events] == [
        ("failed", "error", "0123"),
        ("done", "info", "4567"),
    ]
    assert events[0]["message"] == message
