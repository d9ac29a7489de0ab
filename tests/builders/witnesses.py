"""Independent readers: other people's software looks at our files, and the result is compared in patient space."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from numpy.typing import NDArray

from lightunet_monai.segmentation import Segmentation

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

Grid = tuple[NDArray[np.generic], NDArray[np.float64]]
"""Values (x, y, z) and the affine from voxel index to LPS mm."""


def find_tool(name: str) -> str:
    """Path of a program in this environment or on the system; the test is skipped if there is none."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; scripts/setup_test_tools.sh installs it")
    return found


def run_tool(*command: str | Path) -> str:
    """Run a program, which must succeed; give what it printed."""
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, f"{command[0]}: {result.stdout[-2000:]}{result.stderr[-2000:]}"
    return result.stdout + result.stderr


def dicom_errors(path: Path) -> list[str]:
    """What dciodvfy calls errors."""
    command = [find_tool("dciodvfy"), "-new", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    lines = (result.stdout + result.stderr).splitlines()
    assert any(not line.startswith(("Error", "Warning")) for line in lines), "dciodvfy did not name the object"
    return [line for line in lines if line.startswith("Error")]


def paste(grids: list[Grid], segmentation: Segmentation) -> NDArray[np.uint8]:
    """Mark on the source's grid every voxel that is set in one of these grids, found by its position in the patient.

    Every set voxel must lie on a voxel of the source, to a fiftieth of a voxel.
    """
    marked = np.zeros_like(segmentation.label_map)
    lps_to_voxel = np.linalg.inv(RAS_TO_LPS @ segmentation.affine)
    for values, voxel_to_lps in grids:
        to_voxel = lps_to_voxel @ voxel_to_lps
        exact = np.argwhere(np.asarray(values) > 0) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        index = np.rint(exact).astype(int)
        assert np.abs(exact - index).max(initial=0.0) < 0.02
        marked[tuple(index.T)] += 1
    return marked


def read_itk(path: Path) -> Grid:
    """An image file as SimpleITK reads it."""
    return itk_grid(SimpleITK.ReadImage(str(path)))


def itk_grid(image: SimpleITK.Image) -> Grid:
    """Values and affine of a SimpleITK image."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), affine


def read_frames(path: Path) -> list[Grid]:
    """The frames of a DICOM SEG, each with the position it states, read with pydicom alone."""
    return list(_frames(pydicom.dcmread(path)))


def _frames(dataset: pydicom.Dataset) -> Iterator[Grid]:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    rows_mm, columns_mm = (float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing)
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    for frame, plane in zip(dataset.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        affine = np.eye(4)
        affine[:3, 0] = cosines[:3] * columns_mm
        affine[:3, 1] = cosines[3:] * rows_mm
        affine[:3, 2] = np.cross(cosines[:3], cosines[3:])
        affine[:3, 3] = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        yield plane.T[:, :, None], affine


def read_highdicom(path: Path) -> list[Grid]:
    """All segments as highdicom puts them into one volume."""
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True, skip_overlap_checks=False)
    return [(volume.array, np.asarray(volume.affine))]


def read_dcmqi(path: Path, folder: Path) -> list[Grid]:
    """Each segment as dcmqi decodes it; 3D Slicer reads DICOM SEG with the same library."""
    folder.mkdir()
    tool = find_tool("segimage2itkimage")
    run_tool(tool, "--inputDICOM", path, "--outputDirectory", folder, "--outputType", "nrrd")
    return [read_itk(item) for item in sorted(folder.glob("*.nrrd"))]


def dice(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """Dice overlap of two masks."""
    a, b = np.asarray(first) > 0, np.asarray(second) > 0
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))
