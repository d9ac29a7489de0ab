"""Linear resampling between two grids whose axes are parallel: one small matrix an axis.

Grids are related by a map from voxel index to voxel index. Where that map is a scaled signed permutation
(the axes are parallel, perhaps swapped or reversed), resampling separates into three matrix products; flips and
axis order cost nothing because they live in the matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

AXIS_TOLERANCE = 1e-3
"""Largest off-axis entry, relative to the on-axis one, for axes to count as parallel. Over 500 voxels it moves a
voxel by half a voxel; DICOM direction cosines written with six digits stay a hundred times below it."""


@dataclass(frozen=True)
class AxisMap:
    """How one axis of the target follows one axis of the source.

    Parameters
    ----------
    source_axis : int
        Axis of the source, 0 to 2.
    offset : float
        Source index of target voxel 0.
    step : float
        Source indices per target index; negative for a reversed axis.
    """

    source_axis: int
    offset: float
    step: float


def axis_maps(source_affine: NDArray[np.float64], target_affine: NDArray[np.float64]) -> tuple[AxisMap, ...]:
    """Find, for each target axis, the source axis it runs along.

    Parameters
    ----------
    source_affine, target_affine : ndarray, shape (4, 4)
        Voxel index to world, mm, in the same world.

    Returns
    -------
    tuple of AxisMap
        One for each target axis.

    Raises
    ------
    ValueError
        If the axes of the two grids are not parallel.
    """
    target_to_source = np.linalg.solve(source_affine, target_affine)
    linear = target_to_source[:3, :3]
    axes = np.abs(linear).argmax(axis=0)
    on_axis = np.take_along_axis(linear, axes[None], axis=0)[0]
    rest = linear.copy()
    np.put_along_axis(rest, axes[None], 0.0, axis=0)
    if sorted(axes) != [0, 1, 2] or np.abs(rest / on_axis).max() > AXIS_TOLERANCE:
        raise ValueError("the axes of the two grids are not parallel")
    return tuple(
        AxisMap(int(axis), float(target_to_source[axis, 3]), float(step))
        for axis, step in zip(axes, on_axis, strict=True)
    )


def axis_weights(axis: AxisMap, source_size: int, target_size: int, *, antialias: bool) -> Tensor:
    """Weights of source voxels in each target voxel along one axis.

    Between voxel centres the weights are those of linear interpolation; beyond the outer centres the edge
    value continues. With ``antialias`` a coarser target averages over its own spacing by a triangle, so that
    noise is averaged and not sampled.

    Parameters
    ----------
    axis : AxisMap
        Where target voxels lie on the source axis.
    source_size, target_size : int
        Voxels along the axis.
    antialias : bool
        Widen the triangle to the target's spacing where that is the larger one.

    Returns
    -------
    Tensor of float32, shape (target_size, source_size)
        Each row sums to 1.
    """
    positions = axis.offset + axis.step * torch.arange(target_size, dtype=torch.float64)
    positions = positions.clamp(0, source_size - 1)
    support = max(1.0, abs(axis.step)) if antialias else 1.0
    distance = (positions[:, None] - torch.arange(source_size, dtype=torch.float64)[None, :]).abs()
    weights = (1 - distance / support).clamp(min=0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def resample(volume: Tensor, maps: tuple[AxisMap, ...], shape: tuple[int, ...], *, slab: int = 32) -> Tensor:
    """Resample a volume to another grid with parallel axes, anti-aliased.

    Parameters
    ----------
    volume : Tensor, shape (X, Y, Z)
        Any real dtype; converted to float32 slab by slab.
    maps : tuple of AxisMap
        One for each target axis, as `axis_maps` gives them.
    shape : tuple of int
        Target size (X', Y', Z').
    slab : int
        Slices worked on at once; bounds the memory.

    Returns
    -------
    Tensor of float32, shape (X', Y', Z')
    """
    target_of = [next(t for t, m in enumerate(maps) if m.source_axis == s) for s in range(3)]
    weights = [
        axis_weights(maps[t], volume.shape[s], shape[t], antialias=True).to(volume.device)
        for s, t in enumerate(target_of)
    ]
    # Slabs are cut along the axis that varies slowest in memory, whichever that is: each is one piece, read once.
    strides = volume.stride()
    order = sorted(range(3), key=lambda axis: -strides[axis])
    planes = volume.permute(order)  # (A, B, C)
    wa, wb, wc = (weights[axis] for axis in order)
    out = torch.zeros((wa.shape[0], wb.shape[0], wc.shape[0]), dtype=torch.float32, device=volume.device)
    for start in range(0, planes.shape[0], slab):
        part = planes[start : start + slab].float()  # (a, B, C)
        part = torch.matmul(wb, torch.matmul(part, wc.T))  # (a, B', C')
        touched = wa[:, start : start + slab]
        rows = touched.any(dim=1).nonzero().flatten()
        if rows.numel():
            low, high = int(rows[0]), int(rows[-1]) + 1
            out[low:high] += torch.tensordot(touched[low:high], part, dims=1)
    # out has the axes of the source in the order of memory; target axis t runs along source axis maps[t].source_axis.
    return out.permute(*(order.index(m.source_axis) for m in maps)).contiguous()
