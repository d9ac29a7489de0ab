"""Forward projection and FDK reconstruction by RTK.

RTK turns about its y axis, which is the patient's y here (chest wall to nipple); its volumes are centred on the
isocentre.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from .grid import FloatArray, Grid

if TYPE_CHECKING:
    from .projection import Detector, ProjectionPlan

# SWIG warns on import about its own types; a program that turns warnings into errors would crash there.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import itk
    from itk import RTK

    _Image = itk.Image[itk.F, 3]
    _Geometry = RTK.ThreeDCircularProjectionGeometry
    _Projector = RTK.JosephForwardProjectionImageFilter[_Image, _Image]
    _Reconstructor = RTK.FDKConeBeamReconstructionFilter[_Image]


def geometry(plan: ProjectionPlan) -> Any:
    """Return RTK's circular geometry of a plan."""
    circle = _Geometry.New()
    for view in range(plan.views):
        circle.AddProjection(plan.source_axis, plan.source_detector, 360.0 * view / plan.views)
    return circle


def project(values: FloatArray, grid: Grid, detector: Detector, circle: Any, views: int) -> FloatArray:
    """Return path lengths through `values`, shape (views, rows, columns), mm."""
    joseph = _Projector.New()
    joseph.SetGeometry(circle)
    joseph.SetInput(0, _stack(np.zeros((views, detector.rows, detector.columns), dtype=np.float32), detector))
    joseph.SetInput(1, _volume(values, grid, detector))
    joseph.Update()
    return np.asarray(itk.array_from_image(joseph.GetOutput()), dtype=np.float32)


def reconstruct(line_integrals: FloatArray, grid: Grid, detector: Detector, circle: Any, hann_cut: float) -> FloatArray:
    """Return attenuation in 1/mm on the grid, shape (X, Y, Z)."""
    fdk = _Reconstructor.New()
    fdk.SetInput(0, _volume(np.zeros(grid.shape, dtype=np.float32), grid, detector))
    fdk.SetInput(1, _stack(line_integrals, detector))
    fdk.SetGeometry(circle)
    fdk.GetRampFilter().SetTruncationCorrection(0.0)
    fdk.GetRampFilter().SetHannCutFrequency(hann_cut)
    fdk.Update()
    return np.ascontiguousarray(itk.array_from_image(fdk.GetOutput()).transpose(2, 1, 0), dtype=np.float32)


def _volume(values: FloatArray, grid: Grid, detector: Detector) -> Any:
    image = itk.image_from_array(np.ascontiguousarray(values.transpose(2, 1, 0)))
    image.SetSpacing([float(s) for s in grid.spacing])
    image.SetOrigin([float(o - c) for o, c in zip(grid.origin, detector.isocentre, strict=True)])
    return image


def _stack(values: FloatArray, detector: Detector) -> Any:
    """Columns centred on the axis; rows begin at the chest wall, 4 pixels before the central ray."""
    image = itk.image_from_array(np.ascontiguousarray(values))
    image.SetSpacing([detector.pixel, detector.pixel, 1.0])
    image.SetOrigin([-detector.pixel * (detector.columns - 1) / 2.0, -4.0 * detector.pixel, 0.0])
    return image
