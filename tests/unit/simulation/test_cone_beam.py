"""Rays and reconstruction against geometry on paper and against RTK."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest

from lightunet_monai.simulation.grid import FloatArray, Grid
from lightunet_monai.simulation.projection import Detector, ProjectionPlan
from lightunet_monai.simulation.xray import BEAMS

pytest.importorskip("numba", reason="numba (extra projection) is not installed")

from lightunet_monai.simulation.cone_beam import ROWS_BEFORE, Circle, project, reconstruct

GRID = Grid((44, 30, 52), (1.5, 1.2, 1.4), (-30.0, 80.0, -38.0))
PLAN = ProjectionPlan(BEAMS[1], 480.0, 865.0, 90, 1e6, 0.0, 0.3, 0.0, 0.3, 0.9)
CIRCLE = Circle(PLAN.source_axis, PLAN.source_detector, PLAN.views)
BALL = (6.0, 96.0, -9.0)
RADIUS = 9.0


def ball(grid: Grid) -> FloatArray:
    """Share of each voxel inside a ball, from its distance to the surface."""
    x, y, z = grid.meshes()
    distance = np.sqrt((x - BALL[0]) ** 2 + (y - BALL[1]) ** 2 + (z - BALL[2]) ** 2) - RADIUS
    return np.clip(0.5 - distance / grid.voxel_size, 0.0, 1.0).astype(np.float32)


def source_and_pixels(detector: Detector, view: int) -> tuple[Any, Any]:
    """World positions of the source, (3,), and of every pixel, (columns, rows, 3)."""
    x, z = CIRCLE.directions()[view].astype(np.float64)
    source = np.array([x, 0.0, z]) * CIRCLE.source_axis
    u = (np.arange(detector.columns) - (detector.columns - 1) / 2) * detector.pixel
    v = (np.arange(detector.rows) - ROWS_BEFORE) * detector.pixel
    middle = source - np.array([x, 0.0, z]) * CIRCLE.source_detector
    pixels = middle + u[:, None, None] * np.array([z, 0.0, -x]) + v[None, :, None] * np.array([0.0, 1.0, 0.0])
    return source + detector.isocentre, pixels + detector.isocentre


@pytest.mark.parametrize("view", [0, 7, 22, 23, 45, 61, 80])
def test_a_ray_through_a_ball_is_as_long_as_its_chord(view: int) -> None:
    detector = Detector.around(GRID, PLAN)
    paths = project([ball(GRID)], GRID, detector, CIRCLE)[0, view]
    source, pixels = source_and_pixels(detector, view)
    way = pixels - source
    way /= np.linalg.norm(way, axis=-1, keepdims=True)
    to_centre = np.array(BALL) - source
    along = way @ to_centre
    miss = np.sqrt(np.maximum(to_centre @ to_centre - along**2, 0.0))
    chord = 2.0 * np.sqrt(np.maximum(RADIUS**2 - miss**2, 0.0))
    deep = miss < 0.7 * RADIUS
    assert deep.sum() > 80
    # Voxels and the steps between them blur the ball: its chords of up to 18 mm come out about 0.25 mm short.
    np.testing.assert_allclose(paths[deep], chord[deep], atol=0.7)
    assert np.abs(paths[deep] - chord[deep]).mean() < 0.35
    assert not paths[miss > RADIUS + 2.0 * GRID.voxel_size].any()


def test_fields_are_projected_independently() -> None:
    detector = Detector.around(GRID, PLAN)
    one = ball(GRID)
    other = np.ones(GRID.shape, dtype=np.float32)
    both = project([one, other], GRID, detector, CIRCLE)
    np.testing.assert_allclose(both[0], project([one], GRID, detector, CIRCLE)[0], atol=1e-5)
    np.testing.assert_allclose(both[1], project([other], GRID, detector, CIRCLE)[0], atol=1e-5)


def test_reconstruction_puts_a_ball_back_where_it_was() -> None:
    detector = Detector.around(GRID, PLAN)
    volume = ball(GRID)
    result = reconstruct(project([volume], GRID, detector, CIRCLE)[0], GRID, detector, CIRCLE, hann_cut=1.0)
    assert float(np.median(result[volume == 1.0])) == pytest.approx(1.0, abs=0.03)
    assert float(np.abs(result[volume == 0.0]).mean()) < 0.01
    x, y, z = GRID.meshes()
    inside = np.clip(result, 0.0, None) * (result > 0.5)
    centre = [float((inside * axis).sum() / inside.sum()) for axis in (x, y, z)]
    np.testing.assert_allclose(centre, BALL, atol=0.15)


def test_rays_and_reconstruction_are_those_of_rtk() -> None:
    """RTK as a witness: its Joseph projector and FDK on the same circle."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # SWIG crashes where its warnings are errors
        try:
            import itk
            from itk import RTK as rtk  # noqa: N811
        except ImportError:
            pytest.skip("RTK (itk-rtk) is not installed")
        image_type = itk.Image[itk.F, 3]
        circle = rtk.ThreeDCircularProjectionGeometry.New()
        joseph = rtk.JosephForwardProjectionImageFilter[image_type, image_type].New()
        fdk = rtk.FDKConeBeamReconstructionFilter[image_type].New()
    for view in range(PLAN.views):
        circle.AddProjection(PLAN.source_axis, PLAN.source_detector, 360.0 * view / PLAN.views)
    detector = Detector.around(GRID, PLAN)

    def as_volume(values: FloatArray) -> Any:
        image = itk.image_from_array(np.ascontiguousarray(values.transpose(2, 1, 0)))
        image.SetSpacing([float(s) for s in GRID.spacing])
        image.SetOrigin([float(o - c) for o, c in zip(GRID.origin, detector.isocentre, strict=True)])
        return image

    def as_stack(values: FloatArray) -> Any:
        image = itk.image_from_array(np.ascontiguousarray(values.transpose(0, 2, 1)))
        image.SetSpacing([detector.pixel, detector.pixel, 1.0])
        image.SetOrigin([-detector.pixel * (detector.columns - 1) / 2.0, -ROWS_BEFORE * detector.pixel, 0.0])
        return image

    generator = np.random.default_rng(4)
    field = (ball(GRID) * generator.uniform(0.5, 1.5, GRID.shape)).astype(np.float32)
    ours = project([field], GRID, detector, CIRCLE)[0]
    joseph.SetGeometry(circle)
    joseph.SetInput(0, as_stack(np.zeros_like(ours)))
    joseph.SetInput(1, as_volume(field))
    joseph.Update()
    theirs = itk.array_from_image(joseph.GetOutput()).transpose(0, 2, 1)
    # Near 45 degrees RTK steps along another axis where voxels are not cubes: the same ray in other samples.
    difference = np.abs(ours - theirs) / float(theirs.max())
    assert float(difference.max()) < 0.02
    assert float((difference > 1e-4).mean()) < 0.01

    fdk.SetInput(0, as_volume(np.zeros(GRID.shape, dtype=np.float32)))
    fdk.SetInput(1, as_stack(ours))
    fdk.SetGeometry(circle)
    fdk.GetRampFilter().SetTruncationCorrection(0.0)
    fdk.GetRampFilter().SetHannCutFrequency(PLAN.hann_cut)
    fdk.Update()
    reference = itk.array_from_image(fdk.GetOutput()).transpose(2, 1, 0)
    result = reconstruct(ours, GRID, detector, CIRCLE, hann_cut=PLAN.hann_cut)
    np.testing.assert_allclose(result, reference, atol=2e-3 * float(reference.max()))


def test_without_a_folder_for_what_is_compiled_it_is_compiled_anyway() -> None:
    program = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "import lightunet_monai.simulation.cone_beam as cone_beam\n"
        "print(type(cone_beam._project).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "CPUDispatcher"
