"""Signed distances of masses on a patch: negative inside, mm, approximate away from the surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .grid import FloatArray

Offsets = tuple[FloatArray, FloatArray, FloatArray]


def random_rotation(random: np.random.Generator) -> NDArray[np.float64]:
    """Return a uniformly random rotation, 3 x 3."""
    matrix, upper = np.linalg.qr(random.standard_normal((3, 3)))
    rotation: NDArray[np.float64] = matrix * np.sign(np.diag(upper))
    return rotation


def ellipsoid(offsets: Offsets, radius: float, random: np.random.Generator, *, elongation: float) -> FloatArray:
    """Return an ellipsoid of the volume of a sphere of `radius`; `elongation` is the longest over the shortest axis."""
    axes = np.exp(np.log(elongation) * np.array([0.5, random.uniform(-0.5, 0.5), -0.5]))
    axes *= radius / np.prod(axes) ** (1.0 / 3.0)
    rotation = random_rotation(random)
    scaled = [_project(offsets, rotation[i]) / np.float32(axes[i]) for i in range(3)]
    gauge = np.sqrt(sum(s**2 for s in scaled))
    slope = np.sqrt(sum((s / np.float32(a)) ** 2 for s, a in zip(scaled, axes, strict=True))) / np.maximum(gauge, 1e-3)
    return np.asarray((gauge - 1.0) / np.maximum(slope, 0.2 / axes.max()), dtype=np.float32)


def lobulated(offsets: Offsets, radius: float, random: np.random.Generator) -> FloatArray:
    """Return a smooth union of three to seven spheres."""
    count = int(random.integers(3, 8))
    blend = 0.12 * radius
    total: FloatArray | None = None
    for _ in range(count):
        direction = random.standard_normal(3)
        centre = direction / np.linalg.norm(direction) * radius * random.uniform(0.3, 0.6)
        size = radius * random.uniform(0.5, 0.75)
        distance = np.sqrt(sum((o - np.float32(c)) ** 2 for o, c in zip(offsets, centre, strict=True))) - size
        scaled = np.clip(-distance / blend, -60.0, 60.0)
        total = scaled if total is None else np.logaddexp(total, scaled)
    assert total is not None
    return np.asarray(-blend * total, dtype=np.float32)


def roughen(
    distance: FloatArray, offsets: Offsets, radius: float, random: np.random.Generator, *, amount: float
) -> FloatArray:
    """Return the surface displaced by up to about `amount` radii with waves of 0.35 to 1.2 radii."""
    bumps = np.zeros(np.broadcast_shapes(*(o.shape for o in offsets)), dtype=np.float32)
    waves = 18
    for _ in range(waves):
        direction = random.standard_normal(3)
        length = radius * random.uniform(0.35, 1.2)
        direction *= 2.0 * np.pi / (length * np.linalg.norm(direction))
        bumps += np.sin(_project(offsets, direction) + np.float32(random.uniform(0.0, 2.0 * np.pi)))
    return np.asarray(distance + np.float32(amount * radius * np.sqrt(2.0 / waves)) * bumps, dtype=np.float32)


def spicules(
    random: np.random.Generator, core_radius: float
) -> list[tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]]:
    """Return tapering branches as (start, end, radii) relative to the centre, mm.

    Ten to a hundred branches of 0.3 to 1.5 core radii, each of three bent pieces.
    """
    count = int(np.clip(random.lognormal(np.log(28.0), 0.6), 10, 100))
    thickest = np.clip(random.uniform(0.06, 0.14) * core_radius, 0.25, 1.5)
    branches = []
    for _ in range(count):
        direction = random.standard_normal(3)
        direction /= np.linalg.norm(direction)
        length = core_radius * random.uniform(0.3, 1.5)
        start = direction * core_radius * 0.75
        base = thickest * random.uniform(0.6, 1.2)
        reach = 0.25 * core_radius + length
        for piece in range(3):
            direction = direction + 0.25 * random.standard_normal(3)
            direction /= np.linalg.norm(direction)
            end = start + direction * reach / 3.0
            radii = (base * (1.0 - piece / 3.0) + 0.1, base * (1.0 - (piece + 1) / 3.0) + 0.1)
            branches.append((start, end, radii))
            start = end
    return branches


def _project(offsets: Offsets, direction: NDArray[np.float64]) -> FloatArray:
    x, y, z = offsets
    a, b, c = (np.float32(d) for d in direction)
    return np.asarray(a * x + b * y + c * z, dtype=np.float32)


def dumbbell(offsets: Offsets, radius: float, random: np.random.Generator) -> FloatArray:
    """Return two overlapping spheres whose volume is about that of one sphere of `radius`."""
    direction = random_rotation(random)[0]
    share = random.uniform(0.35, 0.65)
    sizes = radius * np.cbrt(1.08 * np.array([share, 1.0 - share]))
    reach = 0.75 * float(sizes.sum())
    ends = direction * reach * (1.0 - share), -direction * reach * share
    distances = [
        np.sqrt(sum((o - np.float32(c)) ** 2 for o, c in zip(offsets, end, strict=True))) - size
        for end, size in zip(ends, sizes, strict=True)
    ]
    return np.asarray(np.minimum(distances[0], distances[1]), dtype=np.float32)
