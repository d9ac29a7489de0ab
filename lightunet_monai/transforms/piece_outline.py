"""Where a connected piece ends: at the edge in the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import NDArray

_FACES = np.zeros((3, 3, 3), dtype=bool)
_FACES[1, 1], _FACES[1, :, 1], _FACES[:, 1, 1] = True, True, True


@dataclass(frozen=True)
class PieceOutline:
    """Find the logit at which the contour of a piece lies on the edge that the image shows.

    No logit suits all tumours. The network is sure of a large plain mass far out, of a pale or small one hardly in its
    middle; drawn at one logit, the first comes out too large and the second too small. Among the contours of the
    network's logits around a piece one lies on the image's own edge: that across which the Hounsfield units fall most,
    by the mean over its voxels. The mean step is computed for contours from `lowest` to `highest`, smoothed, and its
    maximum placed between the steps by a parabola.

    Parameters
    ----------
    lowest, highest : float
        Logits from and to which contours are tried.
    step : float
        Between two contours, logits.
    smoothing : float
        Standard deviation of the Gaussian over contours, logits.
    reach : float
        How far outside of a piece, drawn at the logit of the judgement, its contour may lie, voxels.
    smallest_share : float
        Of the piece so drawn that must stay inside: where there is hardly an edge, the brightest few voxels of a large
        piece must not be taken for it.
    fewest_voxels : int
        On the inner side of a contour: of fewer the step across it is noise.
    """

    lowest: float = -6.0
    highest: float = 8.0
    step: float = 0.25
    smoothing: float = 0.5
    reach: float = 2.5
    smallest_share: float = 0.5
    fewest_voxels: int = 4

    def level(
        self,
        margin: NDArray[np.float32],
        hu: NDArray[np.float32],
        piece: NDArray[np.bool_],
        near: NDArray[np.bool_],
        tissue: NDArray[np.bool_],
    ) -> float | None:
        """Give the logit of the contour with the largest step.

        Parameters
        ----------
        margin : ndarray, shape (X, Y, Z)
            Logit of the tumour minus that of the background, around one piece.
        hu : ndarray, shape (X, Y, Z)
            Hounsfield units on any scale.
        piece : ndarray of bool, shape (X, Y, Z)
            As drawn at the logit of the judgement.
        near : ndarray of bool, shape (X, Y, Z)
            The piece, and where its contour may lie; at least one voxel apart from the sides of the array, unless
            these are the sides of the volume.
        tissue : ndarray of bool, shape (X, Y, Z)
            Only such voxels count outside of a contour: the step from skin to air is not that of a tumour.

        Returns
        -------
        float or None
            From `lowest` to `highest`; None where no contour is brighter inside than outside.
        """
        levels = np.arange(self.lowest, self.highest + self.step / 2, self.step)
        inside = np.where(near, margin, -np.inf).astype(np.float32)
        # A voxel lies on the inner side of all contours between its lowest neighbour and itself, on the outer side of
        # those between itself and its highest neighbour. So one pass over the voxels serves all contours.
        lowest = scipy.ndimage.minimum_filter(inside, footprint=_FACES, mode="constant", cval=np.inf)
        highest = scipy.ndimage.maximum_filter(inside, footprint=_FACES, mode="constant", cval=-np.inf)
        inner_count, inner_sum = _over_levels(levels, lowest, inside, hu)
        outer_count, outer_sum = _over_levels(levels, inside[tissue], highest[tissue], hu[tissue])
        drawn = np.count_nonzero(near) - np.searchsorted(np.sort(margin[near]), levels)
        enough = (inner_count >= self.fewest_voxels) & (outer_count > 0)
        enough &= drawn >= self.smallest_share * np.count_nonzero(piece)
        steps = np.where(enough, inner_sum / np.maximum(inner_count, 1) - outer_sum / np.maximum(outer_count, 1), 0.0)
        smooth = np.where(enough, scipy.ndimage.gaussian_filter1d(steps, self.smoothing / self.step), 0.0)
        best = int(smooth.argmax())
        if smooth[best] <= 0.0:
            return None
        if 0 < best < len(levels) - 1:
            before, here, after = smooth[best - 1 : best + 2]
            bend = before - 2.0 * here + after
            if bend < 0:
                return float(levels[best] + self.step * 0.5 * (before - after) / bend)
        return float(levels[best])


def _over_levels(
    levels: NDArray[np.float64], low: NDArray[np.float32], high: NDArray[np.float32], values: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Number and sum of the values whose interval (low, high] holds a level, for each level."""
    first, last = np.searchsorted(levels, low.ravel(), "right"), np.searchsorted(levels, high.ravel(), "right")
    crossed = first < last
    first, last, weights = first[crossed], last[crossed], values.ravel()[crossed].astype(np.float64)
    size = len(levels) + 1
    count = np.bincount(first, minlength=size) - np.bincount(last, minlength=size)
    total = np.bincount(first, weights, size) - np.bincount(last, weights, size)
    return count.cumsum()[:-1].astype(np.float64), total.cumsum()[:-1]
