"""Chest CT: lungs, heart, ribs, spine, sternum and table around the breasts.

Only what a network must learn to ignore: positions and Hounsfield units are right, shapes are ellipses and shells.
"""

from __future__ import annotations

import numpy as np
import torch

from .breast import BreastFields, BreastShape
from .canvas import Canvas
from .grid import FloatArray, coverage, upsample
from .tissues import Tissue

RIB_PITCH = 28.0
"""mm between ribs along the body."""


def paint_thorax(
    canvas: Canvas, shape: BreastShape, fields: BreastFields, random: np.random.Generator, *, with_contrast: bool
) -> None:
    """Paint the organs behind the pectoral muscle, on the smooth fields' coarse nodes.

    In breast views only a strip of rib and lung behind the muscle is met; in chest CT the whole thorax.
    """
    behind = fields.muscle + np.float32(random.uniform(10.0, 20.0))
    _, v, w = fields.local
    ribs = _ribs(behind, np.asarray(w + 0.35 * np.abs(fields.local[0]), dtype=np.float32), random)
    lungs = behind + 9.0
    device, size = canvas.hu.device, canvas.grid.voxel_size
    _blend(canvas, upsample(lungs, canvas.grid.shape, device), size, random.uniform(-900.0, -780.0), Tissue.LUNG)
    _blend(canvas, upsample(ribs, canvas.grid.shape, device), size, random.uniform(250.0, 700.0), Tissue.BONE)
    if shape.midline == 0.0:
        return
    blood = random.uniform(150.0, 300.0) if with_contrast else random.uniform(35.0, 50.0)
    heart_centre = (-shape.midline + random.uniform(-35.0, 35.0), -70.0, random.uniform(-40.0, 40.0))
    heart = _ellipsoid(fields, heart_centre, (55.0, 42.0, 60.0))
    _blend(canvas, upsample(heart, canvas.grid.shape, device), size, blood, Tissue.MUSCLE)
    spine = np.hypot(fields.local[0] + shape.midline, v + shape.thorax_depth - 45.0) - 20.0
    _blend(canvas, upsample(spine, canvas.grid.shape, device), size, random.uniform(180.0, 350.0), Tissue.BONE)
    sternum = _ellipsoid(fields, (-shape.midline, -shape.muscle_depth - 9.0, 0.0), (18.0, 6.0, 400.0))
    _blend(canvas, upsample(sternum, canvas.grid.shape, device), size, random.uniform(150.0, 350.0), Tissue.BONE)
    table = np.maximum(np.abs(v + shape.thorax_depth + 14.0) - 5.0, np.abs(fields.local[0] + shape.midline) - 200.0)
    table = np.maximum(table, -fields.surface)
    _blend(canvas, upsample(table, canvas.grid.shape, device), size, random.uniform(-700.0, -100.0), Tissue.OUTSIDE)


def _ribs(behind: FloatArray, along: FloatArray, random: np.random.Generator) -> FloatArray:
    phase = random.uniform(0.0, RIB_PITCH)
    offset = np.mod(along + phase, RIB_PITCH) - RIB_PITCH / 2.0
    return np.asarray(np.hypot(offset / 1.6, behind + 4.0) - 4.5, dtype=np.float32)


def _ellipsoid(
    fields: BreastFields, centre: tuple[float, float, float], half_axes: tuple[float, float, float]
) -> FloatArray:
    squared = sum(
        ((axis - np.float32(c)) / np.float32(h)) ** 2
        for axis, c, h in zip(fields.local, centre, half_axes, strict=True)
    )
    return np.asarray((np.sqrt(squared) - 1.0) * min(half_axes), dtype=np.float32)


def _blend(canvas: Canvas, distance: torch.Tensor, size: float, hu: float, tissue: Tissue) -> None:
    share = coverage(distance, size)
    canvas.tissue[share >= 0.5] = int(tissue)
    canvas.hu.add_((hu - canvas.hu).mul_(share))
