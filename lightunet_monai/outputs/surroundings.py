"""What lies around a lesion: the tissue next to it, the skin and the nipple.

These are measurements on intensities, in Hounsfield units, and estimates where a structure is not labelled; each
says when it cannot be made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
import scipy  # its parts load when they are first used: most studies have no lesion
from numpy.typing import NDArray

from lightunet_monai.labels import ADIPOSE_CODES, FIBROGLANDULAR_CODES
from lightunet_monai.segmentation import Segmentation

from .neighbours import face_centres, face_neighbours
from .orientation import nearest_axes, unit_axes

AIR_HU = -300.0
"""Below this a voxel is air: half-way between air (-1000) and fat (-100 to -50) with room for partial volume,
and above the lungs' own values, which the search from the border does not reach."""

COARSE_MM = 3.0
"""Step of the coarse grid on which the air around the body is found."""

REFINED_PLACES = 32
"""Coarse places nearest to a lesion at which the skin is looked for on the voxels themselves."""

SHELL_INNER_MM, SHELL_OUTER_MM = 1.0, 5.0
"""The tissue next to a lesion: a gap against partial volume, then up to 5 mm, a width used for peritumoural
measurements (Braman et al., Breast Cancer Research 2017;19:57, annuli of 2.5 to 5 mm)."""

SHELL_MAX_VOXELS = 2_000_000
"""Larger surroundings are sampled with a stride, which changes a mean by less than its noise."""

NIPPLE_CODE = "24142002"

TIP_DEPTH_MM = 10.0
TIP_MAX_AREA_MM2 = 6400.0
"""A breast tip is taken for the nipple only if the cap within 10 mm of it is a single piece whose cross-section stays
below 80 x 80 mm: a hanging breast has a tip, a flat chest wall or a pair of breasts has not."""


@dataclass(frozen=True)
class BodySurface:
    """The air outside the patient, found on a coarse grid.

    Parameters
    ----------
    step : tuple of int
        Stride of the coarse grid along each voxel axis.
    points : ndarray of float64, shape (n, 3)
        Positions of the outside air next to the body on that grid, RAS+ mm.
    tip_ras : ndarray of float64, shape (3,), or None
        The most anterior point of the body if it is a breast tip.
    """

    step: tuple[int, int, int]
    points: NDArray[np.float64]
    tip_ras: NDArray[np.float64] | None


def find_body_surface(volume_hu: NDArray[np.generic], affine: NDArray[np.float64]) -> BodySurface | None:
    """Find the air outside the body, and the tip of the breast.

    Outside air is what is below `AIR_HU` and connected (by faces) with the left, right or anterior border of the
    volume; air that touches only the superior, inferior or posterior border may be lung.

    Parameters
    ----------
    volume_hu : ndarray, shape (X, Y, Z)
        Hounsfield units.
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ mm.

    Returns
    -------
    BodySurface or None
        None if the volume shows no outside air, or nothing but air.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    step = tuple(max(1, int(COARSE_MM // size)) for size in spacing)
    coarse = np.asarray(volume_hu[:: step[0], :: step[1], :: step[2]])
    if min(coarse.shape) < 3:
        return None
    air = coarse < AIR_HU
    parts = cc3d.connected_components(air, connectivity=6)
    outside = np.isin(parts, _labels_on_open_borders(parts, affine))
    rim = outside & face_neighbours(~outside & ~air)
    if not rim.any():
        return None
    scaled = affine @ np.diag([*step, 1.0])
    points = _world(np.argwhere(rim), scaled)
    return BodySurface((step[0], step[1], step[2]), points, _breast_tip(~air, scaled))


def skin_distance_mm(
    surface_points: NDArray[np.float64],
    body: BodySurface,
    volume_hu: NDArray[np.generic],
    affine: NDArray[np.float64],
) -> float:
    """Shortest distance from the surface of a lesion to the outer surface of the skin.

    The nearest outside air is found on the coarse grid and then refined on the voxels themselves. The skin lies on
    the faces between voxels of air and others; the result is good to about one voxel.

    Parameters
    ----------
    surface_points : ndarray of float64, shape (n, 3)
        Vertices of the lesion's surface, RAS+ mm.
    body : BodySurface
    volume_hu : ndarray, shape (X, Y, Z)
    affine : ndarray of float64, shape (4, 4)

    Returns
    -------
    float
        Millimetres, 0 or more.
    """
    lesion = scipy.spatial.cKDTree(surface_points)
    distances = lesion.query(body.points)[0]
    nearest = np.argsort(distances, kind="stable")[:REFINED_PLACES]
    corners = np.rint(_world(body.points[nearest], np.linalg.inv(affine))).astype(int)
    faces = np.concatenate([_faces_of_air(volume_hu, corner, body.step) for corner in corners])
    return float(lesion.query(_world(faces, affine))[0].min() if len(faces) else distances.min())


def find_nipple(segmentation: Segmentation, body: BodySurface | None) -> tuple[NDArray[np.float64], str] | None:
    """Find the nipple: the centroid of a labelled nipple, else the tip of the breast.

    Returns
    -------
    tuple of ndarray and str, or None
        RAS+ mm, and ``"label"`` or ``"breast tip"`` (an estimate); None if neither can be found.
    """
    for label in segmentation.labels:
        if label.type.value == NIPPLE_CODE:
            voxels = np.argwhere(segmentation.label_map == label.value)
            if len(voxels):
                return _world(voxels.mean(axis=0)[None], segmentation.affine)[0], "label"
    if body is not None and body.tip_ras is not None:
        return body.tip_ras, "breast tip"
    return None


def surrounding_hu(
    mask: NDArray[np.bool_], start: tuple[int, int, int], segmentation: Segmentation, volume_hu: NDArray[np.generic]
) -> float | None:
    """Mean HU of the tissue from `SHELL_INNER_MM` to `SHELL_OUTER_MM` outside of a lesion.

    Air (below `AIR_HU`) and everything else that is labelled are left out, fibroglandular and adipose tissue excepted:
    they are what lies around a lesion, labelled or not. Distances are taken between voxel
    centres on orthogonal axes; under shear they are those of the unsheared grid.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        The lesion in its box.
    start : tuple of int
        First corner of the box.
    segmentation : Segmentation
    volume_hu : ndarray, shape (X, Y, Z)

    Returns
    -------
    float or None
        None if there is no such tissue.
    """
    spacing = np.array(segmentation.spacing)
    margin = np.ceil(SHELL_OUTER_MM / spacing).astype(int)
    first = np.maximum(0, np.array(start) - margin)
    last = np.minimum(segmentation.label_map.shape, np.array(start) + mask.shape + margin)
    stride = _stride(last - first)
    box = tuple(slice(a, b, step) for a, b, step in zip(first, last, stride, strict=True))
    inside = np.zeros(tuple(last - first), dtype=bool)
    inner = tuple(slice(a, a + n) for a, n in zip(np.array(start) - first, mask.shape, strict=True))
    inside[inner] = mask
    inside = inside[tuple(slice(None, None, step) for step in stride)]
    if not inside.any():
        return None
    distance = scipy.ndimage.distance_transform_edt(~inside, sampling=spacing * stride)
    values = np.asarray(volume_hu[box])
    shell = (distance > SHELL_INNER_MM) & (distance <= SHELL_OUTER_MM)
    tissue = [0, *segmentation.labels.values_of(FIBROGLANDULAR_CODES | ADIPOSE_CODES)]
    shell &= np.isin(segmentation.label_map[box], tissue) & (values >= AIR_HU)
    return float(values[shell].mean(dtype=np.float64)) if shell.any() else None


def _stride(size: NDArray[np.int_]) -> NDArray[np.int_]:
    stride = np.ones(3, dtype=int)
    while np.prod(np.ceil(size / stride)) > SHELL_MAX_VOXELS:
        stride[np.argmax(size / stride)] += 1
    return stride


def _labels_on_open_borders(parts: NDArray[np.integer], affine: NDArray[np.float64]) -> NDArray[np.integer]:
    """Component numbers on the left, right and anterior faces of the array."""
    right, anterior, _ = (nearest_axes(affine).index(world) for world in range(3))
    anterior_end = -1 if unit_axes(affine)[1, anterior] > 0 else 0
    faces = [parts.take(0, axis=right), parts.take(-1, axis=right), parts.take(anterior_end, axis=anterior)]
    found = np.unique(np.concatenate([face.ravel() for face in faces]))
    return np.asarray(found[found > 0])


def _breast_tip(tissue: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The most anterior point of the largest piece of tissue, if the cap behind it is one small piece."""
    body = cc3d.largest_k(tissue, k=1, connectivity=6) > 0
    voxels = np.argwhere(body)
    if not len(voxels):
        return None
    world = _world(voxels, affine)
    depth = world[:, 1].max() - world[:, 1]
    cap = np.zeros_like(body)
    cap[tuple(voxels[depth <= TIP_DEPTH_MM].T)] = True
    if any(cap.take(end, axis=axis).any() for axis in range(3) for end in (0, -1)):
        return None
    _, pieces = cc3d.connected_components(cap, connectivity=26, return_N=True)
    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
    if pieces != 1 or cap.sum() * voxel_mm3 / TIP_DEPTH_MM > TIP_MAX_AREA_MM2:
        return None
    tip = world[depth <= COARSE_MM].mean(axis=0)
    tip[1] = world[:, 1].max()
    return np.asarray(tip)


def _faces_of_air(
    volume_hu: NDArray[np.generic], centre: NDArray[np.int_], reach: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Centres of the faces between air and what is not air, within `reach` of a voxel, as voxel indices; (n, 3)."""
    first = np.maximum(0, centre - reach)
    box = tuple(slice(a, b) for a, b in zip(first, centre + reach + 1, strict=True))
    air = np.asarray(volume_hu[box]) < AIR_HU
    return np.asarray(face_centres(~air, air) + first)


def _world(points: NDArray[Any], affine: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(points @ affine[:3, :3].T + affine[:3, 3], dtype=np.float64)
