from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lightunet_monai.batch.scrub import FILE, SERIES, redact_report, scrub, secrets_of
from lightunet_monai.inputs import discover_sources
from lightunet_monai.outputs import describe_case
from lightunet_monai.sources import ImageFile
from tests.builders.series import make_series

PATHS = [
    "/data/DOE_JANE/IM0001",
    "/data/Doe Jane/scan 1/IM 0001.dcm",
    "/data/Doe, Jane (1970)/IM0001.dcm",
    "/data/O'Doe/Jane",
    "~/studies/Doe Jane/a.nii.gz",
    "C:\\Users\\Doe Jane\\IM0001.dcm",
    "C:/Users/Doe Jane/IM0001",
    "\\\\server\\share\\Doe Jane\\IM0001",
]
FRAMES = [
    "{}: cannot be read: PermissionError.",
    "cannot read {}: file is damaged.",
    '[Errno 13] Permission denied: "{}"',
    "member of {}!Doe/Jane 1: file is damaged.",
]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("path", PATHS)
def test_no_part_of_a_path_remains_even_if_nobody_named_it(path, frame):
    cleaned = scrub(frame.format(path))
    for part in ("Doe", "DOE", "Jane", "1970", "IM0001", "Users", "server"):
        assert part not in cleaned
    assert FILE in cleaned


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/in/Doe Jane/IM 1.dcm: cannot be read: OSError.", f"{FILE}: cannot be read: OSError."),
        ("opened /in/Doe Jane/a.nii.gz in 3 s", f"opened {FILE} in 3 s"),
        ("found 'C:\\Doe Jane\\a', expected a folder", f"found {FILE}, expected a folder"),
        ("Doe_Jane.nii.gz: no volume", f"{FILE}: no volume"),
        ("Series 1.2.826.0.1.4711: gap of 5.0 mm", f"Series {SERIES}: gap of 5.0 mm"),
        ("series_1.2.826.0.1.4711 and 2.25.4711.", f"series_{SERIES} and {SERIES}."),
        ("tilt of 12.5 degrees, 3/4 of 512 x 512 slices, torch 2.5.1", None),
        ("transfer syntax 1.2.840.10008.1.2.4.100 cannot be decoded", None),
    ],
)
def test_what_tells_nothing_about_a_patient_remains_readable(text, expected):
    assert scrub(text) == (expected or text)


def test_what_follows_a_known_folder_goes_with_it():
    text = "/in/unit 1/Doe Jane x/IM 001: damaged; see /in/unit 1!Doe/Jane 2: damaged"
    assert scrub(text, {"/in/unit 1"}) == f"{FILE}: damaged; see {FILE}: damaged"


def test_a_secret_within_another_or_within_a_placeholder_leaves_placeholders_whole():
    assert scrub("Doe Jane and Jane in the series", {"Jane", "Doe Jane", "serie", "file"}) == (
        f"{SERIES} and {SERIES} in the {SERIES}s"
    )


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=2, max_size=30)
texts = st.lists(
    st.one_of(st.text(max_size=20), st.sampled_from([": ", "/", "\\", ".dcm", "'", "1.2.3.4"])), max_size=5
)


@settings(deadline=None)
@given(secrets=st.sets(names, min_size=1, max_size=4), around=texts, quoted=st.booleans())
@example(secrets={"/in/Doe Jane", "Jane"}, around=["/in/", ": "], quoted=False)
@example(secrets={"Doe\\Jane"}, around=["C:\\"], quoted=True)
def test_no_secret_survives_whatever_stands_around_it(secrets, around, quoted):
    assume(not any(secret in f"{FILE}{SERIES}" for secret in secrets))
    said = [repr(secret) if quoted else secret for secret in secrets]
    cleaned = scrub(" ".join([*around, *said, *around, *said]), secrets)
    for secret in secrets:
        assert secret not in cleaned.replace(FILE, "\0").replace(SERIES, "\0")


def test_secrets_of_a_series_are_its_paths_and_uids(tmp_path):
    truth = make_series(tmp_path / "Doe Jane")
    (source,) = discover_sources(truth.folder)
    secrets = secrets_of(source)
    assert {truth.series_uid, source.study_uid, str(truth.folder), truth.files[0].name, str(truth.files[0])} <= secrets
    assert {item.sop_instance_uid for item in source.slices} <= secrets


def test_a_report_names_the_case_by_its_key_and_keeps_the_uids(tmp_path):
    truth = make_series(tmp_path / "Doe Jane")
    (source,) = discover_sources(truth.folder)
    report = describe_case(source, warnings=[f"{truth.files[3]}: odd; spacing differs by 0.1 mm"])
    redacted = redact_report(report, source, "key")
    assert redacted.source == {**report.source, "name": "key", "path": ""}
    assert redacted.source["series_uid"] == truth.series_uid
    assert f"{FILE}: odd; spacing differs by 0.1 mm" in redacted.warnings

    image = ImageFile(Path("/data/Doe Jane.nii.gz"))
    report = describe_case(image, warnings=["Doe Jane: odd"])
    assert "Doe" not in str(redact_report(report, image, "key").to_json())
