"""Segmentation without learning: threshold, region growing, edges and watershed, for scripts/compare_networks.py.

Each method takes an image in [0, 1] of two or three dimensions and gives a mask of the lesion. None has a fixed
setting: `tune` tries the settings of its grid on labelled training images and keeps the one with the greatest
mean Dice. Test images are never seen by it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_multiotsu
from skimage.segmentation import watershed

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Settings = Mapping[str, Any]

GREY_LEVELS = 64
"""Of the histogram of Otsu's method: enough for two to four classes, and quick."""

INSIDE = 1
OUTSIDE = 2
"""Labels of the two markers of the watershed."""


@dataclass(frozen=True)
class Baseline:
    """One row of the table.

    Parameters
    ----------
    title : str
    segment : callable
        Image and settings to mask.
    grid : mapping
        Setting to the values that are tried.
    """

    title: str
    segment: Callable[..., Mask]
    grid: Mapping[str, Sequence[Any]]

    def settings(self) -> list[dict[str, Any]]:
        """Every setting of the grid."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


def otsu(image: Image, *, dark: bool, sigma: float, classes: int, largest: bool) -> Mask:
    """The extreme class of Otsu's thresholds (Otsu 1979; Liao 2001 for more than two classes) in smoothed tissue."""
    smooth, tissue = _prepare(image, dark, sigma)
    if np.unique(smooth[tissue]).size <= classes:
        return np.zeros(image.shape, bool)
    threshold = threshold_multiotsu(smooth[tissue], classes=classes, nbins=GREY_LEVELS)[-1]
    return _tidy((smooth > threshold) & tissue, largest)


def region_growing(image: Image, *, dark: bool, sigma: float, seed_sigma: float, multiplier: float) -> Mask:
    """What is joined to the most extreme place and within some standard deviations of its surroundings."""
    smooth, tissue = _prepare(image, dark, sigma)
    if not tissue.any():
        return np.zeros(image.shape, bool)
    seed = _seed(smooth, tissue, seed_sigma)
    grown = SimpleITK.ConfidenceConnected(
        SimpleITK.GetImageFromArray(smooth),
        seedList=[tuple(int(i) for i in reversed(seed))],  # SimpleITK counts the last axis first
        numberOfIterations=3,
        multiplier=multiplier,
        initialNeighborhoodRadius=2,
    )
    return _tidy((SimpleITK.GetArrayFromImage(grown) > 0) & tissue, largest=False)


def edges_and_fill(image: Image, *, dark: bool, sigma: float, strong: float, closing: int) -> Mask:
    """Canny's edges, closed and filled; of the filled pieces the most extreme one (brightness times size)."""
    smooth, tissue = _prepare(image, dark, 0.0)
    slope = ndimage.gaussian_gradient_magnitude(smooth, sigma)
    if not tissue.any() or slope[tissue].max() <= 0:
        return np.zeros(image.shape, bool)
    upper = float(np.quantile(slope[tissue], strong))
    canny = SimpleITK.CannyEdgeDetection(
        SimpleITK.GetImageFromArray(smooth),
        lowerThreshold=upper / 2,
        upperThreshold=upper,
        variance=[sigma**2] * image.ndim,
    )
    edges = SimpleITK.GetArrayFromImage(canny) > 0
    ball = ndimage.generate_binary_structure(image.ndim, 1)
    closed = np.pad(edges, closing)
    closed = ndimage.binary_closing(closed, ball, iterations=closing)
    filled = ndimage.binary_fill_holes(closed)[(slice(closing, -closing),) * image.ndim]
    return _most_extreme(ndimage.binary_opening(filled, ball, iterations=2) & tissue, smooth, tissue)


def marker_watershed(image: Image, *, dark: bool, sigma: float, seed_sigma: float, inside: float) -> Mask:
    """Watershed of the slope from two markers: around the most extreme place, and what is plainly not extreme."""
    smooth, tissue = _prepare(image, dark, sigma)
    if not tissue.any():
        return np.zeros(image.shape, bool)
    seed = _seed(smooth, tissue, seed_sigma)
    core, _ = ndimage.label((smooth >= np.quantile(smooth[tissue], inside)) & tissue)
    markers = np.zeros(image.shape, np.int32)
    markers[smooth <= np.median(smooth[tissue])] = OUTSIDE
    markers[~tissue] = OUTSIDE
    if core[seed]:
        markers[core == core[seed]] = INSIDE
    markers[seed] = INSIDE
    slope = ndimage.gaussian_gradient_magnitude(smooth, 1.0)
    return _tidy((watershed(slope, markers) == INSIDE) & tissue, largest=False)


SIGNS = (False, True)
BASELINES = {
    "otsu": Baseline(
        "Otsu threshold",
        otsu,
        {"dark": SIGNS, "sigma": (1.0, 3.0), "classes": (2, 3, 4), "largest": (True, False)},
    ),
    "region_growing": Baseline(
        "region growing",
        region_growing,
        {"dark": SIGNS, "sigma": (1.0, 2.0), "seed_sigma": (3.0, 8.0), "multiplier": (1.5, 2.5, 3.5)},
    ),
    "edges": Baseline(
        "edges and fill",
        edges_and_fill,
        {"dark": SIGNS, "sigma": (1.0, 2.0, 4.0), "strong": (0.8, 0.9), "closing": (2, 5)},
    ),
    "watershed": Baseline(
        "watershed",
        marker_watershed,
        {"dark": SIGNS, "sigma": (1.0, 3.0), "seed_sigma": (3.0, 8.0), "inside": (0.9, 0.95, 0.99)},
    ),
}
"""Name on the command line: the method and the grid of its settings. Sigmas are in pixels or voxels."""


def tune(baseline: Baseline, images: Sequence[Image], masks: Sequence[Mask]) -> tuple[dict[str, Any], float]:
    """Choose the settings with the greatest mean Dice on these images; of equals the first of the grid.

    Returns
    -------
    dict
        The settings.
    float
        Their mean Dice on the images they were chosen on: better than what new images will give.
    """
    best: tuple[dict[str, Any], float] | None = None
    for settings in baseline.settings():
        scores = [
            mask_dice(baseline.segment(image, **settings), mask) for image, mask in zip(images, masks, strict=True)
        ]
        mean = float(np.mean(scores))
        if best is None or mean > best[1]:
            best = settings, mean
    assert best is not None
    return best


def mask_dice(found: Mask, expected: Mask) -> float:
    """Dice of two masks; 1 if both are empty."""
    total = int(found.sum()) + int(expected.sum())
    return 2 * int((found & expected).sum()) / total if total else 1.0


def _prepare(image: Image, dark: bool, sigma: float) -> tuple[Image, Mask]:
    # Turned so that the lesion is bright; what was 0 before (air, the black frame) is not tissue.
    tissue = image > 0
    turned = np.asarray(1 - image if dark else image, np.float32)
    return (ndimage.gaussian_filter(turned, sigma) if sigma else turned), tissue


def _seed(smooth: Image, tissue: Mask, sigma: float) -> tuple[int, ...]:
    # The mean over the tissue near each place: the frame around it must not count as dark or bright.
    weight = ndimage.gaussian_filter(tissue.astype(np.float32), sigma)
    mean = ndimage.gaussian_filter(np.where(tissue, smooth, 0), sigma) / np.maximum(weight, 1e-6)
    index = np.argmax(np.where(tissue, mean, -np.inf))
    return tuple(int(i) for i in np.unravel_index(index, smooth.shape))


def _tidy(mask: Mask, largest: bool) -> Mask:
    ball = ndimage.generate_binary_structure(mask.ndim, 1)
    opened = ndimage.binary_opening(mask, ball)
    if not largest:
        return np.asarray(ndimage.binary_fill_holes(opened), bool)
    labels, count = ndimage.label(opened)
    if count == 0:
        return opened
    sizes = np.bincount(labels.ravel())
    return np.asarray(ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes[1:]))), bool)


def _most_extreme(mask: Mask, smooth: Image, tissue: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    excess = np.where(tissue, smooth - np.median(smooth[tissue]), 0)
    sums = ndimage.sum_labels(excess, labels, np.arange(1, count + 1))
    best = int(np.argmax(sums))
    return np.asarray((labels == 1 + best) if sums[best] > 0 else np.zeros(mask.shape), bool)
