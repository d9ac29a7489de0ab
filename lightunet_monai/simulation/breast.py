"""The outer shape of a breast: surface, skin, nipple and chest wall.

Local axes: u to the patient's right, v from the chest wall to the nipple, w to the head; the origin is where the
breast's axis meets the chest wall. The shape is a half super-ellipsoid over the thorax; everything smooth is
computed on nodes 2 mm apart and interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .grid import FloatArray, Grid
from .random_fields import smooth_field
from .settings import SimulationSettings

COARSE_STEP = 2.0
"""mm between the nodes of smooth fields: below the smallest radius of curvature of the skin."""

FAR = 60.0
"""mm: signed distances are cut at this value, nothing needs them beyond."""


FOLD_WIDTH = 5.0
"""mm: half width of a skin fold, wide enough for the coarse nodes."""


@dataclass(frozen=True)
class BreastShape:
    """The sampled numbers of one breast, mm unless named otherwise."""

    family: str
    side: str
    half_width: float
    half_height: float
    length: float
    plane_power: float
    depth_power: float
    teardrop: float
    bend: float
    droop: float
    roughness: float
    roughness_length: float
    skin: float
    skin_variation: float
    nipple_radius: float
    nipple_protrusion: float
    areola_radius: float
    thorax_radius: float
    thorax_blend: float
    wall_in_view: bool
    behind_wall: float
    muscle_depth: float
    muscle_tilt: float
    fold_depth: float
    fold_place: float
    midline: float
    thorax_depth: float
    rotation_degrees: tuple[float, float, float]


@dataclass(frozen=True)
class BreastFields:
    """Smooth fields on coarse nodes, float32 of the coarse grid's shape, mm; inside is negative."""

    grid: Grid
    surface: FloatArray
    skin_thickness: FloatArray
    muscle: FloatArray
    local: tuple[FloatArray, FloatArray, FloatArray]


def sample_breast_shape(random: np.random.Generator, settings: SimulationSettings) -> BreastShape:
    """Draw one breast; ranges of simulator literature (chest-wall diameter 90-170, length 50-160 mm)."""
    family = str(random.choice(settings.families, p=settings.family_weights))
    chest = family == "chest"
    pendant = family == "pendant"
    half_width = random.uniform(45.0, 85.0)
    length = random.uniform(50.0, 160.0) if pendant else random.uniform(28.0, 70.0)
    # Long and narrow breasts exist, but not needles.
    length = min(length, 2.4 * half_width)
    return BreastShape(
        family=family,
        side=str(random.choice(["left", "right"])),
        half_width=half_width,
        half_height=half_width * random.uniform(0.75, 1.2),
        length=length,
        plane_power=random.uniform(1.9, 2.9),
        depth_power=random.uniform(1.8, 3.2) if pendant else random.uniform(1.6, 2.4),
        teardrop=random.uniform(-0.3, 0.5) if pendant else random.uniform(-0.2, 0.1),
        bend=random.normal(0.0, 0.08) * length if pendant else random.uniform(0.0, 0.5) * length,
        droop=random.normal(0.0, 0.08) * length if pendant else random.uniform(-0.3, 0.5) * length,
        roughness=random.uniform(0.5, 3.0),
        roughness_length=random.uniform(25.0, 60.0),
        skin=float(np.clip(random.normal(1.45, 0.3), 1.0, 2.5)),
        skin_variation=random.uniform(0.0, 0.25),
        nipple_radius=random.uniform(4.0, 7.0),
        nipple_protrusion=random.uniform(3.0, 12.0) * float(random.random() < 0.85),
        areola_radius=random.uniform(12.0, 28.0),
        thorax_radius=random.uniform(140.0, 175.0) if chest else random.uniform(110.0, 260.0),
        thorax_blend=random.uniform(4.0, 14.0),
        wall_in_view=bool(random.random() < 0.45) or chest,
        behind_wall=random.uniform(4.0, 24.0),
        muscle_depth=random.uniform(3.0, 12.0) if chest else random.uniform(0.0, 16.0),
        muscle_tilt=random.normal(0.0, 0.15),
        fold_depth=random.uniform(2.0, 7.0) * float(random.random() < 0.08),
        fold_place=random.uniform(-0.8, 0.8),
        midline=half_width + random.uniform(5.0, 20.0) if chest else 0.0,
        thorax_depth=random.uniform(180.0, 240.0) if chest else 0.0,
        rotation_degrees=(random.normal(0.0, 7.0), random.normal(0.0, 10.0), random.normal(0.0, 7.0)),
    )


def nipple_position(shape: BreastShape) -> NDArray[np.float64]:
    """Return the tip of the breast in local u, v, w, mm."""
    return np.array([-shape.bend, shape.length, -shape.droop])


def compute_breast_fields(
    shape: BreastShape, grid: Grid, local_from_world: NDArray[np.float64], random: np.random.Generator
) -> BreastFields:
    """Evaluate the smooth fields of a breast on the coarse nodes of a grid."""
    coarse = grid.coarse(COARSE_STEP)
    local = _to_local(shape, coarse, local_from_world)
    surface = _surface_distance(shape, coarse, local)
    bumps = smooth_field(coarse, random, length=shape.roughness_length)
    surface = surface + np.float32(shape.roughness) * bumps
    return BreastFields(
        grid=coarse,
        surface=np.clip(surface, -FAR, FAR).astype(np.float32),
        skin_thickness=_skin_thickness(shape, coarse, local, random),
        muscle=_muscle_distance(shape, coarse, local, random),
        local=local,
    )


def _to_local(
    shape: BreastShape, grid: Grid, local_from_world: NDArray[np.float64]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    x, y, z = grid.axis(0)[:, None, None], grid.axis(1)[None, :, None], grid.axis(2)[None, None, :]
    # In chest CT the second breast mirrors the first about the midline.
    rows = [row[0] * x + row[1] * y + row[2] * z + row[3] for row in local_from_world[:3].astype(np.float32)]
    u = np.abs(rows[0]) - np.float32(shape.midline) if shape.midline > 0.0 else rows[0]
    return u, rows[1], rows[2]


def _thorax_distance(shape: BreastShape, local: tuple[FloatArray, ...]) -> FloatArray:
    """Return mm in front of the thorax: a long cylinder along w, whole in chest CT, its front else."""
    u, v, _ = local
    if shape.midline == 0.0:
        return np.asarray(v + u**2 / (2.0 * shape.thorax_radius), dtype=np.float32)
    width, depth = shape.thorax_radius, shape.thorax_depth / 2.0
    gauge = np.sqrt(((u + shape.midline) / width) ** 2 + ((v + depth) / depth) ** 2)
    slope = np.sqrt(((u + shape.midline) / width**2) ** 2 + ((v + depth) / depth**2) ** 2) / np.maximum(gauge, 1e-3)
    return np.asarray((gauge - 1.0) / np.maximum(slope, 0.3 / width), dtype=np.float32)


def _surface_distance(shape: BreastShape, grid: Grid, local: tuple[FloatArray, ...]) -> FloatArray:
    u, v, w = local
    along = np.clip(v / shape.length, 0.0, 1.3)
    swell = 1.0 + shape.teardrop * along * (1.2 - along)
    across_u = np.abs(u + shape.bend * along**2) / (shape.half_width * swell)
    across_w = np.abs(w + shape.droop * along**2) / (shape.half_height * swell)
    in_plane = across_u**shape.plane_power + across_w**shape.plane_power
    gauge = in_plane ** (shape.depth_power / shape.plane_power) + along**shape.depth_power
    gauge = gauge ** (1.0 / shape.depth_power)
    steps = np.gradient(gauge, *grid.spacing)
    slope = np.sqrt(sum(step**2 for step in steps))
    breast = np.clip((gauge - 1.0) / np.maximum(slope, 0.3 / shape.length), -FAR, FAR)
    if shape.midline > 0.0:
        # Behind the chest wall there is no breast, else it would stick out of the back.
        breast = np.maximum(breast, -v - 60.0)
    thorax = _thorax_distance(shape, local)
    blend = shape.thorax_blend
    joined = -blend * np.logaddexp(-np.clip(breast, -FAR, FAR) / blend, -np.clip(thorax, -FAR, FAR) / blend)
    if shape.fold_depth > 0.0:
        plane = w - shape.fold_place * shape.half_height + 0.15 * u
        joined = joined + shape.fold_depth * np.exp(-((plane / FOLD_WIDTH) ** 2)) * np.clip(1.5 - along, 0.0, 1.0)
    return np.asarray(joined, dtype=np.float32)


def _skin_thickness(
    shape: BreastShape, grid: Grid, local: tuple[FloatArray, ...], random: np.random.Generator
) -> FloatArray:
    tip = nipple_position(shape)
    distance = np.sqrt(sum((axis - value) ** 2 for axis, value in zip(local, tip, strict=True)))
    areola = 1.0 + 0.8 * np.exp(-((distance / shape.areola_radius) ** 4))
    variation = 1.0 + shape.skin_variation * smooth_field(grid, random, length=40.0)
    thickness = np.clip(shape.skin * areola * variation, 0.7, 4.0)
    return np.asarray(thickness, dtype=np.float32)


def _muscle_distance(
    shape: BreastShape, grid: Grid, local: tuple[FloatArray, ...], random: np.random.Generator
) -> FloatArray:
    _, _, w = local
    waves = 1.5 * smooth_field(grid, random, length=30.0)
    tilt = 0.0 if shape.midline > 0.0 else shape.muscle_tilt
    front = _thorax_distance(shape, local) + shape.muscle_depth + tilt * w + waves
    return np.asarray(np.clip(front, -FAR, FAR), dtype=np.float32)
