"""A second kind of breast: clumps of gland as level sets of noise, sheets of ligament, masses of ellipsoids and cones.

Nothing of it follows the compartments, lobules and lumpy masses of `anatomy.py` and `lesions.py`, so that a model which
has seen those is still asked about tissue of another kind: a blunt outline, clustered noise over five octaves in the
way of Gong et al., Med. Phys. 33:1057 (2006) (binary, with a glandular share that falls off towards skin and chest
wall), ligaments where a second noise passes through 0.
"""

from __future__ import annotations

import numpy as np

from .anatomy import Phantom, Shape, assemble
from .fields import Field, Mask, Points, ellipsoid_radius, finer, smooth_noise, turned
from .lesions import Inside
from .materials import Tissue

SHEET = 0.35
"""mm: thickness of a ligament."""


def make_clumped_breast(random: np.random.Generator, voxel: float, *, scale: float = 1.0) -> Phantom:
    """Draw a breast without lesions; as `make_breast`, of the second kind."""

    def draw_inside(phantom: Phantom, target: float, inside: Mask) -> None:
        _draw_gland(random, phantom, target, inside)
        _draw_sheets(random, phantom)

    return assemble(random, _sample_shape(random, scale), voxel, draw_inside)


def _sample_shape(random: np.random.Generator, scale: float) -> Shape:
    radius = scale * random.uniform(40.0, 65.0)
    flat = random.uniform(0.85, 1.15)
    return Shape(
        half_widths=(radius, radius, radius * flat, radius * flat),
        depth=scale * float(np.clip(radius / scale * random.uniform(0.8, 1.5), 45.0, 90.0)),
        exponents=(random.uniform(0.6, 0.85), 1.0),
        bend=(0.0, -radius * random.uniform(0.0, 0.1)),
        flat_top=0.0,
        skin=random.uniform(1.0, 2.0),
        nipple_radius=random.uniform(3.0, 5.0),
        nipple_length=random.uniform(2.0, 6.0),
    )


def _draw_gland(random: np.random.Generator, phantom: Phantom, target: float, inside: Mask) -> None:
    """Label the voxels where noise and nearness to the middle are highest, a share of the volume."""
    shape, grid = phantom.shape, phantom.grid.coarser()
    x, y, z = grid.axes()
    forward = np.clip(y / shape.depth, 0.0, 1.0)
    width = float(np.mean(shape.half_widths)) * (1.0 - 0.6 * forward)
    away = np.sqrt((x - shape.bend[0] * forward) ** 2 + (z - shape.bend[1] * forward) ** 2) / width
    middle = -random.uniform(1.5, 3.5) * away**2 - random.uniform(0.5, 3.0) * np.clip(1.0 - y / 20.0, 0.0, 1.0)
    level = finer((middle + smooth_noise(random, grid, random.uniform(16.0, 40.0), 5)).astype(np.float32))
    free = inside & (phantom.depth > shape.skin + random.uniform(0.5, 3.0))
    wanted = min(0.98, target * inside.sum() / free.sum())
    phantom.tissue[free & (level > np.quantile(level[free], 1.0 - wanted))] = Tissue.GLAND


def _draw_sheets(random: np.random.Generator, phantom: Phantom) -> None:
    """Draw ligaments through the fat where noise passes through 0."""
    noise = finer(smooth_noise(random, phantom.grid.coarser(), random.uniform(25.0, 45.0), 3))
    steepness = np.sqrt(sum(np.square(part) for part in np.gradient(noise, phantom.grid.voxel)))
    near = np.abs(noise) / np.maximum(steepness, 1e-3)
    flat = np.flatnonzero((near < 0.5 * phantom.grid.voxel) & (phantom.tissue == Tissue.ADIPOSE))
    share = np.full(flat.size, min(1.0, SHEET / phantom.grid.voxel), np.float32)
    phantom.draw_thin(flat, share, Tissue.LIGAMENT)


def ellipsoids(random: np.random.Generator, radius: float) -> Inside:
    """Two to five overlapping ellipsoids; a lobulated mass."""
    number = int(random.integers(2, 6))
    size = radius / number ** (1 / 4)
    parts = []
    for _ in range(number):
        semi = size * random.uniform(0.7, 1.2, 3)
        parts.append((0.7 * size * random.standard_normal(3), turned(random, random.standard_normal(3), 0.0), semi))
    return lambda offsets: np.any(
        [ellipsoid_radius(_moved(offsets, c), v, s.tolist()) < 1.0 for c, v, s in parts], axis=0
    )


def star(random: np.random.Generator, radius: float) -> Inside:
    """A ball with straight cones; a stellate mass, all of which is labelled."""
    core = 0.85 * radius
    tips = random.standard_normal((int(random.integers(6, 16)), 3))
    tips *= (core * random.uniform(1.3, 2.0, (len(tips), 1))) / np.linalg.norm(tips, axis=1, keepdims=True)
    wide = core * random.uniform(0.15, 0.35, len(tips))

    def inside(offsets: list[Field]) -> Mask:
        filled = sum(np.square(o) for o in offsets) < core**2
        for tip, base in zip(tips, wide, strict=True):
            length = float(np.linalg.norm(tip))
            along = sum(o * np.float32(t / length) for o, t in zip(offsets, tip, strict=True))
            across = np.sqrt(np.maximum(sum(np.square(o) for o in offsets) - np.square(along), 0.0))
            filled = filled | ((along > 0.0) & (across < base * (1.0 - along / length)))
        return np.asarray(filled)

    return inside


def _moved(offsets: list[Field], centre: Points) -> list[Field]:
    return [o - np.float32(c) for o, c in zip(offsets, centre, strict=True)]
