"""The grid a case is built on: fine voxels, coarse nodes for what is smooth, patches for what is small."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

Slices = tuple[slice, slice, slice]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """A regular grid along the RAS+ axes of the patient.

    Parameters
    ----------
    shape : tuple of int
        Voxels along x (right), y (anterior), z (superior).
    spacing : tuple of float
        Millimetres along x, y, z.
    origin : tuple of float
        World position of the centre of voxel (0, 0, 0), mm.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]

    @property
    def voxel_size(self) -> float:
        """Edge of a cube of one voxel's volume, mm."""
        return float(np.prod(self.spacing) ** (1.0 / 3.0))

    def axis(self, dimension: int) -> FloatArray:
        """Return the world coordinates along one axis, float32 of shape (n,)."""
        steps = np.arange(self.shape[dimension], dtype=np.float64)
        return (self.origin[dimension] + self.spacing[dimension] * steps).astype(np.float32)

    def coarse(self, step: float) -> Grid:
        """Return a grid over the same extent whose nodes are about `step` mm apart, corners in place."""
        shape, spacing = [], []
        for count, size in zip(self.shape, self.spacing, strict=True):
            nodes = max(int(np.ceil((count - 1) * size / step)) + 1, 4)
            shape.append(nodes)
            spacing.append((count - 1) * size / (nodes - 1))
        return Grid((shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2]), self.origin)

    def swapped(self, first: int, second: int) -> Grid:
        """Return the grid with two axes exchanged."""
        order = [0, 1, 2]
        order[first], order[second] = second, first
        a, b, c = order
        return Grid(
            (self.shape[a], self.shape[b], self.shape[c]),
            (self.spacing[a], self.spacing[b], self.spacing[c]),
            (self.origin[a], self.origin[b], self.origin[c]),
        )

    def meshes(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return x, y, z of every node, each of this grid's shape, mm."""
        x, y, z = np.meshgrid(self.axis(0), self.axis(1), self.axis(2), indexing="ij")
        return x, y, z

    def around(self, centre: NDArray[np.float64], radius: float) -> Slices | None:
        """Return the voxels within a box of `radius` mm about a world point, or None if none are."""
        slices = []
        for dimension in range(3):
            position = (float(centre[dimension]) - self.origin[dimension]) / self.spacing[dimension]
            reach = radius / self.spacing[dimension]
            start = max(int(np.floor(position - reach)), 0)
            stop = min(int(np.ceil(position + reach)) + 1, self.shape[dimension])
            if start >= stop:
                return None
            slices.append(slice(start, stop))
        return slices[0], slices[1], slices[2]

    def offsets(self, slices: Slices, centre: NDArray[np.float64]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return broadcastable x, y, z of a patch relative to a world point, mm."""
        x, y, z = (self.axis(d)[slices[d]] - np.float32(centre[d]) for d in range(3))
        return x[:, None, None], y[None, :, None], z[None, None, :]

    def nearest(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the index of the voxel nearest to world points of shape (n, 3), clipped to the grid."""
        indices = np.rint((points - np.asarray(self.origin)) / np.asarray(self.spacing)).astype(np.int64)
        clipped: NDArray[np.int64] = np.clip(indices, 0, np.asarray(self.shape) - 1)
        return clipped


def upsample(coarse: FloatArray, shape: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    """Interpolate corner-aligned coarse nodes linearly onto the fine grid; float32 of `shape`."""
    nodes = torch.from_numpy(np.ascontiguousarray(coarse, dtype=np.float32)).to(device)
    fine: torch.Tensor = interpolate(nodes[None, None], size=shape, mode="trilinear", align_corners=True)
    return fine[0, 0]


def coverage(signed_distance: torch.Tensor, voxel_size: float) -> torch.Tensor:
    """Return the share of each voxel that lies inside, 0 to 1, from a signed distance (inside negative, mm)."""
    return (0.5 - signed_distance / voxel_size).clamp_(0.0, 1.0)
