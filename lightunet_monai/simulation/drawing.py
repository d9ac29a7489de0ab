"""The label map as a careful reader would draw it: one connected piece per tumour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from .grid import Grid
from .lesions import Lesion

TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a corner belong together."""


def draw_label(
    tumour: torch.Tensor, lesions: list[Lesion], grid: Grid, *, without_image: torch.Tensor | None = None
) -> tuple[NDArray[np.uint8], tuple[Lesion, ...]]:
    """Return the label map and the lesions with their voxel counts.

    Voxels are tumour from a share of one half. Tips of spicules that come loose in this are not drawn: of the pieces
    nearest to a lesion, the largest stays. What has no image is then taken away, and all that is left of the piece
    stays: a tumour on both sides of a lost slice is labelled on both.

    Parameters
    ----------
    tumour : tensor of float32, shape (X, Y, Z)
        Share of each voxel that is labelled tumour.
    lesions : list of Lesion
        Of this case.
    grid : Grid
        Of `tumour`.
    without_image : tensor of bool, shape (X, Y, Z), optional
        Voxels that show nothing and have no label.
    """
    label: NDArray[np.uint8] = (tumour >= 0.5).to(torch.uint8).cpu().numpy()
    pieces, count = ndimage.label(label, structure=TOUCHING)
    if count == 0 or not lesions:
        return label, tuple(lesions)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    middles = np.asarray(ndimage.center_of_mass(label, pieces, np.arange(1, count + 1)))
    world = middles * np.asarray(grid.spacing) + np.asarray(grid.origin)
    centres = np.asarray([lesion.centre for lesion in lesions])
    radii = np.asarray([lesion.equivalent_diameter / 2.0 for lesion in lesions])
    owner = np.argmin(np.linalg.norm(world[:, None] - centres[None], axis=2) - radii, axis=1)
    kept = np.zeros(len(lesions), dtype=np.int64)  # the piece of each lesion, 0 without one
    for number in range(len(lesions)):
        own = np.flatnonzero(owner == number)
        if own.size:
            kept[number] = own[np.argmax(sizes[own])] + 1
    label *= np.isin(np.arange(count + 1), kept)[pieces]
    if without_image is not None:
        label[without_image.cpu().numpy()] = 0
    voxels = np.bincount(pieces[label > 0], minlength=count + 1)[kept]
    return label, tuple(replace(lesion, label_voxels=int(n)) for lesion, n in zip(lesions, voxels, strict=True))
