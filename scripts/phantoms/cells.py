"""A third kind of breast: cells of fat with gland in and between them, masses with wavy surfaces.

Space is divided into the cells of points, longer towards the nipple than across (Voronoi); some of them are gland, the
rest are fat whose walls are ligament or, near gland, gland. It is there to make choices by that concern tissue which
no training shows: the second kind stays one by which nothing is chosen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .anatomy import Phantom, Shape, assemble
from .fields import Field, Grid, Mask, Points, finer, smooth_noise
from .lesions import Inside
from .materials import Tissue

WALL = 0.4
"""mm: thickness of a wall between two cells of fat."""


def make_celled_breast(random: np.random.Generator, voxel: float, *, scale: float = 1.0) -> Phantom:
    """Draw a breast without lesions; as `make_breast`, of the third kind."""

    def draw_inside(phantom: Phantom, target: float, inside: Mask) -> None:
        _draw_cells(random, phantom, target, inside)

    return assemble(random, _sample_shape(random, scale), voxel, draw_inside)


def _sample_shape(random: np.random.Generator, scale: float) -> Shape:
    right, left, foot, head = (scale * random.uniform(38.0, 64.0) * random.uniform(0.95, 1.05) for _ in range(4))
    middle = (right + left + foot + head) / 4.0
    return Shape(
        half_widths=(right, left, foot, head),
        depth=float(np.clip(middle * random.uniform(0.9, 1.5), 45.0 * scale, 90.0 * scale)),
        exponents=(random.uniform(0.8, 1.1), random.uniform(0.9, 1.0)),
        bend=(middle * random.uniform(-0.2, 0.2), -middle * random.uniform(0.0, 0.2)),
        flat_top=random.uniform(0.0, 0.2),
        skin=random.uniform(1.0, 2.2),
        nipple_radius=random.uniform(3.0, 6.0),
        nipple_length=random.uniform(3.0, 7.0),
    )


def _draw_cells(random: np.random.Generator, phantom: Phantom, target: float, inside: Mask) -> None:
    grid, shape = phantom.grid.coarser(), phantom.shape
    first, beyond, own, points = _cells(random, grid)
    x, y, z = grid.axes()
    forward = np.clip(y / shape.depth, 0.0, 1.0)
    away = np.sqrt(x**2 + z**2) / (np.mean(shape.half_widths) * (1.0 - 0.5 * forward))
    wish = smooth_noise(random, grid, random.uniform(20.0, 50.0), 2) - random.uniform(1.0, 3.0) * away**2
    rest = inside[::2, ::2, ::2]
    count = np.bincount(own.ravel(), minlength=len(points))
    total = np.bincount(own.ravel(), wish.ravel(), minlength=len(points))
    by_cell = total / np.maximum(count, 1) + 0.5 * random.standard_normal(len(points))
    # Near the walls of cells the level is higher: strands of gland run between cells of fat.
    strands = random.uniform(0.3, 1.5) * np.exp(-(((beyond - first) / random.uniform(0.8, 2.0)) ** 2))
    level = (by_cell[own] + strands + 0.2 * smooth_noise(random, grid, 6.0, 2)).astype(np.float32)
    fine = finer(level)
    free = inside & (phantom.depth > shape.skin + random.uniform(0.5, 4.0))
    wanted = min(0.98, target * rest.sum() / max(1, free[::2, ::2, ::2].sum()))
    phantom.tissue[free & (fine > np.quantile(level[free[::2, ::2, ::2]], 1.0 - wanted))] = Tissue.GLAND
    gap = finer((beyond - first).astype(np.float32))
    flat = np.flatnonzero((gap < 0.6 * phantom.grid.voxel) & (phantom.tissue == Tissue.ADIPOSE))
    share = np.full(flat.size, min(1.0, WALL / phantom.grid.voxel), np.float32)
    phantom.draw_thin(flat, share, Tissue.LIGAMENT)


def _cells(random: np.random.Generator, grid: Grid) -> tuple[Field, Field, NDArray[np.int64], Points]:
    """Distances to the nearest and the second nearest point, which one is nearest, and the points."""
    x, y, z = np.broadcast_arrays(*grid.axes())
    stretch = np.array([1.0, random.uniform(0.45, 0.9), 1.0])
    places = np.stack([x, y, z], -1).reshape(-1, 3) * stretch
    bend = [smooth_noise(random, grid, 12.0, 2).ravel() for _ in range(3)]
    places = places + 1.2 * np.stack(bend, -1)
    low, high = places.min(0), places.max(0)
    size = random.uniform(6.0, 13.0)
    points = random.uniform(low, high, (max(8, int(np.prod(high - low) / size**3)), 3))
    distance, index = cKDTree(points).query(places, k=2)
    first, beyond = (distance[:, k].reshape(grid.shape).astype(np.float32) for k in (0, 1))
    return first, beyond, index[:, 0].reshape(grid.shape), points


def wavy(random: np.random.Generator, radius: float) -> Inside:
    """A ball with waves over its surface, stretched; a mass with an indistinct or lobulated margin."""
    number = int(random.integers(3, 9))
    waves = random.standard_normal((number, 3)) * random.uniform(1.0, 6.0, (number, 1))
    heights, phases = random.uniform(0.03, 0.2, number), random.uniform(0.0, 2.0 * np.pi, number)
    semi = random.uniform(0.75, 1.25, 3)
    semi /= np.cbrt(np.prod(semi))

    def inside(offsets: list[Field]) -> Mask:
        grid = np.stack(np.broadcast_arrays(*offsets), -1).astype(float) / (radius * semi)
        distance = np.linalg.norm(grid, axis=-1)
        unit = grid / np.maximum(distance, 1e-6)[..., None]
        surface = 1.0 + sum(h * np.sin(unit @ w + p) for h, w, p in zip(heights, waves, phases, strict=True))
        return np.asarray(distance < surface)

    return inside


def burst(random: np.random.Generator, radius: float) -> Inside:
    """A ball with ridges that run out into points; a mass with an irregular margin."""
    number = int(random.integers(8, 24))
    at = random.standard_normal((number, 3))
    at /= np.linalg.norm(at, axis=1, keepdims=True)
    heights, widths = random.uniform(0.2, 0.9, number), random.uniform(20.0, 80.0, number)

    def inside(offsets: list[Field]) -> Mask:
        grid = np.stack(np.broadcast_arrays(*offsets), -1).astype(float) / (0.85 * radius)
        distance = np.linalg.norm(grid, axis=-1)
        unit = grid / np.maximum(distance, 1e-6)[..., None]
        surface = 1.0 + sum(h * np.exp(w * (unit @ a - 1.0)) for h, w, a in zip(heights, widths, at, strict=True))
        return np.asarray(distance < surface)

    return inside
