"""An uncompressed, hanging breast as voxels of homogeneous tissue, in the way of the phantoms of the VICTRE trial.

After Graff, Proc. SPIE 9783:978309 (2016): a superquadric outline that is bent and flattened, glandular compartments
as cells of weighted distances to seeds around the nipple's axis, fat lobules as ellipsoids with perturbed boundaries
carved out of them, Cooper's ligaments as the shells of further ellipsoids in the fat, trees of ducts and vessels.
Written anew, on voxels of half a millimetre; what is thinner fills a share of its voxels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .fields import Field, Grid, Mask, Points, ellipsoid_radius, finer, smooth_noise, stamp_tubes, turned
from .materials import Tissue

DENSITIES = {"a": (0.03, 0.08), "b": (0.08, 0.18), "c": (0.18, 0.35), "d": (0.35, 0.55)}
"""Glandular share of the volume within the skin by BI-RADS density class."""

DENSITY_CHANCES = (0.15, 0.35, 0.35, 0.15)

BEHIND = 6.0
"""mm of the breast that hang behind the first plane in view."""

BESIDE = 5.0
"""mm of air around the breast."""

MOST_LOBULES = 700
"""Trials of fat lobules, and of shells of ligament."""

WALL_BETWEEN_LOBULES = 0.7
"""mm of gland that stay between two fat lobules."""


@dataclass(frozen=True)
class Shape:
    """Outline of the breast; lengths in mm.

    Parameters
    ----------
    half_widths : tuple of float
        To the right, left, foot and head at the chest wall.
    depth : float
        Chest wall to nipple, without it.
    exponents : tuple of float
        Of the superquadric: along the nipple's axis, across it.
    bend : tuple of float
        Shift of the tip along x and z.
    flat_top : float
        Share by which the upper half is lowered halfway to the tip.
    skin, nipple_radius, nipple_length : float
    """

    half_widths: tuple[float, float, float, float]
    depth: float
    exponents: tuple[float, float]
    bend: tuple[float, float]
    flat_top: float
    skin: float
    nipple_radius: float
    nipple_length: float

    @property
    def tip(self) -> Points:
        """Where the nipple sits."""
        return np.array([self.bend[0], self.depth, self.bend[1]])


@dataclass
class Phantom:
    """Labels of `Tissue`, and thin structures that fill a share of their voxels.

    Parameters
    ----------
    grid : Grid
    tissue : ndarray of uint8
        Labels; masses count from ``Tissue.MASS``.
    thin, share : ndarray
        A second label in a voxel and how much of it that fills.
    depth : ndarray of float32
        mm below the skin's surface, exact near it.
    shape : Shape
    record : dict
        What was drawn; JSON values.
    """

    grid: Grid
    tissue: NDArray[np.uint8]
    thin: NDArray[np.uint8]
    share: Field
    depth: Field
    shape: Shape
    record: dict[str, object] = field(default_factory=dict)

    def draw_thin(self, flat: NDArray[np.int64], share: Field, tissue: int) -> None:
        """Let a tissue fill a share of some voxels, where none fills more already."""
        chosen = share > self.share.reshape(-1)[flat]
        self.share.reshape(-1)[flat[chosen]] = share[chosen]
        self.thin.reshape(-1)[flat[chosen]] = tissue


def make_breast(random: np.random.Generator, voxel: float, *, scale: float = 1.0) -> Phantom:
    """Draw a breast without lesions.

    Parameters
    ----------
    random : Generator
    voxel : float
        mm.
    scale : float
        Smaller breasts for tests.
    """

    def draw_inside(phantom: Phantom, target: float, inside: Mask) -> None:
        _draw_gland(random, phantom, target, inside)
        _draw_ligaments(random, phantom)
        _draw_ducts(random, phantom)

    return assemble(random, _sample_shape(random, scale), voxel, draw_inside)


def assemble(
    random: np.random.Generator, shape: Shape, voxel: float, draw_inside: Callable[[Phantom, float, Mask], None]
) -> Phantom:
    """Draw a breast of an outline: skin, what a kind of breast has inside, vessels and muscle.

    Parameters
    ----------
    random : Generator
    shape : Shape
    voxel : float
        mm.
    draw_inside : callable
        Takes the phantom of fat, the glandular share of its volume that is wanted, and where that volume is.
    """
    grid = _grid_around(shape, voxel)
    phantom = Phantom(grid, *_empty(grid), finer(_depth(random, shape, grid.coarser())), shape)
    name = str(random.choice(list(DENSITIES), p=DENSITY_CHANCES))
    target = random.uniform(*DENSITIES[name])
    _draw_skin(phantom)
    inside = phantom.tissue == Tissue.ADIPOSE
    draw_inside(phantom, target, inside)
    _draw_vessels(random, phantom)
    _draw_muscle(random, phantom)
    glandular = float((phantom.tissue[inside] == Tissue.GLAND).mean())
    phantom.record.update(
        density_class=name, glandular_share=round(glandular, 3), depth_mm=round(phantom.shape.depth, 1)
    )
    return phantom


def _sample_shape(random: np.random.Generator, scale: float) -> Shape:
    radius = scale * random.uniform(40.0, 62.0)
    right, left, foot, head = (radius * random.uniform(0.9, 1.1) for _ in range(4))
    return Shape(
        half_widths=(right, left, foot, head),
        depth=scale * float(np.clip(radius / scale * random.uniform(0.95, 1.7), 50.0, 95.0)),
        exponents=(random.uniform(0.9, 1.25), random.uniform(0.88, 1.05)),
        bend=(radius * random.uniform(-0.18, 0.18), -radius * random.uniform(0.0, 0.25)),
        flat_top=random.uniform(0.0, 0.15),
        skin=random.uniform(1.1, 2.1),
        nipple_radius=random.uniform(3.5, 6.0),
        nipple_length=random.uniform(3.0, 8.0),
    )


def _grid_around(shape: Shape, voxel: float) -> Grid:
    right, left, foot, head = (1.15 * width for width in shape.half_widths)
    low = (-left + min(0.0, shape.bend[0]) - BESIDE, -BEHIND, -foot + min(0.0, shape.bend[1]) - BESIDE)
    high = (right + max(0.0, shape.bend[0]) + BESIDE, shape.depth + shape.nipple_length + BESIDE, head + BESIDE)
    x, y, z = (2 * int(np.ceil((h - o) / voxel / 2.0)) for o, h in zip(low, high, strict=True))
    return Grid((x, y, z), low, voxel)


def _empty(grid: Grid) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Field]:
    labels = np.zeros(grid.shape, np.uint8)
    return labels, labels.copy(), np.zeros(grid.shape, np.float32)


def _depth(random: np.random.Generator, shape: Shape, grid: Grid) -> Field:
    """Distance from the surface, positive inside: the superquadric's level over its gradient."""
    x, y, z = grid.axes()
    forward = np.maximum(y, 0.0) / shape.depth
    x = x - shape.bend[0] * forward**2
    z = z - shape.bend[1] * forward**1.5
    wider = 1.0 + 0.12 * np.exp(-np.maximum(y, 0.0) / 12.0)  # towards the chest wall
    right, left, foot, head = shape.half_widths
    lowered = 1.0 - shape.flat_top * np.sin(np.pi * np.clip(forward, 0.0, 1.0))
    u = np.abs(x) / (np.where(x > 0.0, right, left) * wider)
    w = np.abs(z) / (np.where(z > 0.0, head * lowered, foot) * wider)
    first, second = shape.exponents
    across = (u ** (2.0 / second) + w ** (2.0 / second)) ** (second / first)
    level = (across + forward ** (2.0 / first)) ** (first / 2.0)
    level = level + 0.015 * smooth_noise(random, grid, 50.0, 2)
    slope = np.sqrt(sum(np.square(part) for part in np.gradient(level, grid.voxel)))
    return np.asarray((1.0 - level) / np.maximum(slope, 0.3 / shape.depth), np.float32)


def _draw_skin(phantom: Phantom) -> None:
    """Label skin, nipple and the fat within."""
    shape, tissue = phantom.shape, phantom.tissue
    tissue[phantom.depth > 0.0] = Tissue.SKIN
    x, y, z = phantom.grid.axes()
    off_axis = np.sqrt((x - shape.tip[0]) ** 2 + (z - shape.tip[2]) ** 2)
    areola = 1.0 + 0.8 * np.exp(-((off_axis / (2.2 * shape.nipple_radius)) ** 4)) * (y > 0.5 * shape.depth)
    tissue[phantom.depth > shape.skin * areola] = Tissue.ADIPOSE
    rounded = (off_axis / shape.nipple_radius) ** 4 + (np.abs(y - shape.depth) / shape.nipple_length) ** 4 < 1.0
    tissue[rounded] = Tissue.SKIN


def _draw_gland(random: np.random.Generator, phantom: Phantom, target: float, inside: Mask) -> None:
    """Label compartments of gland, then carve fat out of them until a share of the volume is left."""
    envelope = min(0.85, target * random.uniform(1.5, 2.2))
    field_ = finer(_compartments(random, phantom))
    free = inside & (phantom.depth > phantom.shape.skin + 1.0)
    level = np.quantile(field_[free], 1.0 - min(0.98, envelope * inside.sum() / free.sum()))
    gland = free & (field_ > level)
    phantom.record["gland_envelope"] = round(envelope, 3)
    _carve_lobules(random, phantom, gland, int(target * inside.sum()))
    phantom.tissue[gland] = Tissue.GLAND


def _compartments(random: np.random.Generator, phantom: Phantom) -> Field:
    """How much nearer a voxel is to the seed of a glandular compartment than to fat, without a unit."""
    shape, grid = phantom.shape, phantom.grid.coarser()
    width = float(np.mean(shape.half_widths))
    count = int(random.integers(7, 14))
    start = random.uniform(0, 2 * np.pi)
    offset = width * random.uniform(-0.15, 0.25, 2) * (1.0, 1.0)
    nearest = np.full(grid.shape, np.inf, np.float32)
    second = nearest.copy()
    x, y, z = grid.axes()
    for number in range(count):
        angle = start + 2 * np.pi * (number + random.uniform(-0.3, 0.3)) / count
        out = width * random.uniform(0.1, 0.5)
        along = shape.depth * random.uniform(0.3, 0.65)
        seed = np.array([offset[0] + out * np.cos(angle), along, offset[1] + out * np.sin(angle)])
        vectors = turned(random, shape.tip - seed, 0.08)
        semi = (shape.depth * random.uniform(0.4, 0.6), *(width * random.uniform(0.2, 0.36, 2)))
        distance = ellipsoid_radius([x - seed[0], y - seed[1], z - seed[2]], vectors, semi)
        second = np.minimum(second, np.maximum(distance, nearest))
        nearest = np.minimum(nearest, distance)
    behind_skin = np.clip(phantom.depth[::2, ::2, ::2] / random.uniform(8.0, 16.0), 0.0, 1.0)
    before_wall = np.clip(y / random.uniform(10.0, 25.0), 0.0, 1.0)
    field_ = -nearest + 0.5 * behind_skin + 0.35 * before_wall + 0.13 * smooth_noise(random, grid, 22.0, 4)
    gaps = (second - nearest) < random.uniform(0.02, 0.06) * (1.0 + 0.5 * smooth_noise(random, grid, 12.0, 2))
    return np.where(gaps, field_ - 0.6, field_).astype(np.float32)


def _carve_lobules(random: np.random.Generator, phantom: Phantom, gland: Mask, wanted: int) -> None:
    """Remove ellipsoids with perturbed boundaries from the gland until a number of voxels is left."""
    grid = phantom.grid
    ripple = finer(smooth_noise(random, grid.coarser(), 10.0, 3)) * np.float32(0.11)
    kept = np.zeros(grid.shape, bool)
    candidates = np.flatnonzero(gland)
    left = candidates.size
    for _ in range(MOST_LOBULES):
        if left <= wanted or not candidates.size:
            break
        index = np.unravel_index(int(candidates[random.integers(candidates.size)]), grid.shape)
        if not gland[index] or kept[index]:
            continue
        centre = grid.position([int(i) for i in index])
        longest = random.uniform(4.0, 13.0)
        semi = (longest, *(longest * random.uniform(0.25, 0.75, 2)))
        box, offsets = grid.box(centre, 1.3 * longest)
        radius = ellipsoid_radius(offsets, turned(random, phantom.shape.tip - centre, 0.45), semi) + ripple[box]
        carved = (radius < 1.0) & gland[box] & ~kept[box]
        left -= int(carved.sum())
        gland[box] &= ~carved
        kept[box] |= (radius >= 1.0) & (radius < 1.0 + WALL_BETWEEN_LOBULES / semi[1])


def _draw_ligaments(random: np.random.Generator, phantom: Phantom) -> None:
    """Draw thin shells of ellipsoids in the fat; a shell ends where an earlier lobule is."""
    grid = phantom.grid
    ripple = finer(smooth_noise(random, grid.coarser(), 14.0, 2)) * np.float32(0.07)
    fat = phantom.tissue == Tissue.ADIPOSE
    claimed = np.zeros(grid.shape, bool)
    candidates = np.flatnonzero(fat)
    strength = random.uniform(0.3, 0.7)
    for _ in range(MOST_LOBULES):
        index = np.unravel_index(int(candidates[random.integers(candidates.size)]), grid.shape)
        if claimed[index]:
            continue
        centre = grid.position([int(i) for i in index])
        longest = random.uniform(8.0, 14.0)
        semi = (longest, *(longest * random.uniform(0.3, 0.65, 2)))
        box, offsets = grid.box(centre, 1.2 * longest)
        radius = ellipsoid_radius(offsets, turned(random, phantom.shape.tip - centre, 0.3), semi) + ripple[box]
        shell = np.abs(radius - 1.0) * semi[1] < 0.55 * grid.voxel
        drawn = shell & fat[box] & ~claimed[box]
        share = phantom.share[box]
        share[drawn] = strength * random.uniform(0.5, 1.0)
        phantom.thin[box][drawn] = Tissue.LIGAMENT
        claimed[box] |= radius < 1.0


def _draw_ducts(random: np.random.Generator, phantom: Phantom) -> None:
    """Trees from the nipple into the gland, with small lobules at their ends."""
    shape = phantom.shape
    points: list[Points] = []
    radii: list[float] = []
    for _ in range(int(random.integers(6, 14))):
        spread = random.uniform(-0.5, 0.5, 2) * shape.half_widths[0]
        towards = np.array([spread[0], 0.35 * shape.depth, spread[1]]) - shape.tip
        start = shape.tip + random.uniform(-2.0, 2.0, 3) * (1.0, 0.0, 1.0)
        _grow(random, (points, radii), start, towards, random.uniform(0.5, 1.0), 0.32 * shape.depth, 6)
    flat, share = stamp_tubes(phantom.grid, np.array(points), np.array(radii))
    tissue = phantom.tissue.reshape(-1)[flat]
    inside = (tissue == Tissue.GLAND) | ((tissue == Tissue.ADIPOSE) & (share > 0.25))
    phantom.draw_thin(flat[inside], share[inside], Tissue.DUCT)


def _draw_vessels(random: np.random.Generator, phantom: Phantom) -> None:
    """Trees from the chest wall, some of them under the skin."""
    shape = phantom.shape
    points: list[Points] = []
    radii: list[float] = []
    for number in range(int(random.integers(4, 9))):
        angle = random.uniform(0.0, 2.0 * np.pi)
        away = (0.85 if number % 2 else random.uniform(0.3, 0.7)) * np.array([np.cos(angle), np.sin(angle)])
        start = np.array([away[0] * shape.half_widths[0], -BEHIND, away[1] * shape.half_widths[2]])
        towards = shape.tip + random.uniform(-12.0, 12.0, 3) - start
        _grow(random, (points, radii), start, towards, random.uniform(0.5, 1.3), 0.45 * shape.depth, 4)
    flat, share = stamp_tubes(phantom.grid, np.array(points), np.array(radii))
    inside = np.isin(phantom.tissue.reshape(-1)[flat], (Tissue.ADIPOSE, Tissue.GLAND))
    phantom.draw_thin(flat[inside], share[inside], Tissue.VESSEL)


def _grow(
    random: np.random.Generator,
    drawn: tuple[list[Points], list[float]],
    start: Points,
    towards: Points,
    radius: float,
    length: float,
    generations: int,
) -> None:
    """Add a crooked branch and its children to the points and radii of a tree."""
    direction = towards / np.linalg.norm(towards)
    aim = direction.copy()
    at = start.astype(float)
    step = 0.35
    for _ in range(max(4, int(length / step))):
        direction = direction + 0.05 * random.standard_normal(3) + 0.03 * aim
        direction /= np.linalg.norm(direction)
        at = at + step * direction
        drawn[0].append(at)
        drawn[1].append(radius)
    if generations == 0:
        return
    for _ in range(2):
        turn = turned(random, direction, 0.0)
        child = direction + random.uniform(0.25, 0.8) * turn[1]
        _grow(
            random,
            drawn,
            at,
            child,
            radius * random.uniform(0.65, 0.95),
            length * random.uniform(0.5, 0.75),
            generations - 1,
        )


def _draw_muscle(random: np.random.Generator, phantom: Phantom) -> None:
    """Pectoral muscle in one corner behind the breast, in a third of them."""
    if random.uniform() > 0.35:
        return
    x, y, z = phantom.grid.axes()
    slope = random.uniform(-0.25, 0.25, 2)
    edge = random.uniform(2.0, 9.0) + slope[0] * x + slope[1] * z
    muscle = (y < edge) & np.isin(phantom.tissue, (Tissue.ADIPOSE, Tissue.GLAND)) & (phantom.depth > 5.0)
    phantom.tissue[muscle] = Tissue.MUSCLE
    phantom.share[muscle] = 0.0
    phantom.record["muscle"] = True
