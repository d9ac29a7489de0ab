"""Voronoi-like lobules: which lobule a voxel lies in, and how far the nearest wall is.

Seeds are jittered on a lattice; every block of voxels keeps its few nearest seeds, so that the exact distances
are computed for those only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch.nn.functional import interpolate

from .grid import FloatArray, Grid, upsample
from .random_fields import smooth_field

CANDIDATES = 5
"""Seeds kept per block; more change nothing visible, fewer leave cracks in the walls."""

BLOCKS_PER_LOBULE = 4.0
"""Blocks along one lobule: small enough that the true nearest two are nearly always among the candidates."""


FINE_WARP = 0.35
"""Amplitude of the short waves of the warp relative to the long ones."""


@dataclass(frozen=True)
class Compartments:
    """Lobules of one case on the fine grid.

    Parameters
    ----------
    seeds : ndarray of float64, shape (n, 3)
        World positions, mm.
    nearest : tensor of int32, shape (X, Y, Z)
        Index of the seed whose lobule holds the voxel.
    wall_distance : tensor of float32, shape (X, Y, Z)
        mm to the nearest wall between lobules.
    """

    seeds: NDArray[np.float64]
    nearest: torch.Tensor
    wall_distance: torch.Tensor


def make_compartments(
    grid: Grid,
    random: np.random.Generator,
    *,
    size: float,
    stretch: tuple[float, float, float],
    warp: float,
    device: torch.device,
) -> Compartments:
    """Divide the grid into lobules.

    Parameters
    ----------
    grid : Grid
        Fine grid.
    random : Generator
        Positions and warp.
    size : float
        Typical lobule diameter, mm.
    stretch : tuple of float
        Lobules are longer by this factor along x, y, z.
    warp : float
        Amplitude in mm of the smooth displacement that bends the walls.
    device : torch.device
        Where the fine fields live.
    """
    seeds = _jittered_lattice(grid, random, [size * s for s in stretch])
    scale = np.asarray([1.0 / s for s in stretch])
    blocks = grid.coarse(max(size / BLOCKS_PER_LOBULE, grid.voxel_size))
    nodes = np.stack([axis.ravel() for axis in blocks.meshes()], axis=1).astype(np.float64)
    bends = [
        warp * smooth_field(blocks, random, length=1.5 * size)
        + FINE_WARP * warp * smooth_field(blocks, random, length=0.5 * size)
        for _ in range(3)
    ]
    nodes += np.stack([bend.ravel() for bend in bends], axis=1)
    _, candidates = cKDTree(seeds * scale).query(nodes * scale, k=CANDIDATES, workers=-1)
    return _nearest_two(grid, seeds, scale, candidates.reshape(*blocks.shape, CANDIDATES), bends, device)


def _jittered_lattice(grid: Grid, random: np.random.Generator, pitch: list[float]) -> NDArray[np.float64]:
    axes = []
    for dimension in range(3):
        start = grid.origin[dimension] - 1.5 * pitch[dimension]
        stop = grid.origin[dimension] + grid.shape[dimension] * grid.spacing[dimension] + 1.5 * pitch[dimension]
        axes.append(np.arange(start, stop, pitch[dimension]))
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    jitter: NDArray[np.float64] = random.uniform(-0.5, 0.5, lattice.shape) * np.asarray(pitch)
    return lattice + jitter


def _nearest_two(
    grid: Grid,
    seeds: NDArray[np.float64],
    scale: NDArray[np.float64],
    candidates: NDArray[np.int64],
    bends: list[FloatArray],
    device: torch.device,
) -> Compartments:
    positions = []
    for dimension in range(3):
        shape = [1, 1, 1]
        shape[dimension] = -1
        axis = torch.from_numpy(grid.axis(dimension)).to(device).reshape(shape)
        positions.append((upsample(bends[dimension], grid.shape, device).add_(axis)).mul_(float(scale[dimension])))
    first = torch.full(grid.shape, 1e9, device=device)
    second = first.clone()
    nearest = torch.zeros(grid.shape, dtype=torch.int32, device=device)
    for rank in range(candidates.shape[-1]):
        index = candidates[..., rank]
        squared = torch.zeros(grid.shape, device=device)
        for dimension in range(3):
            coordinate = (seeds[index, dimension] * scale[dimension]).astype(np.float32)
            squared.add_((positions[dimension] - _repeat(coordinate, grid.shape, device)).square_())
        closer = squared < first
        second = torch.minimum(second, torch.maximum(first, squared))
        first = torch.minimum(first, squared)
        nearest = torch.where(closer, _repeat(index.astype(np.float32), grid.shape, device).int(), nearest)
    # Half the difference of the distances is the distance to the wall where the wall is met head-on.
    wall = second.sqrt_().sub_(first.sqrt_()).mul_(0.5 / float(scale.mean()))
    return Compartments(seeds=seeds, nearest=nearest, wall_distance=wall)


def _repeat(values: FloatArray, shape: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    blocks = torch.from_numpy(np.ascontiguousarray(values)).to(device)
    repeated: torch.Tensor = interpolate(blocks[None, None], size=shape, mode="nearest")
    return repeated[0, 0]
