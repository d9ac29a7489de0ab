"""Breast implants: silicone or saline, behind the gland, with gland and fat lying around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .breast import BreastShape
from .grid import FloatArray


@dataclass(frozen=True)
class Implant:
    """An ellipsoid: content, HU, centre along v and half axes along u, v, w in mm."""

    content: str
    hu: float
    centre: float
    half_axes: tuple[float, float, float]


def sample_implant(random: np.random.Generator, shape: BreastShape, *, share: float) -> Implant | None:
    """Draw an implant in a share of the breasts that are deep enough for one; silicone is 80-250 HU."""
    wanted = random.random() < share
    silicone = random.random() < 0.7
    hu = random.uniform(80.0, 250.0) if silicone else random.uniform(-5.0, 15.0)
    size = random.uniform(0.45, 0.65, 3)
    if not wanted or shape.length < 45.0:
        return None
    half_axes = (shape.half_width * size[0], shape.length * 0.5 * size[1], shape.half_height * size[2])
    return Implant(
        content="silicone" if silicone else "saline",
        hu=float(hu),
        centre=float(0.15 * shape.length + half_axes[1] * 0.6),
        half_axes=(float(half_axes[0]), float(half_axes[1]), float(half_axes[2])),
    )


def implant_distance(implant: Implant, local: tuple[FloatArray, FloatArray, FloatArray]) -> FloatArray:
    """Return the signed distance to the implant on coarse nodes, negative inside, mm."""
    offsets = (local[0], local[1] - np.float32(implant.centre), local[2])
    scaled = [offset / np.float32(a) for offset, a in zip(offsets, implant.half_axes, strict=True)]
    gauge = np.sqrt(sum(s**2 for s in scaled))
    slope = np.sqrt(sum((s / np.float32(a)) ** 2 for s, a in zip(scaled, implant.half_axes, strict=True)))
    slope = slope / np.maximum(gauge, 1e-3)
    return np.asarray((gauge - 1.0) / np.maximum(slope, 0.2 / max(implant.half_axes)), dtype=np.float32)
