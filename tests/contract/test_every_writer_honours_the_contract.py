"""One contract, run on each writer."""

import hashlib
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from lightunet_monai.errors import OutputError
from lightunet_monai.outputs import FORMATS, Stamp, measure_lesions
from lightunet_monai.outputs.formats import Format
from tests.builders.segmentation import Case, make_case, make_segmentation

ALL = pytest.mark.parametrize("name", list(FORMATS))
SERIES_ONLY = pytest.mark.parametrize("name", [name for name, item in FORMATS.items() if item.needs_series])


def _write(item: Format, case: Case, path: Path) -> Path:
    stamp = Stamp.derived(case.segmentation, lambda: datetime(2026, 1, 2, 3, 4, 5))
    extra = {"stamp": stamp} if item.needs_series else {}
    if item.name == "sr":
        seg = path.with_name("referenced_seg")
        FORMATS["seg"].writer(case.segmentation, seg, **extra)
        findings = measure_lesions(case.segmentation)
        return item.writer(case.segmentation, findings, seg, path, **extra)
    return item.writer(case.segmentation, path, **item.options, **extra)


@ALL
def test_the_path_is_given_back_and_nothing_else_is_left(tmp_path: Path, name: str) -> None:
    item = FORMATS[name]
    path = tmp_path / "deep" / "out" / item.file_name

    assert _write(item, make_case(tmp_path), path) == path
    assert set(os.listdir(path.parent)) - {"referenced_seg"} == {item.file_name}
    assert path.stat().st_size > 0


@ALL
def test_writing_again_with_the_same_stamp_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    case = make_case(tmp_path)
    suffix = "".join(Path(FORMATS[name].file_name).suffixes)
    first, second = (_write(FORMATS[name], case, tmp_path / f"{letter}{suffix}") for letter in "ab")
    assert first.read_bytes() == second.read_bytes()


@ALL
def test_neither_the_source_nor_the_segmentation_is_changed(tmp_path: Path, name: str) -> None:
    case = make_case(tmp_path, "left-handed")
    files = {path: hashlib.sha256(path.read_bytes()).digest() for path in case.folder.iterdir()}
    label_map, affine = case.segmentation.label_map.copy(), case.segmentation.affine.copy()

    _write(FORMATS[name], case, tmp_path / FORMATS[name].file_name)

    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in case.folder.iterdir()} == files
    assert np.array_equal(case.segmentation.label_map, label_map)
    assert np.array_equal(case.segmentation.affine, affine)


@ALL
def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path, name: str) -> None:
    case = make_case(tmp_path)
    (tmp_path / "file").write_text("")
    findings = measure_lesions(case.segmentation)
    path = tmp_path / "file" / FORMATS[name].file_name
    writer: Callable[[], Path]
    if name == "sr":
        seg = FORMATS["seg"].writer(case.segmentation, tmp_path / "seg.dcm")
        writer = lambda: FORMATS[name].writer(case.segmentation, findings, seg, path)  # noqa: E731
    else:
        writer = lambda: FORMATS[name].writer(case.segmentation, path, **FORMATS[name].options)  # noqa: E731
    with pytest.raises(OutputError, match="cannot be written") as caught:
        writer()
    assert caught.value.hint


@ALL
def test_an_empty_label_map_can_be_written(tmp_path: Path, name: str) -> None:
    path = _write(FORMATS[name], make_case(tmp_path, empty=True), tmp_path / FORMATS[name].file_name)
    assert path.stat().st_size > 0


@ALL
def test_the_file_says_that_it_is_for_research_only(tmp_path: Path, name: str) -> None:
    path = _write(FORMATS[name], make_case(tmp_path), tmp_path / FORMATS[name].file_name)
    data = path.read_bytes()
    if name in ("nifti", "probability"):
        import gzip

        data = gzip.decompress(data)
    assert b"RESEARCH USE ONLY - NOT FOR DIAGNOSIS" in data


@SERIES_ONLY
def test_a_source_that_is_no_series_is_refused_with_a_hint(tmp_path: Path, name: str) -> None:
    segmentation = make_segmentation(np.ones((4, 4, 4), np.uint8), probability=True)
    case = Case(segmentation, np.zeros((4, 4, 4), np.int16), tmp_path)
    with pytest.raises(OutputError, match="is not a DICOM series") as caught:
        _write(FORMATS[name], case, tmp_path / FORMATS[name].file_name)
    assert "nifti" in caught.value.hint
