"""Tumours: where they sit, what they look like, what is labelled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .canvas import Canvas, tube_share
from .grid import FloatArray, Grid
from .lesion_shapes import Offsets, dumbbell, ellipsoid, lobulated, roughen, spicules
from .settings import SimulationSettings
from .tissues import Tissue, TissueHu

THINNEST_LABELLED = 0.5
"""mm: a careful reader does not draw spicules thinner than this."""


@dataclass(frozen=True)
class Lesion:
    """One labelled tumour.

    Parameters
    ----------
    kind : str
        ``oval``, ``lobulated``, ``irregular``, ``spiculated``, ``ring``, ``dumbbell`` or ``plaque``.
    centre : tuple of float
        World RAS+ position, mm.
    equivalent_diameter : float
        Diameter of the sphere of `volume_ml`, mm; 0 where nothing of it is in the volume.
    volume_ml : float
        Labelled volume before rounding to voxels, and before the scanner leaves out what has no image.
    contrast_hu : float
        Above the case's fibroglandular value, before the scanner.
    core_hu : float
        Of the necrotic core relative to the rest, 0 without one.
    label_voxels : int
        Voxels of the label map; 0 where slices are too thick for it, where two tumours share one piece, or where all of
        it has no image (beyond the field of view, in damaged slices).
    """

    kind: str
    centre: tuple[float, float, float]
    equivalent_diameter: float
    volume_ml: float
    contrast_hu: float
    core_hu: float
    label_voxels: int = 0


@dataclass(frozen=True)
class Site:
    """A place for a mass: world position in mm, and the radius it must keep clear."""

    centre: NDArray[np.float64]
    radius: float


@dataclass(frozen=True)
class LesionPlan:
    """The sampled numbers of one tumour, mm unless named otherwise."""

    kind: str
    diameter: float
    contrast_hu: float
    margin: float
    elongation: float
    roughness: float
    core_hu: float
    texture_hu: float
    in_gland: bool
    satellites: int
    calcified: bool


def sample_lesions(
    random: np.random.Generator, settings: SimulationSettings, *, with_contrast: bool
) -> list[LesionPlan]:
    """Draw nought to three tumours; diameters are log-normal around 12 mm."""
    if random.random() >= settings.with_lesion:
        return []
    count = int(random.choice([1, 2, 3], p=[0.6, 0.27, 0.13]))
    return [_sample_lesion(random, settings, with_contrast=with_contrast) for _ in range(count)]


def _sample_lesion(random: np.random.Generator, settings: SimulationSettings, *, with_contrast: bool) -> LesionPlan:
    low, high = settings.lesion_contrast_hu
    contrast = low + (high - low) * random.beta(1.8, 1.9)
    if with_contrast:
        contrast += random.uniform(10.0, 60.0)
    hollow = random.random() < 0.2
    kind = str(random.choice(settings.lesion_kinds))
    core_hu = -random.uniform(10.0, 50.0) if hollow or kind == "ring" else 0.0
    return LesionPlan(
        kind=kind,
        diameter=float(np.clip(random.lognormal(np.log(12.0), 0.55), *settings.lesion_diameter)),
        contrast_hu=float(contrast),
        margin=random.uniform(0.0, 0.8),
        elongation=random.uniform(1.0, 1.9),
        roughness=random.uniform(0.06, 0.2),
        core_hu=float(core_hu - (60.0 if kind == "ring" else 0.0)),
        texture_hu=random.uniform(0.0, 10.0),
        in_gland=bool(random.random() < 0.75),
        satellites=int(random.integers(1, 4)) if random.random() < 0.1 else 0,
        calcified=bool(random.random() < 0.15),
    )


def choose_site(
    grid: Grid,
    inner_depth: FloatArray,
    gland: FloatArray,
    taken: list[Site],
    random: np.random.Generator,
    *,
    radius: float,
    in_gland: bool,
) -> Site | None:
    """Return a free place in the breast, or None if there is none.

    Parameters
    ----------
    grid : Grid
        Coarse grid of the two fields.
    inner_depth : ndarray
        Depth below the skin and in front of the muscle, mm.
    gland : ndarray
        Fibroglandular share around each node.
    taken : list of Site
        Places to keep clear of.
    random : Generator
        Of the part that places the mass.
    radius : float
        Of the mass, mm.
    in_gland : bool
        Whether to prefer fibroglandular tissue.
    """
    deep_enough = inner_depth > min(0.75 * radius + 1.0, 0.6 * float(inner_depth.max()))
    edge = [max(1, int(np.ceil(0.6 * radius / s))) for s in grid.spacing]
    inside = np.zeros_like(deep_enough)
    inside[edge[0] : -edge[0], edge[1] : -edge[1], edge[2] : -edge[2]] = True
    nodes = np.argwhere(deep_enough & inside)
    if len(nodes) == 0:
        return None
    picks = nodes[random.integers(0, len(nodes), 400)]
    weight = gland[tuple(picks.T)] + 0.02 if in_gland else np.ones(len(picks))
    order = np.argsort(-weight * random.random(len(picks)), kind="stable")
    for node in picks[order]:
        jitter = random.uniform(-0.5, 0.5, 3)
        centre = np.asarray(grid.origin) + (node + jitter) * np.asarray(grid.spacing)
        if all(np.linalg.norm(centre - site.centre) > radius + site.radius + 1.5 for site in taken):
            return Site(centre, radius)
    return None


def paint_lesion(canvas: Canvas, plan: LesionPlan, site: Site, hu: TissueHu, random: np.random.Generator) -> Lesion:
    """Paint one tumour and its label; return what was painted."""
    before = float(canvas.tumour.sum(dtype=torch.float64))
    radius = plan.diameter / 2.0
    tumour_hu = hu.fibroglandular + plan.contrast_hu
    if plan.kind == "spiculated":
        _paint_spicules(canvas, site, radius, tumour_hu, random)
    slices = canvas.grid.around(site.centre, 1.9 * radius + 2.0)
    if slices is not None:
        offsets = canvas.grid.offsets(slices, site.centre)
        distance = mass_distance(plan.kind, offsets, radius, plan.elongation, plan.roughness, random)
        size = canvas.grid.voxel_size
        texture = random.standard_normal(distance.shape, dtype=np.float32) * np.float32(plan.texture_hu)
        core = np.clip(0.5 - (distance + 0.35 * radius) / (size + 0.2 * radius), 0.0, 1.0)
        value = np.float32(tumour_hu) + texture + np.float32(plan.core_hu) * core
        canvas.paint(slices, np.clip(0.5 - distance / (size + plan.margin), 0.0, 1.0), value, Tissue.TUMOUR)
        canvas.add_tumour(slices, np.clip(0.5 - distance / size, 0.0, 1.0))
    volume = (float(canvas.tumour.sum(dtype=torch.float64)) - before) * float(np.prod(canvas.grid.spacing))
    return Lesion(
        kind=plan.kind,
        centre=(float(site.centre[0]), float(site.centre[1]), float(site.centre[2])),
        equivalent_diameter=float(np.cbrt(6.0 * max(volume, 0.0) / np.pi)),
        volume_ml=volume / 1000.0,
        contrast_hu=plan.contrast_hu,
        core_hu=plan.core_hu,
    )


def mass_distance(
    kind: str, offsets: Offsets, radius: float, elongation: float, roughness: float, random: np.random.Generator
) -> FloatArray:
    """Return the signed distance of the body of a mass, mm."""
    if kind == "lobulated":
        return lobulated(offsets, radius, random)
    if kind == "dumbbell":
        return dumbbell(offsets, radius, random)
    body = ellipsoid(offsets, radius, random, elongation=3.0 if kind == "plaque" else elongation)
    if kind == "irregular":
        return roughen(body, offsets, radius, random, amount=roughness)
    if kind == "spiculated":
        return roughen(body, offsets, radius, random, amount=0.6 * roughness)
    return body


def _paint_spicules(canvas: Canvas, site: Site, radius: float, hu: float, random: np.random.Generator) -> None:
    for start, end, radii in spicules(random, radius):
        ends = site.centre + start, site.centre + end
        canvas.paint_tube(*ends, radii, hu, Tissue.TUMOUR)
        if 2.0 * max(radii) >= THINNEST_LABELLED:
            tube = tube_share(canvas.grid, *ends, radii)
            if tube is not None:
                canvas.add_tumour(*tube)
