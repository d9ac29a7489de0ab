"""3D Slicer's own file readers, from slicer-core, find every voxel at the same place in the patient."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lightunet_monai.outputs import write_nifti, write_nrrd, write_seg_nrrd
from tests.builders.segmentation import THREE_LABELS, Case, make_case
from tests.builders.witnesses import RAS_TO_LPS, Grid, paste

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-slicer" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
SOURCES = ("axial", "oblique", "left-handed", "anisotropic")
WRITERS = {"labelmap.seg.nrrd": write_seg_nrrd, "labelmap.nrrd": write_nrrd, "labelmap.nii.gz": write_nifti}

pytestmark = [
    pytest.mark.skipif(
        not PYTHON.exists(), reason="slicer-core is not installed; scripts/setup_test_tools.sh installs it"
    ),
]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Case, Path]]:
    """A case of each source, written and read by one run of Slicer's readers."""
    made: dict[str, tuple[Case, Path]] = {}
    paths: list[Path] = []
    for source in (*SOURCES, "empty"):
        folder = tmp_path_factory.mktemp(source)
        kind = "axial" if source == "empty" else source
        case = make_case(folder, kind, labels=THREE_LABELS, empty=source == "empty")
        made[source] = case, folder
        for name, write in WRITERS.items():
            paths.append(write(case.segmentation, folder / name))
    program = ROOT / "tests" / "builders" / "slicer_reader.py"
    done = subprocess.run([PYTHON, program, *paths], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def _read(path: Path) -> tuple[list[dict[str, object]], list[Grid]]:
    with np.load(f"{path}.npz") as read:
        segments = json.loads(str(read["segments"]))
        # Slicer works in RAS
        return segments, [(read[f"mask{i}"], RAS_TO_LPS @ read[f"affine{i}"]) for i in range(len(segments))]


@pytest.mark.parametrize("source", SOURCES)
def test_a_segmentation_opens_with_names_colours_terminology_and_voxels(
    cases: dict[str, tuple[Case, Path]], source: str
) -> None:
    case, folder = cases[source]
    segments, grids = _read(folder / "labelmap.seg.nrrd")

    assert [segment["name"] for segment in segments] == ["Breast mass", "Skin", "Nipple"]
    for label, segment, grid in zip(THREE_LABELS, segments, grids, strict=True):
        assert segment["id"] == label.name
        assert np.allclose(np.array(segment["color"]) * 255, label.color, atol=0.01)
        assert f"SCT^{label.type.value}^{label.type.meaning}" in str(segment["terminology"])
        assert segment["algorithm"] == "AUTOMATIC"
        assert np.array_equal(paste([grid], case.segmentation), case.segmentation.label_map == label.value)
    assert "SCT^76752008^Breast" in str(segments[0]["terminology"])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["labelmap.nii.gz", "labelmap.nrrd"])
def test_a_label_map_opens_in_place(cases: dict[str, tuple[Case, Path]], source: str, name: str) -> None:
    case, folder = cases[source]
    _, grids = _read(folder / name)
    assert np.array_equal(paste(grids, case.segmentation) > 0, case.segmentation.label_map > 0)


def test_an_empty_segmentation_opens_with_its_segments(cases: dict[str, tuple[Case, Path]]) -> None:
    _, folder = cases["empty"]
    segments, grids = _read(folder / "labelmap.seg.nrrd")
    assert [segment["name"] for segment in segments] == ["Breast mass", "Skin", "Nipple"]
    assert not any(values.any() for values, _ in grids)
