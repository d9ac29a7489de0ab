"""Lesions as connected components of a label map, with stable numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from lightunet_monai.labels import Label
from lightunet_monai.segmentation import Segmentation

CONNECTIVITY = 26
"""Voxels that share a face, an edge or a corner belong to one lesion."""


@dataclass(frozen=True)
class LesionMask:
    """One lesion in its bounding box.

    Parameters
    ----------
    number : int
        1 for the largest lesion of the case, then in order of decreasing volume.
    label : Label
        The structure it was labelled as.
    start : tuple of int
        Voxel index of the first corner of the box in the label map.
    mask : ndarray of bool, shape (x, y, z)
        True on the lesion.
    """

    number: int
    label: Label
    start: tuple[int, int, int]
    mask: NDArray[np.bool_]

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The bounding box as an index into the label map."""
        x, y, z = (slice(start, start + size) for start, size in zip(self.start, self.mask.shape, strict=True))
        return x, y, z

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.count_nonzero(self.mask))

    @property
    def title(self) -> str:
        """What people read, for example ``"Breast mass 1"``."""
        return f"{self.label.title} {self.number}"


def is_lesion(label: Label) -> bool:
    """Tell whether a label stands for a finding and not for normal anatomy."""
    return label.is_lesion


def find_lesions(segmentation: Segmentation) -> tuple[LesionMask, ...]:
    """Split the lesion labels of a label map into lesions.

    A lesion is a 26-connected component of voxels of one label. The largest gets number 1. Lesions with equal numbers
    of voxels are ordered by their centroid in patient space: superior, then anterior, then right first. So the
    numbers depend on the label map and its affine only, not on the order in which voxels are stored.

    Parameters
    ----------
    segmentation : Segmentation
        Label map (X, Y, Z).

    Returns
    -------
    tuple of LesionMask
    """
    values = list(segmentation.labels.lesions)
    box = _box_of_values(segmentation.label_map, values)
    if box is None:
        return ()
    kept = np.zeros(256, dtype=np.uint8)
    kept[values] = values
    crop = kept[segmentation.label_map[box]]
    components, count = cc3d.connected_components(crop, connectivity=CONNECTIVITY, return_N=True)
    statistics = cc3d.statistics(components, no_slice_conversion=False)
    found = []
    for index in range(1, int(count) + 1):
        inner = statistics["bounding_boxes"][index]
        mask = components[inner] == index
        start = tuple(int(outer.start + part.start) for outer, part in zip(box, inner, strict=True))
        centroid = statistics["centroids"][index] + [part.start for part in box]
        world = segmentation.affine[:3, :3] @ centroid + segmentation.affine[:3, 3]
        label = segmentation.labels[int(crop[inner][mask][0])]
        # Micrometres: far below a voxel, far above the rounding of the mean.
        order = (-int(statistics["voxel_counts"][index]), *(-np.round(world[::-1], 3)))
        found.append((order, label, start, mask))
    found.sort(key=lambda item: item[0])
    return tuple(
        LesionMask(number, label, (start[0], start[1], start[2]), mask)
        for number, (_, label, start, mask) in enumerate(found, start=1)
    )


def _box_of_values(label_map: NDArray[np.uint8], values: list[int]) -> tuple[slice, slice, slice] | None:
    """Bounding box of everything labelled, or None if none of `values` may occur in it."""
    if not values:
        return None
    occupied = label_map.any(axis=(0, 1)) if label_map.flags.f_contiguous else label_map.any(axis=(1, 2))
    axis = 2 if label_map.flags.f_contiguous else 0
    if not occupied.any():
        return None
    box = [slice(None)] * 3
    box[axis] = _span(occupied)
    slab = label_map[tuple(box)]
    for other in {0, 1, 2} - {axis}:
        box[other] = _span(slab.any(axis=tuple({0, 1, 2} - {other})))
    return box[0], box[1], box[2]


def _span(occupied: Any) -> slice:
    indices = np.flatnonzero(occupied)
    return slice(int(indices[0]), int(indices[-1]) + 1)
