import dataclasses
import json
import os
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from lightunet_monai.errors import GeometryError, OutputError
from lightunet_monai.outputs import describe_case, measure_lesions, write_report
from lightunet_monai.segmentation import DoubtfulPiece
from lightunet_monai.sources import ImageFile
from tests.builders.segmentation import make_case, make_segmentation

SCHEMA = Path(__file__).parents[3] / "docs" / "report.schema.json"


def _check(report: object) -> dict[str, object]:
    jsonschema = pytest.importorskip("jsonschema")
    values = json.loads(json.dumps(report.to_json(), allow_nan=False))  # type: ignore[attr-defined]
    jsonschema.validate(values, json.loads(SCHEMA.read_text()))
    return values  # type: ignore[no-any-return]


@pytest.mark.parametrize("source", ["axial", "left-handed", "tilted", "multi-frame"])
def test_the_report_of_a_series_follows_the_published_schema(tmp_path: Path, source: str) -> None:
    case = make_case(tmp_path, source)
    findings = measure_lesions(case.segmentation, case.volume_hu)
    values = _check(
        describe_case(
            case.segmentation.source,
            segmentation=case.segmentation,
            findings=findings,
            seconds={"load": 0.12345, "infer": 3},
            warnings=["uneven spacing"],
        )
    )
    assert values["status"] == "done"
    assert values["source"]["kind"] == "dicom-series"
    assert values["source"]["slices"] == 20
    assert values["geometry"]["left_handed"] is (source == "left-handed")
    assert (values["geometry"]["shear_degrees"] > 5) is (source == "tilted")
    assert values["volume_ml"]["tumor"] == pytest.approx(sum(item.volume_ml for item in findings), abs=1e-5)
    assert values["seconds"] == {"load": 0.123, "infer": 3.0}
    assert "uneven spacing" in values["warnings"]
    assert values["model"]["weights_sha256"].startswith("0123456789abcdef")


def test_what_the_model_was_not_sure_of_is_reported_on_the_grid_of_the_source(tmp_path: Path) -> None:
    segmentation = make_case(tmp_path, "tilted").segmentation
    place = segmentation.affine[:3, :3] @ (3, 5, 7) + segmentation.affine[:3, 3]
    piece = DoubtfulPiece(0.31234, 0.123456, (float(place[0]), float(place[1]), float(place[2])))
    outside = segmentation.affine[:3, :3] @ (-0.8, 5, 7) + segmentation.affine[:3, 3]
    beyond = DoubtfulPiece(0.2, 0.1, (float(outside[0]), float(outside[1]), float(outside[2])))
    segmentation = dataclasses.replace(segmentation, doubtful=(piece, beyond))
    told, other = _check(describe_case(segmentation.source, segmentation=segmentation))["doubtful"]
    assert told == {
        "probability": 0.312,
        "volume_ml": 0.123,
        "place_ras_mm": pytest.approx(place, abs=0.051),
        "place_voxel": [3, 5, 7],
    }
    assert other["place_voxel"] == [0, 5, 7]


def test_a_path_that_is_no_text_can_be_reported(tmp_path: Path) -> None:
    study = tmp_path / os.fsdecode(b"M\xfcller Universit\xc3\xa4t") if os.name == "posix" else tmp_path / "study"
    path = write_report(describe_case(study, error=GeometryError("gap")), tmp_path / "report.json")
    assert json.loads(path.read_bytes())["source"]["path"] == str(study)


def test_a_failed_case_can_be_reported_before_a_source_was_found(tmp_path: Path) -> None:
    error = GeometryError("gap of 5.0 mm", hint="Ask for a complete export.", reason="gap")
    values = _check(describe_case(tmp_path / "study", error=error))

    assert values["status"] == "failed"
    assert values["source"] == {"kind": "path", "name": "study", "path": str(tmp_path / "study")}
    assert values["error"] == {
        "kind": "GeometryError",
        "reason": "gap",
        "message": "gap of 5.0 mm",
        "hint": "Ask for a complete export.",
    }
    assert values["geometry"] is values["model"] is values["findings"] is None


def test_a_skipped_case_says_why(tmp_path: Path) -> None:
    values = _check(describe_case(ImageFile(tmp_path / "a.nii"), error=OutputError("exists"), skipped=True))
    assert values["status"] == "skipped"
    assert values["error"]["message"] == "exists"


def test_an_unexpected_error_does_not_quote_what_it_found_in_the_header() -> None:
    try:
        raise ValueError("invalid date for DOE^JANE")
    except ValueError as error:
        values = _check(describe_case("study", error=error))
    assert "DOE" not in json.dumps(values)
    assert values["error"]["message"].startswith("unexpected ValueError in test_report.py, line ")


def test_an_empty_label_map_is_a_warning_not_an_all_clear() -> None:
    segmentation = make_segmentation(np.zeros((3, 3, 3), np.uint8))
    values = _check(
        describe_case(segmentation.source, segmentation=segmentation, findings=measure_lesions(segmentation))
    )
    assert values["warnings"] == [
        "Nothing was found: the label map is empty. This does not mean that there is no lesion."
    ]
    assert values["findings"]["count"] == 0


def test_the_patient_of_the_source_is_not_in_the_report(tmp_path: Path) -> None:
    def plant(index: int, dataset: object) -> None:
        dataset.PatientName, dataset.PatientID = "PLANTED^NAME", "PLANTED-ID"  # type: ignore[attr-defined]

    from lightunet_monai.inputs import choose_series, discover_sources
    from tests.builders.series import make_series

    make_series(tmp_path / "s", change=plant)
    source = choose_series(discover_sources(tmp_path / "s"))
    segmentation = make_segmentation(np.zeros((24, 20, 12), np.uint8), np.array(source.affine), source)
    assert "PLANTED" not in json.dumps(describe_case(source, segmentation=segmentation).to_json())


def test_the_clock_is_injected(tmp_path: Path) -> None:
    report = describe_case("study", clock=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc))
    path = write_report(report, tmp_path / "report.json")
    assert json.loads(path.read_text())["created"] == "2026-01-02T03:04:05+00:00"


def test_reading_a_report_needs_no_heavy_package() -> None:
    import subprocess
    import sys

    program = (
        "import sys, lightunet_monai.outputs as o; o.describe_case; o.FORMATS; "
        "heavy = {'torch', 'monai', 'highdicom', 'nibabel', 'skimage', 'matplotlib', 'scipy', 'pydicom'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"
