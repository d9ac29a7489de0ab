"""Noise beyond what a detector with enough photons gives, measured in soft tissue and smoothed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import scipy  # its parts load when they are first used
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

UNIT_SIGMA = 0.5 / np.pi**0.5
"""Voxels: at this standard deviation the integral of the square of a Gaussian along an axis is 1."""

HuArray = NDArray[np.float32]


class SmoothNoised(MapTransform):
    """Smooth soft tissue of volumes that are noisier than `limit_hu`, so far that about this noise is left.

    A Gaussian of s voxels leaves (2 s sqrt(pi))^(-3/2) of the deviation of noise whose voxels do not depend on each
    other, of that of a reconstruction (little noise at low frequencies) less. So s follows from the noise that was
    measured; at the limit it is 0.28 voxels, which changes nothing. Noise is measured where the mean of the cube around
    a voxel is that of soft tissue, however far the voxel itself is out. Voxels outside soft tissue neither change nor
    count, so neither air nor metal spreads.

    Takes a `MetaTensor` (1, X, Y, Z) in Hounsfield units with its affine and gives one like it, float32. A volume
    that is not noisier than the limit stays as it is.

    Parameters
    ----------
    keys : keys of the volumes
    tissue_hu, mineral_hu : float
        Soft tissue lies between.
    limit_hu : float
        Standard deviation of noise that needs no smoothing.
    most_mm : float
        Largest standard deviation of the Gaussian.
    neighbourhood, block, least_blocks, smoothest_share
        How noise is measured: as in `noise_deviation`.
    most_deviations : float
        Of the noise, by which a voxel outside the range of soft tissue may differ from the mean of the cube around it
        and still be soft tissue, where this mean is.
    """

    def __init__(
        self,
        keys: KeysCollection,
        tissue_hu: float,
        mineral_hu: float,
        limit_hu: float,
        most_mm: float,
        neighbourhood: int,
        block: int,
        least_blocks: int,
        smoothest_share: float,
        most_deviations: float,
    ) -> None:
        super().__init__(keys)
        self.tissue_hu = float(tissue_hu)
        self.mineral_hu = float(mineral_hu)
        self.limit_hu = float(limit_hu)
        self.most_mm = float(most_mm)
        self.neighbourhood = int(neighbourhood)
        self.measured = (self.neighbourhood, int(block), int(least_blocks), float(smoothest_share))
        self.most_deviations = float(most_deviations)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Smooth each key; other entries pass through."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self._smooth(out[key])
        return out

    def _smooth(self, volume: MetaTensor) -> MetaTensor:
        whole = volume.as_tensor().cpu().numpy()[0].astype(np.float32, copy=False)
        box = _box(self._is_soft(whole))
        hu = whole[box]
        around = scipy.ndimage.uniform_filter(hu, self.neighbourhood, mode="nearest")
        noise = noise_deviation(hu, self._is_soft(around), *self.measured)
        if noise <= self.limit_hu:
            return volume
        # Strong noise takes voxels of soft tissue out of its range; air beside tissue and minerals lie farther off.
        is_noise = np.abs(hu - around) < self.most_deviations * noise
        soft = self._is_soft(hu) | (self._is_soft(around) & is_noise)
        spacing = np.linalg.norm(np.asarray(volume.affine, dtype=np.float64)[:3, :3], axis=0)
        voxel_mm = float(np.prod(spacing)) ** (1.0 / 3.0)
        sigma_mm = min(self.most_mm, voxel_mm * UNIT_SIGMA * (noise / self.limit_hu) ** (2.0 / 3.0))
        smoothed = whole.copy()
        np.copyto(smoothed[box], _mean_of_chosen(hu, soft, sigma_mm / spacing), where=soft)
        meta = {key: value for key, value in volume.meta.items() if key != "affine"}
        return MetaTensor(torch.from_numpy(smoothed)[None], affine=volume.affine, meta=meta)

    def _is_soft(self, hu: HuArray) -> NDArray[np.bool_]:
        return (hu > self.tissue_hu) & (hu < self.mineral_hu)


def noise_deviation(
    hu: HuArray,
    chosen: NDArray[np.bool_],
    neighbourhood: int,
    block: int,
    least_blocks: int,
    smoothest_share: float,
) -> float:
    """Return the standard deviation of the noise among the chosen voxels, HU, as it is where tissue is smoothest.

    That of what voxels differ by from the mean of the cube around them, block by block, of which the one at
    `smoothest_share` counts: edges and texture add to the others.

    Parameters
    ----------
    hu : ndarray of float32, shape (X, Y, Z)
    chosen : ndarray of bool, shape (X, Y, Z)
        Tissue to measure in.
    neighbourhood : int
        Edge of the cube, voxels, odd.
    block : int
        Edge of a block, voxels.
    least_blocks : int
        Blocks of chosen voxels alone that it takes.
    smoothest_share : float
        Share of the blocks that are taken to hold hardly anything but noise, 0 to 1.

    Returns
    -------
    float
        0 where fewer than `least_blocks` blocks are chosen as a whole.
    """
    box = _box(chosen)
    values = hu[box]
    if min(values.shape) < block:
        return 0.0
    whole = _block_means(chosen[box].astype(np.float32), block) > 0.999
    if np.count_nonzero(whole) < least_blocks:
        return 0.0
    difference = values - scipy.ndimage.uniform_filter(values, neighbourhood, mode="nearest")
    variances = _block_means(difference * difference, block)[whole]
    white_share = (1.0 - neighbourhood**-3) ** 0.5  # of the deviation of noise whose voxels do not depend on each other
    return float(np.sqrt(np.quantile(variances, smoothest_share)) / white_share)


def _block_means(values: HuArray, block: int) -> HuArray:
    means: HuArray = torch.nn.functional.avg_pool3d(torch.from_numpy(values)[None], block)[0].numpy()
    return means


def _mean_of_chosen(hu: HuArray, chosen: NDArray[np.bool_], sigmas: NDArray[np.float64]) -> HuArray:
    share = chosen.astype(np.float32)
    total = np.where(chosen, hu, np.float32(0.0))
    for axis, sigma in enumerate(sigmas):
        for array in (share, total):
            scipy.ndimage.gaussian_filter1d(array, float(sigma), axis=axis, output=array, mode="constant")
    mean: HuArray = total / np.maximum(share, np.float32(1e-6))
    return mean


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    sides = []
    for axis in range(mask.ndim):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        sides.append(slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(0, 0))
    return tuple(sides)
