"""Where the breast lies in the patient and which box around it is scanned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from .breast import BreastShape
from .grid import Grid
from .settings import MAX_SPACING_MM, SimulationSettings


@dataclass(frozen=True)
class Frame:
    """The scanned box.

    Parameters
    ----------
    grid : Grid
        Fine grid that the anatomy is built on.
    delivered : Grid
        Grid of the volume: equal to `grid`, or with slices thicker by `slice_factor` along `slice_axis`.
    slice_factor, slice_axis : int
        How many fine slices make a delivered one, and along which of x, y, z.
    local_from_world : ndarray of shape (4, 4)
        World RAS+ mm to local mm; in chest CT u is counted from the midline, else from the breast's axis.
    midline : float
        mm from the midline to the breast's axis in chest CT, 0 else.
    """

    grid: Grid
    delivered: Grid
    slice_factor: int
    slice_axis: int
    local_from_world: NDArray[np.float64]
    midline: float = 0.0

    @property
    def sides(self) -> tuple[float, ...]:
        """Signs of the breasts in view: one breast, or both sides of the midline."""
        return (1.0, -1.0) if self.midline > 0.0 else (1.0,)

    def to_world(self, point: NDArray[np.float64], side: float = 1.0) -> NDArray[np.float64]:
        """Return a local point of the breast on one side in world mm."""
        point = np.array([side * (point[0] + self.midline), point[1], point[2]])
        world: NDArray[np.float64] = np.linalg.inv(self.local_from_world)[:3] @ np.append(point, 1.0)
        return world

    def to_world_direction(self, direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a local direction in world axes."""
        world: NDArray[np.float64] = self.local_from_world[:3, :3].T @ direction
        return world


def plan_frame(
    shape: BreastShape, settings: SimulationSettings, slice_factor: int, slice_axis: int, random: np.random.Generator
) -> Frame:
    """Choose spacing and box so that the breast fits, with air around it and now and then cut off."""
    side = 0.0 if shape.midline > 0.0 else 1.0 if shape.side == "right" else -1.0
    centre = np.array([side * random.uniform(70.0, 110.0), random.uniform(40.0, 120.0), random.uniform(-100.0, 100.0)])
    rotation = Rotation.from_euler("xyz", shape.rotation_degrees, degrees=True).as_matrix()
    local_from_world = np.eye(4)
    local_from_world[:3, :3] = rotation.T
    local_from_world[:3, 3] = -rotation.T @ centre
    low, high = _box(shape, random)
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    # The breast is nearly aligned with the scanner: the box of its axes, not of its corners, is scanned.
    world_low, world_high = 0.5 * (corners.min(0) + low), 0.5 * (corners.max(0) + high)
    extent = world_high - world_low
    spacing = float(np.exp(random.uniform(*np.log(settings.spacing))))
    spacing = max(spacing, float(extent.max()) / settings.max_voxels)
    slice_factor = max(1, min(slice_factor, int(MAX_SPACING_MM / spacing)))  # of small volumes of a whole chest
    fine = np.full(3, spacing)
    if slice_factor == 1:
        fine[slice_axis] = min(spacing * random.uniform(0.8, 1.4), MAX_SPACING_MM)
        fine[slice_axis] = max(fine[slice_axis], float(extent[slice_axis]) / settings.max_voxels)
    counts = np.minimum(np.ceil(extent / fine).astype(int), settings.max_voxels)
    counts[slice_axis] = max(slice_factor * 12, counts[slice_axis] // slice_factor * slice_factor)
    origin = centre + world_low
    grid = Grid(_triple_int(counts), _triple(fine), _triple(origin))
    thick, fewer, first = fine.copy(), counts.copy(), origin.copy()
    thick[slice_axis] *= slice_factor
    fewer[slice_axis] //= slice_factor
    first[slice_axis] += fine[slice_axis] * (slice_factor - 1) / 2.0
    delivered = Grid(_triple_int(fewer), _triple(thick), _triple(first))
    return Frame(grid, delivered, slice_factor, slice_axis, local_from_world, shape.midline)


def _box(shape: BreastShape, random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the scanned box in local mm."""
    if shape.midline > 0.0:
        wide = shape.thorax_radius + random.uniform(10.0, 30.0)
        reach = random.uniform(45.0, 90.0)
        back = -shape.thorax_depth * random.uniform(0.4, 1.15)
        return np.array([-wide, back, -reach]), np.array([wide, shape.length + random.uniform(5.0, 30.0), reach])
    half = np.array([shape.half_width, shape.half_height]) * (1.0 + 0.3 * max(shape.teardrop, 0.0))
    margin = random.uniform(0.9, 1.15, 4)
    back = -shape.behind_wall if shape.wall_in_view else random.uniform(0.0, 0.25) * shape.length
    tip = shape.length + shape.nipple_protrusion + random.uniform(0.0, 15.0)
    low = np.array(
        [-half[0] * margin[0] - max(shape.bend, 0.0) * 0.7, back, -half[1] * margin[1] - max(shape.droop, 0.0) * 0.7]
    )
    high = np.array(
        [half[0] * margin[2] - min(shape.bend, 0.0) * 0.7, tip, half[1] * margin[3] - min(shape.droop, 0.0) * 0.7]
    )
    return low, high


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _triple_int(values: NDArray[np.int64]) -> tuple[int, int, int]:
    return int(values[0]), int(values[1]), int(values[2])
