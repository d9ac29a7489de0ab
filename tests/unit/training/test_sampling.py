"""Few cases are shown often, short trainings keep what they learnt, changed files are read again."""

import os

import pytest

from lightunet_monai.training import CaseHash, fingerprint_cases, momentum_for, repeated


@pytest.mark.parametrize(("count", "expected"), [(1, 10), (3, 12), (10, 10), (11, 11)])
def test_an_epoch_shows_whole_rounds_of_the_cases(count, expected):
    cases = list(range(count))
    shown = repeated(cases, 10)
    assert len(shown) == expected
    assert all(shown.count(case) == expected // count for case in cases)


def test_the_average_of_a_short_training_follows_it():
    assert momentum_for(7000, 0.01) == 0.01
    assert momentum_for(100, 0.01) == 0.1
    start_left = (1 - momentum_for(100, 0.01)) ** 100
    assert start_left < 1e-4
    assert momentum_for(0, 0.01) == momentum_for(1, 0.01) == 0.5


def test_a_case_is_known_by_its_files_and_by_how_it_is_prepared(tmp_path):
    image, series = tmp_path / "image.nii.gz", tmp_path / "series"
    series.mkdir()
    for path in (image, series / "1.dcm"):
        path.write_bytes(b"one")
    case = {"image": str(series), "label": str(image)}
    known = CaseHash([1.25])
    first = known(case)
    assert known(case) == CaseHash([1.25])(case) == first
    assert CaseHash([2.0])(case) != first
    (series / "1.dcm").write_bytes(b"two more")
    changed = CaseHash([1.25])(case)
    assert changed != first
    os.utime(image, (1, 1))
    assert CaseHash([1.25])(case) not in (first, changed)


def test_the_cases_of_a_training_are_others_when_a_file_changes_or_a_section(tmp_path):
    label = tmp_path / "label.nii.gz"
    label.write_bytes(b"one")
    case = {"image": str(tmp_path / "image.nii.gz"), "label": str(label)}
    known = fingerprint_cases([[case], []])
    assert fingerprint_cases([[dict(case)], []]) == known
    assert fingerprint_cases([[], [case]]) != known
    label.write_bytes(b"corrected")
    assert fingerprint_cases([[case], []]) != known
