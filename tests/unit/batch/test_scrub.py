import re
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lightunet_monai.batch.scrub import FILE, SERIES, redact_report, scrub, secrets_of
from lightunet_monai.inputs import discover_sources
from lightunet_monai.outputs import describe_case
from lightunet_monai.sources import DicomSeries, DicomSlice, ImageFile
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
    assert scrub("Doe Jane and Jane in a series", {"Jane", "Doe Jane", "series", "file", "in/x"}) == (
        f"{SERIES} and {SERIES} in a {SERIES}"
    )
    assert scrub("in/x: a file", {"in/x", "file"}) == f"{FILE}: a {SERIES}"


@pytest.mark.parametrize(
    ("text", "secret", "expected"),
    [
        ("gap of 16.500 mm between slices 29 and 30", "16", None),
        ("gap of 16.500 mm between slices 29 and 30", "500", None),
        ("129 slices of 29.5 mm, B29f, x29", "29", None),
        ("29: damaged; see 29.", "29", f"{SERIES}: damaged; see {SERIES}."),
        ("series_29, 'Doe-29'", "29", f"series_{SERIES}, 'Doe-{SERIES}'"),
        ("Series 2.1234 of 2.12345 mm, 12.1234 s", "2.1234", f"Series {SERIES} of 2.12345 mm, 12.1234 s"),
        ("MRN12345.2019.7 and xMRN12345.2019", "MRN12345.2019", f"{SERIES}.7 and xMRN12345.2019"),
        ("of(Doe)x and a-Doe", "(Doe)", f"of{SERIES}x and a-Doe"),
        ("Doe.2 and Doe: odd", "Doe", f"{SERIES}.2 and {SERIES}: odd"),
        ("see Doe Jane/IM12", "Doe Jane/IM1", f"see {FILE}2"),
        ("Doe/IM1Jane", "Doe/IM1", f"{FILE}Jane"),
    ],
)
def test_a_name_goes_where_it_stands_alone_and_words_and_numbers_around_it_stay(text, secret, expected):
    assert scrub(text, {secret}) == (expected or text)


def test_what_stands_behind_a_path_stands_alone_when_the_path_is_gone():
    assert scrub("a/bJane", {"a/b", "Jane"}) == f"{FILE}{SERIES}"
    assert scrub("1.2.3.4Jane", {"Jane"}) == f"{SERIES}{SERIES}"


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=2, max_size=30)
texts = st.lists(
    st.one_of(st.text(max_size=20), st.sampled_from([": ", "/", "\\", ".dcm", "'", "1.2.3.4"])), max_size=5
)


@settings(deadline=None)
@given(secrets=st.sets(names, min_size=1, max_size=4), around=texts, quoted=st.booleans())
@example(secrets={"/in/Doe Jane", "Jane"}, around=["/in/", ": "], quoted=False)
@example(secrets={"Doe\\Jane"}, around=["C:\\"], quoted=True)
@example(secrets={"16", "50", "4711234"}, around=["16.500", "4711234.5", ": "], quoted=False)
@example(secrets={"Doe/x", "Jane"}, around=["Doe/xJane"], quoted=False)
@example(secrets={"Jane"}, around=["1.2.3.4Jane"], quoted=False)
def test_no_secret_survives_whatever_stands_around_it(secrets, around, quoted):
    assume(not any(secret in f"{FILE}{SERIES}" for secret in secrets))
    said = [repr(secret) if quoted else secret for secret in secrets]
    cleaned = scrub(" ".join([*around, *said, *around, *said]), secrets)
    cleaned = cleaned.replace(FILE, "\0").replace(SERIES, "\0")
    for secret in secrets:
        if "/" in secret or "\\" in secret:
            assert secret not in cleaned
        assert not _stands_alone(secret, cleaned)


def _stands_alone(secret, text):
    """Whether a text holds a secret that no letter or digit touches, nor a decimal if the secret is a number."""
    is_number = not set(secret) - set("0123456789.")
    for start in range(len(text)):
        before, after = text[:start], text[start + len(secret) :]
        if not text.startswith(secret, start):
            continue
        touched = [secret[0].isalnum() and before[-1:].isalnum(), secret[-1].isalnum() and after[:1].isalnum()]
        decimal = [re.search(r"[0-9][.]\Z", before), re.match(r"[.][0-9]", after)]
        if not any(touched) and not (is_number and any(decimal)):
            return True
    return False


def test_secrets_of_a_series_are_its_paths_and_uids(tmp_path):
    truth = make_series(tmp_path / "Doe Jane")
    (source,) = discover_sources(truth.folder)
    secrets = secrets_of(source)
    assert {truth.series_uid, source.study_uid, str(truth.folder), truth.files[0].name, str(truth.files[0])} <= secrets
    assert {item.sop_instance_uid for item in source.slices} <= secrets


def test_numbers_of_slices_are_no_secrets_but_their_paths_and_longer_numbers_are(tmp_path):
    truth = make_series(tmp_path / "4711")
    for number, path in enumerate(truth.files, start=11):
        path.rename(truth.folder / str(number))
    (truth.folder / "11").rename(truth.folder / "4711234")
    (source,) = discover_sources(truth.folder)
    secrets = secrets_of(source)
    said = "Series: gap of 16.500 mm between slices 12 and 13, expected 15 mm"
    assert scrub(said, secrets) == said
    assert scrub(f"{truth.folder}/12: damaged", secrets) == f"{FILE}: damaged"
    assert scrub("4711234: damaged", secrets) == f"{SERIES}: damaged"
    assert scrub(f"{source.name} is tilted", secrets) == f"{SERIES} is tilted"


def test_a_number_that_names_the_only_file_or_the_folder_is_a_secret():
    slices = DicomSeries("1.2", "1.3", (DicomSlice(Path("4711/12")), DicomSlice(Path("4711/13"))))
    assert scrub("4711 and 4711/12 and 12", secrets_of(slices)) == f"{SERIES} and {FILE} and 12"
    enhanced = DicomSeries("1.2", "1.3", tuple(DicomSlice(Path("123456"), frame=index) for index in range(2)))
    assert scrub("123456: odd", secrets_of(enhanced)) == f"{SERIES}: odd"
    assert scrub("123456: odd", secrets_of(ImageFile(Path("/data/123456.nii.gz")))) == f"{SERIES}: odd"


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
