"""One Hounsfield scale for all scanners: adipose tissue is moved to a fixed value."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

BIN_WIDTH_HU = 5.0
SMOOTHING_HU = 15.0
"""Standard deviation of the histogram's smoothing: noise leaves no peaks of its own, adipose tissue and gland stay
two peaks."""

MIN_VOXELS = 1000
"""Fewer voxels in the histogram make no peak worth trusting."""


def adipose_peak(
    voxels: NDArray[np.float32], *, search_hu: tuple[float, float], tissue_hu: tuple[float, float], prominence: float
) -> float | None:
    """Find the most frequent Hounsfield value of adipose tissue.

    It is the lowest peak of the smoothed histogram in the search range that is not small: adipose tissue lies below
    fibroglandular tissue on every scanner, also where the gland is the larger part.

    Parameters
    ----------
    voxels : ndarray
        Hounsfield units, any shape.
    search_hu : (float, float)
        Where the peak may lie.
    tissue_hu : (float, float)
        Voxels that count; below is air and lung, above bone and metal.
    prominence : float
        Least height of the peak, as a share of the highest.

    Returns
    -------
    float or None
        Hounsfield units; None where there is no such peak.
    """
    edges = np.arange(tissue_hu[0], tissue_hu[1] + BIN_WIDTH_HU, BIN_WIDTH_HU)
    counts = np.histogram(voxels, bins=edges)[0].astype(np.float64)
    if counts.sum() < MIN_VOXELS:
        return None
    centres = (edges[1:] + edges[:-1]) / 2.0
    reach = int(np.ceil(4.0 * SMOOTHING_HU / BIN_WIDTH_HU))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * BIN_WIDTH_HU / SMOOTHING_HU) ** 2)
    smooth = np.convolve(counts, kernel / kernel.sum(), mode="same")
    is_peak = (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:]) & (smooth[1:-1] > prominence * smooth.max())
    candidates = centres[1:-1][is_peak]
    candidates = candidates[(candidates >= search_hu[0]) & (candidates <= search_hu[1])]
    return float(candidates[0]) if candidates.size else None


class AnchorAdiposed(MapTransform):
    """Shift a volume so that its adipose tissue has a fixed Hounsfield value.

    The scale of cone-beam breast CT is off by tens of Hounsfield units, from scatter and from the vendor's choice
    (an adipose peak anywhere from -200 to -30). One shift for the whole volume takes most of that away and
    changes no contrast within it. Where no adipose peak is found the volume stays as it is, and a warning says so.

    Takes and gives `MetaTensor` (1, X, Y, Z) in Hounsfield units.

    Parameters
    ----------
    keys : keys of the volumes
    reference_hu : float
        Value that the adipose peak is moved to.
    search_hu : (float, float)
        Where the peak may lie.
    tissue_hu : (float, float)
        Voxels that are counted.
    prominence : float
        Least height of the peak, as a share of the highest peak of the tissue.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reference_hu: float,
        search_hu: tuple[float, float],
        tissue_hu: tuple[float, float],
        prominence: float,
    ) -> None:
        super().__init__(keys)
        self.reference_hu = float(reference_hu)
        self.search_hu = (float(search_hu[0]), float(search_hu[1]))
        self.tissue_hu = (float(tissue_hu[0]), float(tissue_hu[1]))
        self.prominence = float(prominence)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Shift each key; other entries pass through."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self._anchor(out[key])
        return out

    def _anchor(self, volume: MetaTensor) -> MetaTensor:
        peak = adipose_peak(
            volume.as_tensor().cpu().numpy(),
            search_hu=self.search_hu,
            tissue_hu=self.tissue_hu,
            prominence=self.prominence,
        )
        meta = {key: value for key, value in volume.meta.items() if key != "affine"}
        if peak is None:
            low, high = self.search_hu
            text = f"no peak of adipose tissue between {low:g} and {high:g} HU: the Hounsfield scale is taken as it is."
            meta["warnings"] = [*meta.get("warnings", []), text]
            return MetaTensor(volume.as_tensor(), affine=volume.affine, meta=meta)
        meta["adipose_hu"] = peak
        return MetaTensor(volume.as_tensor() + (self.reference_hu - peak), affine=volume.affine, meta=meta)
