"""Cupping and shading, measured in adipose tissue and taken away."""

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

from .inner_tissue import inner_tissue

BIN_HU = 4.0
"""Of the histogram that tells adipose from glandular tissue."""

HALF_WEIGHT = 0.01
"""Share of adipose voxels at which a neighbourhood counts as much as the wider one around it."""

ENOUGH_VOXELS = 200_000
"""For a median to be known to a hundredth of the deviation."""

MAD_TO_DEVIATION = 1.4826
"""Standard deviation of a normal distribution / median absolute deviation."""

HuArray = NDArray[np.float32]


class CorrectShadingd(MapTransform):
    """Take away slow changes of brightness, so that adipose tissue has the same Hounsfield units everywhere.

    Scatter and beam hardening darken the middle of a breast (cupping), the chest wall and the heel effect shade its
    ends. These changes are as large as what tells a tumour from gland. Adipose tissue is in every part of nearly every
    breast and hardly differs in it, so what it shows is the shading. (The idea is that of Qu, Lai, Zhong, Yi and Shaw,
    "A general method for cupping artifact correction of cone-beam breast computed tomography images", Int J CARS 2015,
    who fit the peaks of local histograms.) Its local mean, a Gaussian of `sigma_mm`, less its median is subtracted from
    all tissue. Where there is none, the mean of a three times wider neighbourhood counts, then that of the volume.

    Adipose voxels are found in tissue deeper than skin: first those below Otsu's threshold; their outermost voxels,
    which hold other tissue in part, are left out of the mean. Then, `rounds` times, they are chosen anew, by what is
    left of their brightness, within `deviations` of its median, and the local mean of what is left is taken away, too:
    one mean alone flattens a cup, where the breast is small by a third only.

    Takes a `MetaTensor` (1, X, Y, Z) in Hounsfield units with its affine and gives one like it, float32. A volume with
    less adipose tissue than `least_ml` stays as it is.

    Parameters
    ----------
    keys : keys of the volumes
    tissue_hu : float
        Above is tissue, below air and lung.
    mineral_hu : float
        Above is bone, mineral, metal or an implant, which must not decide where adipose tissue ends.
    skin_mm : float
        How deep skin reaches.
    sigma_mm : float
        Standard deviation of the Gaussian, mm.
    deviations : (float, float)
        How many (robust) standard deviations below and above the median difference a voxel of adipose tissue may be.
    rounds : int
        How often the adipose voxels are chosen anew.
    least_ml : float
        Least adipose tissue, millilitres.
    """

    def __init__(
        self,
        keys: KeysCollection,
        tissue_hu: float,
        mineral_hu: float,
        skin_mm: float,
        sigma_mm: float,
        deviations: tuple[float, float],
        rounds: int,
        least_ml: float,
    ) -> None:
        super().__init__(keys)
        self.tissue_hu = float(tissue_hu)
        self.mineral_hu = float(mineral_hu)
        self.skin_mm = float(skin_mm)
        self.sigma_mm = float(sigma_mm)
        self.deviations = (float(deviations[0]), float(deviations[1]))
        self.rounds = int(rounds)
        self.least_ml = float(least_ml)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Correct each key; other entries pass through."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self._correct(out[key])
        return out

    def _correct(self, volume: MetaTensor) -> MetaTensor:
        hu = volume.as_tensor().cpu().numpy()[0].astype(np.float32, copy=False)
        spacing = np.linalg.norm(np.asarray(volume.affine, dtype=np.float64)[:3, :3], axis=0)
        tissue = hu > self.tissue_hu
        inner = inner_tissue(tissue, round(self.skin_mm / float(spacing.mean())))
        box = _box_of_blocks(inner, _blocks(self.sigma_mm / spacing))
        shading = self._shading(hu[box], inner[box], spacing)
        if shading is None:
            return volume
        corrected = hu.copy()
        np.subtract(hu[box], shading, out=corrected[box], where=tissue[box])
        meta = {key: value for key, value in volume.meta.items() if key != "affine"}
        return MetaTensor(torch.from_numpy(corrected)[None], affine=volume.affine, meta=meta)

    def _shading(self, hu: HuArray, inner: NDArray[np.bool_], spacing: NDArray[np.float64]) -> HuArray | None:
        """Return what is to be subtracted, HU, with a median of 0 in inner tissue; None without adipose tissue."""
        least = max(1, int(self.least_ml * 1000.0 / float(np.prod(spacing))))
        soft = inner & (hu < self.mineral_hu)
        if np.count_nonzero(soft) < least:
            return None
        adipose = inner & (hu < otsu_threshold(hu[soft]))
        shading = np.zeros_like(hu)
        for round_ in range(self.rounds + 1):
            left = hu - shading
            if round_ > 0:
                adipose = self._near_the_median(left, inner, adipose)
            core = _without_outermost(adipose)
            if np.count_nonzero(core) < least:
                core = adipose
            if np.count_nonzero(core) < least:
                return None
            shading = shading + local_mean(left, core, self.sigma_mm / spacing)
        shading -= np.median(shading[inner])
        return shading

    def _near_the_median(
        self, difference: HuArray, inner: NDArray[np.bool_], adipose: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        sample = difference[adipose]
        sample = sample[:: max(1, sample.size // ENOUGH_VOXELS)]
        middle = np.median(sample)
        deviation = MAD_TO_DEVIATION * np.median(np.abs(sample - middle))
        low, high = middle - self.deviations[0] * deviation, middle + self.deviations[1] * deviation
        near: NDArray[np.bool_] = inner & (difference >= low) & (difference <= high)
        return near


def otsu_threshold(hu: NDArray[np.floating]) -> float:
    """Return the value that parts a sample into two classes best (Otsu 1979, doi:10.1109/TSMC.1979.4310076)."""
    edges = np.arange(float(hu.min()), float(hu.max()) + 2.0 * BIN_HU, BIN_HU)
    counts = np.histogram(hu, bins=edges)[0].astype(np.float64)
    centres = 0.5 * (edges[1:] + edges[:-1])
    below = counts.cumsum() / counts.sum()
    mean_below = (counts * centres).cumsum() / counts.sum()
    between = (mean_below[-1] * below - mean_below) ** 2 / np.maximum(below * (1.0 - below), 1e-12)
    return float(edges[1:][between.argmax()])


def local_mean(hu: HuArray, chosen: NDArray[np.bool_], sigmas: NDArray[np.float64]) -> HuArray:
    """Return the Gaussian mean of the chosen voxels around each voxel, with wider ones where there are few.

    Computed on blocks of about a third of the sigma.

    Parameters
    ----------
    hu : ndarray of float32, shape (X, Y, Z)
    chosen : ndarray of bool, shape (X, Y, Z)
        At least one voxel.
    sigmas : ndarray, shape (3,)
        Voxels.

    Returns
    -------
    ndarray of float32, shape (X, Y, Z)
    """
    block = _blocks(sigmas)
    shares = _block_means(chosen.astype(np.float32), block)
    sums = _block_means(np.where(chosen, hu, np.float32(0.0)), block)
    mean = np.full(shares.shape, np.float32(hu[chosen].mean()))
    for width in (3.0, 1.0):
        reach = [width * float(sigma) / size for sigma, size in zip(sigmas, block, strict=True)]
        share = scipy.ndimage.gaussian_filter(shares, reach, mode="constant")
        total = scipy.ndimage.gaussian_filter(sums, reach, mode="constant")
        mean = (total + HALF_WEIGHT * mean) / (share + HALF_WEIGHT)
    padded = [size * mean.shape[axis] for axis, size in enumerate(block)]
    fine = torch.nn.functional.interpolate(
        torch.from_numpy(mean)[None, None], size=padded, mode="trilinear", align_corners=False
    )[0, 0]
    shape = hu.shape
    return fine[: shape[0], : shape[1], : shape[2]].numpy()


def _without_outermost(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels whose six neighbours are chosen, too (a binary erosion, ten times as fast as SciPy's)."""
    kept: NDArray[np.bool_] = mask.copy()
    for axis in range(3):
        along, here = np.moveaxis(mask, axis, 0), np.moveaxis(kept, axis, 0)
        here[1:] &= along[:-1]
        here[:-1] &= along[1:]
        here[[0, -1]] = False
    return kept


def _blocks(sigmas: NDArray[np.float64]) -> list[int]:
    return [max(1, round(float(sigma) / 3.0)) for sigma in sigmas]


def _box_of_blocks(inner: NDArray[np.bool_], block: list[int]) -> tuple[slice, ...]:
    """Return the box of whole blocks, counted from the volume's first voxel, around the inner tissue and its skin."""
    sides = []
    for axis, size in enumerate(block):
        filled = np.flatnonzero(inner.any(axis=tuple(other for other in range(3) if other != axis)))
        first, last = (int(filled[0]), int(filled[-1])) if filled.size else (0, 0)
        sides.append(slice(max(0, first // size - 2) * size, (last // size + 3) * size))
    return tuple(sides)


def _block_means(values: HuArray, block: list[int]) -> HuArray:
    padding = [(0, -values.shape[axis] % size) for axis, size in enumerate(block)]
    padded = np.pad(values, padding)
    means: HuArray = torch.nn.functional.avg_pool3d(torch.from_numpy(padded)[None], block)[0].numpy()
    return means
