"""Size and form of one lesion, in millimetres, on any affine.

Surface and largest diameter follow the Image Biomarker Standardisation Initiative (IBSI, Zwanenburg et al.,
Radiology 2020;295:328, reference manual section 3.1): a triangle mesh at the level 0.5 of the mask, whose vertices
lie half-way between voxel centres inside and outside. The axial diameters follow RECIST 1.1 (Eisenhauer et al.,
Eur J Cancer 2009;45:228).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # its parts load when they are first used: most studies have no lesion
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from .orientation import nearest_axes

_SUPERIOR = 2


@dataclass(frozen=True)
class Mesh:
    """A closed triangle surface in RAS+ mm, triangles oriented outwards.

    Parameters
    ----------
    vertices : ndarray of float64, shape (V, 3)
    triangles : ndarray of int, shape (T, 3)
    """

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int64]

    @property
    def area_mm2(self) -> float:
        """Sum of the areas of the triangles, mm2."""
        a, b, c = (self.vertices[self.triangles[:, corner]] for corner in range(3))
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)

    @property
    def volume_mm3(self) -> float:
        """Volume inside by the divergence theorem: the sum of a . (b x c) / 6 over all triangles, mm3."""
        centre = self.vertices.mean(axis=0)
        a, b, c = (self.vertices[self.triangles[:, corner]] - centre for corner in range(3))
        return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


@dataclass(frozen=True)
class AxialSize:
    """Diameters in one plane.

    Parameters
    ----------
    long_mm, short_mm : float
        Longest diameter, and the longest diameter perpendicular to it in the same plane.
    plane : int
        Index of the plane along `axis` in the box.
    axis : int
        The voxel axis that is closest to the patient's superior direction.
    ends : ndarray of float64, shape (2, 3)
        End points of the long axis, RAS+ mm.
    """

    long_mm: float
    short_mm: float
    plane: int
    axis: int
    ends: NDArray[np.float64]


def make_mesh(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> Mesh:
    """Surface of a mask at the level 0.5 (marching cubes, Lewiner et al., J Graph Tools 2003;8:1).

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        May touch the border of the array.
    affine : ndarray of float64, shape (4, 4)
        Voxel index of the array to RAS+ mm; shear and left-handed axes are allowed.

    Returns
    -------
    Mesh
    """
    padded = np.pad(mask, 1).astype(np.float32)
    vertices, triangles, _, _ = marching_cubes(padded, 0.5, allow_degenerate=False)
    # marching_cubes orients triangles inwards in index space; a left-handed affine turns them once more.
    outward = triangles if np.linalg.det(affine[:3, :3]) < 0 else triangles[:, ::-1]
    world = (vertices.astype(np.float64) - 1) @ affine[:3, :3].T + affine[:3, 3]
    mesh = Mesh(world, np.ascontiguousarray(outward, dtype=np.int64))
    return mesh if mesh.volume_mm3 > 0 else Mesh(world, np.ascontiguousarray(mesh.triangles[:, ::-1]))


def sphericity(mesh: Mesh) -> float:
    """Area of the sphere of the same volume divided by the area: (36 pi V^2)^(1/3) / A; 1 for a sphere.

    IBSI QCFX, with the volume of the mesh. The staircase of a binary mask enlarges the area, so a digital sphere
    comes out near 0.92, not 1.
    """
    return float((36 * np.pi * mesh.volume_mm3**2) ** (1 / 3) / mesh.area_mm2)


def feret_mm(points: NDArray[np.float64]) -> float:
    """Largest distance between two of these points, shape (n, 3); IBSI L0JK when given the vertices of a mesh."""
    return float(scipy.spatial.distance.pdist(_hull_points(points)).max())


def axial_size(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> AxialSize:
    """Longest axial diameter and the one perpendicular to it, in the plane where the former is largest.

    Axial planes are the planes of voxels whose normal axis is closest to the patient's superior direction; on a
    series that is not axial this is a reformatted plane. Diameters reach to the edges of the outermost voxels' faces
    (half-way to the next voxel). The short axis is the longest chord of the lesion's convex outline perpendicular to
    the long axis.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        One lesion.
    affine : ndarray of float64, shape (4, 4)
        Voxel index of the array to RAS+ mm.

    Returns
    -------
    AxialSize
    """
    axis = nearest_axes(affine).index(_SUPERIOR)
    in_plane = [other for other in range(3) if other != axis]
    basis, _ = np.linalg.qr(affine[:3, in_plane])  # (3, 2), orthonormal
    best: AxialSize | None = None
    best_rank = (-1.0, -1)
    for plane in np.flatnonzero(mask.any(axis=(in_plane[0], in_plane[1]))):
        edges = _edge_points(np.take(mask, int(plane), axis=axis))
        voxels = np.insert(edges, axis, plane, axis=1)  # (n, 3)
        world = voxels @ affine[:3, :3].T + affine[:3, 3]
        outline = world[scipy.spatial.ConvexHull(world @ basis).vertices]
        distances = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(outline))
        first, second = np.unravel_index(int(distances.argmax()), distances.shape)
        long_mm = float(distances[first, second])
        # Of planes with equal diameters, which are rounded so that noise cannot tell them apart, the fullest counts.
        rank = (round(long_mm, 4), int(np.count_nonzero(np.take(mask, int(plane), axis=axis))))
        if rank > best_rank:
            best_rank, ends = rank, outline[[first, second]]
            best = AxialSize(long_mm, _perpendicular_chord(outline, ends, basis), int(plane), axis, ends)
    if best is None:
        raise ValueError("the mask is empty")
    return best


def _edge_points(plane: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Points half-way between neighbours inside and outside of a mask, (n, 2), in voxel indices."""
    padded = np.pad(plane, 1)
    points = []
    for axis in range(2):
        crossing = np.argwhere(np.diff(padded, axis=axis)).astype(np.float64) - 1
        crossing[:, axis] += 0.5
        points.append(crossing)
    return np.concatenate(points)


def _perpendicular_chord(outline: NDArray[np.float64], ends: NDArray[np.float64], basis: NDArray[np.float64]) -> float:
    """Longest chord of a convex outline, given in order, perpendicular to the line between `ends`.

    Its length along the line is piecewise linear with kinks at the vertices only, so the vertices suffice.
    """
    flat = (outline - ends[0]) @ basis  # (n, 2)
    along = (ends[1] - ends[0]) @ basis
    along = along / np.linalg.norm(along)
    u, v = flat @ along, flat @ np.array([-along[1], along[0]])
    start, stop = int(u.argmin()), int(u.argmax())
    sides = []
    for step in (1, -1):
        count = (step * (stop - start)) % len(u)
        chain = (start + step * np.arange(count + 1)) % len(u)
        sides.append(np.interp(u, u[chain], v[chain]))
    return float(np.abs(sides[0] - sides[1]).max())


def _hull_points(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points[scipy.spatial.ConvexHull(points).vertices])
