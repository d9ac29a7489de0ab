"""Masses, and what looks like one: cysts, lymph nodes, calcifications, a biopsy clip.

Masses are lumpy (a core with Gaussian blobs on its surface, a short form of de Sisternes et al., Med. Phys. 42:1098,
2015), spiculated (the same with tapering branches) or oval with a sharp edge. Only masses are labelled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .anatomy import Phantom
from .fields import Field, Grid, Mask, Points, ellipsoid_radius, stamp_tubes, turned
from .materials import Tissue

WITHOUT_LESION = 0.25
"""Chance of a breast without a mass."""

KINDS = ("lumpy", "spiculated", "oval")
KIND_CHANCES = (0.45, 0.35, 0.20)

DIAMETERS = (5.0, 20.0)
"""mm, of the ball of the same volume; log-uniform."""

CONTRASTS = (0.015, 0.060)
"""Attenuation of a mass above that of gland: 15 to 60 HU; densities measured of masses are 2 to 8 % above gland's."""

CLEAR = 2.0
"""mm between a mass and skin, the first plane in view, or another mass."""


Inside = Callable[[list[Field]], Mask]
"""Which offsets from a mass's middle, mm, belong to it."""

Kinds = dict[str, Callable[[np.random.Generator, float], Inside]]
"""Masses of a radius in mm by their names, all as likely."""


@dataclass(frozen=True)
class Spot:
    """A place that is taken: centre and reach, mm."""

    centre: Points
    reach: float


def draw_lesions(random: np.random.Generator, phantom: Phantom, kinds: Kinds | None = None) -> dict[int, float]:
    """Draw masses and look-alikes into a phantom; what was drawn is in its record.

    Parameters
    ----------
    random : Generator
    phantom : Phantom
    kinds : Kinds, optional
        What to draw in place of lumpy, spiculated and oval masses.

    Returns
    -------
    dict
        Label of each mass to its attenuation relative to gland.
    """
    count = 0 if random.uniform() < WITHOUT_LESION else int(random.integers(1, 4))
    places = _Places(random, phantom)
    masses: list[dict[str, object]] = []
    relative: dict[int, float] = {}
    for _ in range(count):
        diameter = float(np.exp(random.uniform(*np.log(DIAMETERS))))
        spot = places.find(diameter / 2.0)
        if spot is None:
            continue
        label = Tissue.MASS + len(masses)
        kind = str(random.choice(list(kinds)) if kinds else random.choice(KINDS, p=KIND_CHANCES))
        relative[label] = 1.0 + random.uniform(*CONTRASTS)
        if kinds:
            _fill(phantom, spot.centre, 2.2 * spot.reach, kinds[kind](random, spot.reach), label)
        else:
            _draw_mass(random, phantom, spot, kind, label)
        volume = float((phantom.tissue == label).sum()) * phantom.grid.voxel**3
        masses.append(
            {
                "kind": kind,
                "centre_ras_mm": [round(float(c), 1) for c in spot.centre],
                "diameter_mm": round(float(np.cbrt(6.0 * volume / np.pi)), 1),
                "above_gland_percent": round(100.0 * (relative[label] - 1.0), 2),
            }
        )
    phantom.record["masses"] = masses
    _draw_lookalikes(random, phantom, places)
    return relative


class _Places:
    """Finds room in gland and at its border."""

    def __init__(self, random: np.random.Generator, phantom: Phantom) -> None:
        self._random = random
        self._phantom = phantom
        self._grid = phantom.grid.coarser()
        coarse = phantom.tissue[::2, ::2, ::2]
        self._soft = np.isin(coarse, (Tissue.ADIPOSE, Tissue.GLAND))
        self._room = _distance(self._soft, self._grid)
        self._from_gland = _distance(coarse != Tissue.GLAND, self._grid)
        self._taken: list[Spot] = []

    def find(self, radius: float, *, near_gland: float = 2.0) -> Spot | None:
        """Return a place for something of a radius in mm, within some mm of gland, or None."""
        reach = radius + CLEAR
        allowed = self._soft & (self._room > reach) & (self._from_gland <= near_gland)
        x, y, z = self._grid.axes()
        allowed &= (y > reach) & (y < self._phantom.shape.depth - reach)
        for spot in self._taken:
            apart = (x - spot.centre[0]) ** 2 + (y - spot.centre[1]) ** 2 + (z - spot.centre[2]) ** 2
            allowed &= apart > (reach + spot.reach) ** 2
        found = np.flatnonzero(allowed)
        if not found.size:
            return None
        index = np.unravel_index(int(found[self._random.integers(found.size)]), self._grid.shape)
        spot = Spot(self._grid.position([int(i) for i in index]), radius)
        self._taken.append(spot)
        return spot


def _distance(mask: Mask, grid: Grid) -> NDArray[np.float64]:
    values: NDArray[np.float64] = ndimage.distance_transform_edt(mask, sampling=grid.voxel)
    return values


def _draw_mass(random: np.random.Generator, phantom: Phantom, spot: Spot, kind: str, label: int) -> None:
    core = spot.reach
    if kind == "oval":
        ratios = random.uniform(0.65, 1.0, 3)
        inside = _oval(random, core * ratios / np.cbrt(ratios.prod()))
    else:
        inside = _lumpy(random, core)
    _fill(phantom, spot.centre, 1.9 * core, inside, label)
    if kind == "spiculated":
        _draw_spicules(random, phantom, spot, label)


def _fill(phantom: Phantom, centre: Points, reach: float, inside: Inside, label: int) -> None:
    """Label soft tissue of a box by a rule of the offsets from its middle."""
    box, offsets = phantom.grid.box(centre, reach)
    filled = inside(offsets) & np.isin(phantom.tissue[box], (Tissue.ADIPOSE, Tissue.GLAND))
    phantom.tissue[box][filled] = label
    phantom.share[box][filled] = 0.0


def _oval(random: np.random.Generator, semi_axes: NDArray[np.float64]) -> Inside:
    vectors = turned(random, random.standard_normal(3), 0.0)
    return lambda offsets: np.asarray(ellipsoid_radius(offsets, vectors, semi_axes.tolist()) < 1.0)


def _lumpy(random: np.random.Generator, radius: float) -> Inside:
    """A ball whose radius is changed by blobs on its surface: few large ones, many small ones, dents and bumps."""
    large, small = int(random.integers(3, 7)), int(random.integers(12, 40))
    heights = np.concatenate([random.normal(0.0, 0.35, large), random.normal(0.05, 0.15, small)])
    widths = np.concatenate([random.uniform(2.5, 7.0, large), random.uniform(10.0, 40.0, small)])
    at = random.standard_normal((large + small, 3))
    at /= np.linalg.norm(at, axis=1, keepdims=True)

    def surface(unit: Points) -> NDArray[np.float64]:
        total = np.zeros(unit.shape[:-1])
        for height, width, point in zip(heights, widths, at, strict=True):
            total += height * np.exp(width * (unit @ point - 1.0))
        return np.maximum(np.exp(total), 0.35)

    sphere = np.random.default_rng(0).standard_normal((2000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    scale = radius / float(np.cbrt(np.mean(surface(sphere) ** 3)))

    def inside(offsets: list[Field]) -> Mask:
        grid = np.stack(np.broadcast_arrays(*offsets), -1).astype(float)
        distance = np.linalg.norm(grid, axis=-1)
        return np.asarray(distance < scale * surface(grid / np.maximum(distance, 1e-6)[..., None]))

    return inside


def _draw_spicules(random: np.random.Generator, phantom: Phantom, spot: Spot, label: int) -> None:
    """Tapering branches; where one fills half a voxel or more, the voxel is part of the mass."""
    points: list[Points] = []
    radii: list[float] = []
    for _ in range(int(random.integers(20, 60))):
        direction = random.standard_normal(3)
        direction /= np.linalg.norm(direction)
        aim = direction + 0.15 * random.standard_normal(3)
        length = spot.reach * random.uniform(0.4, 1.3)
        thick = min(0.9, spot.reach * random.uniform(0.06, 0.14))
        at = spot.centre + 0.7 * spot.reach * direction
        steps = max(4, int((0.3 * spot.reach + length) / 0.3))
        for step in range(steps):
            direction = direction + 0.04 * random.standard_normal(3) + 0.02 * aim
            direction /= np.linalg.norm(direction)
            at = at + 0.3 * direction
            points.append(at)
            radii.append(max(0.12, thick * (1.0 - 0.9 * step / steps)))
    flat, share = stamp_tubes(phantom.grid, np.array(points), np.array(radii))
    soft = np.isin(phantom.tissue.reshape(-1)[flat], (Tissue.ADIPOSE, Tissue.GLAND))
    flat, share = flat[soft], share[soft]
    phantom.tissue.reshape(-1)[flat[share >= 0.5]] = label
    phantom.share.reshape(-1)[flat[share >= 0.5]] = 0.0
    phantom.draw_thin(flat[share < 0.5], share[share < 0.5], label)


def _draw_lookalikes(random: np.random.Generator, phantom: Phantom, places: _Places) -> None:
    """Cysts, lymph nodes with a fatty hilum, clusters of calcifications and, in a few, a clip."""
    counts = {
        "cysts": int(random.integers(1, 4)) if random.uniform() < 0.4 else 0,
        "nodes": int(random.uniform() < 0.25),
        "calcification_clusters": int(random.integers(1, 3)) if random.uniform() < 0.35 else 0,
        "clips": int(random.uniform() < 0.1),
    }
    for _ in range(counts["cysts"]):
        if spot := places.find(random.uniform(2.5, 7.0)):
            semi = spot.reach * random.uniform(0.8, 1.1, 3)
            _fill(phantom, spot.centre, 1.2 * spot.reach, _oval(random, semi), Tissue.CYST)
    for _ in range(counts["nodes"]):
        if spot := places.find(random.uniform(3.0, 5.5), near_gland=25.0):
            semi = spot.reach * np.array([1.0, 0.7, 0.6])
            _fill(phantom, spot.centre, 1.2 * spot.reach, _oval(random, semi), Tissue.NODE)
            box, offsets = phantom.grid.box(spot.centre, spot.reach)
            hilum = ellipsoid_radius(offsets, np.eye(3), (0.4 * semi[0], 0.4 * semi[1], 0.6 * semi[2])) < 1.0
            phantom.tissue[box][hilum & (phantom.tissue[box] == Tissue.NODE)] = Tissue.ADIPOSE
    for _ in range(counts["calcification_clusters"]):
        if spot := places.find(random.uniform(2.0, 5.0)):
            number = int(random.integers(5, 20))
            specks = spot.centre + spot.reach * 0.6 * random.standard_normal((number, 3))
            _draw_specks(phantom, specks, random.uniform(0.1, 0.28, number), Tissue.CALCIFICATION)
    for _ in range(counts["clips"]):
        if spot := places.find(1.5, near_gland=8.0):
            along = np.linspace(-1.2, 1.2, 9)[:, None] * turned(random, random.standard_normal(3), 0.0)[0]
            _draw_specks(phantom, spot.centre + along, np.full(9, 0.3), Tissue.CLIP)
    phantom.record.update(counts)


def _draw_specks(phantom: Phantom, points: Points, radii: NDArray[np.float64], tissue: Tissue) -> None:
    flat, share = stamp_tubes(phantom.grid, points, radii)
    soft = (phantom.tissue.reshape(-1)[flat] != Tissue.AIR) & (phantom.tissue.reshape(-1)[flat] != Tissue.SKIN)
    phantom.draw_thin(flat[soft], share[soft], tissue)
