"""A voxel grid of the phantom, and what is drawn on it: smooth noise, ellipsoids, tubes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Points = NDArray[np.float64]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grid:
    """Cubic voxels; axes point right-left, chest wall-nipple and feet-head (RAS for a standing woman).

    Parameters
    ----------
    shape : tuple of int
        Voxels along x, y, z.
    origin : tuple of float
        Centre of the first voxel, mm; y is 0 at the chest wall's end of the view.
    voxel : float
        Edge, mm.
    """

    shape: tuple[int, int, int]
    origin: tuple[float, float, float]
    voxel: float

    def axes(self) -> list[Field]:
        """Coordinates of the voxel centres, mm, each ready to be broadcast."""
        lines = [
            np.asarray(o + self.voxel * np.arange(n), np.float32) for o, n in zip(self.origin, self.shape, strict=True)
        ]
        return [lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None, :]]

    def coarser(self) -> Grid:
        """Half as many voxels, twice as large, over the same box; the shape must be even."""
        x, y, z = (o + self.voxel / 2.0 for o in self.origin)
        return Grid((self.shape[0] // 2, self.shape[1] // 2, self.shape[2] // 2), (x, y, z), 2.0 * self.voxel)

    def position(self, index: Sequence[int]) -> Points:
        """Centre of a voxel, mm."""
        return np.asarray(self.origin) + self.voxel * np.asarray(index, float)

    def box(self, centre: Points, reach: float) -> tuple[Box, list[Field]]:
        """Slices of the voxels within `reach` mm of a point along each axis, and their coordinates from it."""
        slices, lines = [], []
        for axis in range(3):
            middle = (centre[axis] - self.origin[axis]) / self.voxel
            first = max(0, int(np.floor(middle - reach / self.voxel)))
            last = min(self.shape[axis], int(np.ceil(middle + reach / self.voxel)) + 1)
            slices.append(slice(first, max(first, last)))
            values = np.arange(first, max(first, last)) * self.voxel + self.origin[axis] - centre[axis]
            lines.append(values.astype(np.float32))
        box: Box = (slices[0], slices[1], slices[2])
        return box, [lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None, :]]


def finer(field: Field) -> Field:
    """Values of a coarser grid on the fine one, linear between them."""
    values: Field = ndimage.zoom(field, 2, order=1, mode="nearest", grid_mode=True)
    return values


def smooth_noise(random: np.random.Generator, grid: Grid, wavelength: float, octaves: int = 3) -> Field:
    """Noise of several octaves with a standard deviation near 1; the longest wavelength in mm."""
    total = np.zeros(grid.shape, np.float32)
    for octave in range(octaves):
        step = wavelength / 2.0 / 2.0**octave / grid.voxel
        lattice = random.standard_normal([int(np.ceil(n / step)) + 4 for n in grid.shape]).astype(np.float32)
        start = random.uniform(1.0, 1.9, 3)
        layer = ndimage.affine_transform(lattice, np.full(3, 1.0 / step), start, output_shape=grid.shape, order=2)
        total += np.float32(0.5**octave) * layer / max(float(layer.std()), 1e-6)
    return np.asarray(total / max(float(total.std()), 1e-6), np.float32)


def turned(random: np.random.Generator, towards: Points, spread: float) -> Points:
    """Three orthogonal unit vectors as rows, the first near a direction (radians of spread)."""
    first = towards / max(float(np.linalg.norm(towards)), 1e-9) + spread * random.standard_normal(3)
    first /= np.linalg.norm(first)
    second = np.cross(first, random.standard_normal(3))
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)])


def ellipsoid_radius(offsets: list[Field], vectors: Points, semi_axes: Sequence[float]) -> Field:
    """Radius relative to the surface: 1 on the ellipsoid, 0 in its middle."""
    total: Any = np.float32(0.0)
    for vector, length in zip(vectors, semi_axes, strict=True):
        along = sum(np.float32(v / length) * o for v, o in zip(vector, offsets, strict=True))
        total = total + np.square(along)
    return np.asarray(np.sqrt(total), np.float32)


def stamp_tubes(grid: Grid, points: Points, radii: NDArray[np.float64]) -> tuple[NDArray[np.int64], Field]:
    """Return flat voxel indices and the share of each that a string of balls fills.

    Parameters
    ----------
    grid : Grid
    points : ndarray, shape (N, 3)
        Centres in mm, closer together than a voxel.
    radii : ndarray, shape (N,)
        mm; a tube thinner than a voxel fills less of it.
    """
    keys: list[NDArray[np.int64]] = []
    shares: list[NDArray[np.float64]] = []
    classes = np.ceil(radii / grid.voxel).astype(int)
    for size in np.unique(classes):
        chosen = classes == size
        reach = np.arange(-size, size + 1)
        offsets = np.stack(np.meshgrid(reach, reach, reach, indexing="ij"), -1).reshape(1, -1, 3)
        at = (points[chosen] - np.asarray(grid.origin)) / grid.voxel
        voxels = np.rint(at).astype(np.int64)[:, None, :] + offsets
        distance = grid.voxel * np.linalg.norm(voxels - at[:, None, :], axis=2)
        radius = radii[chosen][:, None]
        share = np.clip((radius - distance) / grid.voxel + 0.5, 0.0, 1.0)
        share *= np.minimum(1.0, np.pi * (radius / grid.voxel) ** 2)
        inside = np.all((voxels >= 0) & (voxels < np.asarray(grid.shape)), axis=2) & (share > 0.02)
        keys.append(np.ravel_multi_index(tuple(voxels[inside].T), grid.shape))
        shares.append(share[inside])
    flat, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    filled = np.zeros(flat.size)
    np.maximum.at(filled, inverse, np.concatenate(shares))
    return flat, filled.astype(np.float32)
