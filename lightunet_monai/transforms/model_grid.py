"""From the grid of the source to the grid of the model, and what is needed to come back."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from torch import Tensor

from ..errors import GeometryError, UnsupportedImageError
from ..labels import LESION
from .resampling import AxisMap, axis_maps, resample

SHEAR_TOLERANCE_DEGREES = 0.15
"""How far axes may be from orthogonal. Across 100 mm it moves a voxel by a quarter of a millimetre; rounded
direction cosines stay below it, a tilted gantry is far above."""

SOURCE_AFFINE = "source_affine"
SOURCE_SHAPE = "source_shape"


def model_grid(
    affine: NDArray[np.float64], shape: Sequence[int], spacing: Sequence[float]
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Choose the model's grid for a source grid.

    The axes stay parallel to the source's, ordered and directed so that they run closest to right, anterior
    and superior. The grid covers the extent of the source's voxels and has the same centre.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Source voxel index to RAS+ mm.
    shape : sequence of int
        Source size (X, Y, Z).
    spacing : sequence of float
        Wanted spacing along right, anterior, superior, mm.

    Returns
    -------
    affine : ndarray of float64, shape (4, 4)
    shape : tuple of int
    """
    columns = affine[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    directions = columns / lengths
    order = _closest_axes(directions)
    signs = np.sign([directions[world, axis] for world, axis in enumerate(order)])
    extent = np.array([lengths[axis] * shape[axis] for axis in order])
    size = np.maximum(1, np.ceil(extent / np.asarray(spacing) - 1e-3)).astype(int)
    linear = directions[:, order] * signs * np.asarray(spacing, dtype=np.float64)
    centre = columns @ ((np.asarray(shape) - 1) / 2) + affine[:3, 3]
    grid = np.eye(4)
    grid[:3, :3] = linear
    grid[:3, 3] = centre - linear @ ((size - 1) / 2)
    return grid, (int(size[0]), int(size[1]), int(size[2]))


def _closest_axes(directions: NDArray[np.float64]) -> list[int]:
    # Give each world axis one source axis, the largest cosine first, so that an oblique volume never uses one twice.
    cosines = np.abs(directions).copy()
    order = [-1, -1, -1]
    for _ in range(3):
        world, axis = np.unravel_index(cosines.argmax(), cosines.shape)
        order[int(world)] = int(axis)
        cosines[world, :] = -1
        cosines[:, axis] = -1
    return order


class ToModelGridd(MapTransform):
    """Reorient and resample volumes to the model's spacing; remember the source's grid.

    Takes a `MetaTensor` (1, X, Y, Z) with any orthogonal affine, gives float32 (1, X', Y', Z') with axes
    closest to right, anterior, superior. ``meta["source_affine"]`` and ``meta["source_shape"]`` keep the
    grid to come back to.

    Parameters
    ----------
    keys : keys of the volumes
    spacing : sequence of float
        Spacing of the model along right, anterior, superior, mm.
    label_keys : keys, among ``keys``, of label maps
        A label map of 0 and 1 is resampled as a fraction and set to 1 from one half on.
    has_tissues : bool
        Label maps hold further labels: the lesion (label 1) is drawn in the same way, and elsewhere the label is the
        one of the others with the largest fraction.
    allow_missing_keys : bool
        Do not fail on a key that is not there.

    Raises
    ------
    GeometryError
        If the axes of a volume are not orthogonal, as with a tilted gantry.
    UnsupportedImageError
        If a label map without tissues has more than one value above 0.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing: Sequence[float],
        label_keys: KeysCollection = (),
        allow_missing_keys: bool = False,
        has_tissues: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.has_tissues = has_tissues
        self.spacing = tuple(float(s) for s in spacing)
        self.label_keys = {label_keys} if isinstance(label_keys, str) else set(label_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample each key; other entries pass through."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self._resample(out[key], is_label=key in self.label_keys)
        return out

    def _resample(self, volume: MetaTensor, *, is_label: bool) -> MetaTensor:
        affine = np.asarray(volume.affine, dtype=np.float64)
        _check_orthogonal(affine)
        source_shape = tuple(volume.shape[1:])
        grid, shape = model_grid(affine, source_shape, self.spacing)
        maps = axis_maps(affine, grid)
        array = volume.as_tensor() if isinstance(volume, MetaTensor) else torch.as_tensor(volume)
        if is_label and self.has_tissues:
            resampled = _resample_labels(array[0], maps, shape)
        else:
            values = _lesions(array[0], volume) if is_label else array[0]
            resampled = resample(values, maps, shape)
            if is_label:
                resampled = (resampled >= 0.5).float()
        meta = {key: value for key, value in volume.meta.items() if key != "affine"}
        meta[SOURCE_AFFINE] = torch.as_tensor(affine)
        meta[SOURCE_SHAPE] = torch.as_tensor(source_shape)
        meta["spatial_shape"] = np.asarray(shape)
        return MetaTensor(resampled[None], affine=torch.as_tensor(grid), meta=meta)


def holds_one_value(labels: Tensor) -> bool:
    """Whether a label map has no more than one value beside 0."""
    return not bool(((labels != 0) & (labels != labels.max())).any())


def check_one_value(labels: Tensor, name: str) -> None:
    """Refuse a label map with more than one value beside 0, where all lesions have one and there is nothing else.

    Parameters
    ----------
    labels : Tensor
        The label map.
    name : str
        What to call it in the message.

    Raises
    ------
    UnsupportedImageError
        Names the values.
    """
    if not holds_one_value(labels):
        found = ", ".join(f"{value:g}" for value in torch.unique(labels).tolist())
        raise UnsupportedImageError(
            f"{name}: holds the values {found}, expected 0 and one other value: lesions.",
            hint="Write one value for all lesions and 0 for everything else; a model with tissues takes more values "
            "(--model tissues).",
            reason="label-values",
        )


def unify_lesions(label_map: MetaTensor, labels: Collection[int], name: str) -> MetaTensor:
    """Give a label map of one value above 0, such as 255, with 1 in its place; any other one as it is.

    Where there are labels of tissues the value may not be one of them: what it means would be a guess.

    Parameters
    ----------
    label_map : MetaTensor of uint8, shape (1, X, Y, Z)
        Changed in place.
    labels : collection of int
        Values of all labels where there are tissues; empty where there are none.
    name : str
        Of its file, for the message.

    Raises
    ------
    UnsupportedImageError
        With labels of tissues, if it holds a value that is no label beside others, or that of one tissue alone.
    """
    array = label_map.as_tensor()
    only_one = bool(array.max() > LESION) and holds_one_value(array)
    if labels:
        found = sorted(set(torch.unique(array).tolist()) - {0})
        unknown = [value for value in found if value not in labels]
        if (unknown and not only_one) or (only_one and not unknown):
            raise UnsupportedImageError(
                f"{name}: the label map holds the values {found}, expected some of {sorted(labels)}, "
                f"or one value for lesions that is none of them but {LESION}.",
                hint=f"Write {LESION} for lesions; the tissues may lie in a file of their own (datalist --tissues).",
                reason="label-values",
            )
    if only_one:
        array[array != 0] = LESION
    return label_map


def _lesions(labels: Tensor, volume: MetaTensor) -> Tensor:
    """1 where a label map has its one value above 0: half of a voxel is half of it, whatever the value."""
    check_one_value(labels, str(dict(volume.meta).get("filename_or_obj", "the label map")))
    return (labels != 0).float()


def _resample_labels(labels: Tensor, maps: tuple[AxisMap, ...], shape: tuple[int, ...]) -> Tensor:
    best = torch.zeros(shape, device=labels.device)
    drawn = torch.zeros(shape, device=labels.device)
    for value in torch.unique(labels).tolist():
        if value != LESION:
            fraction = resample((labels == value).float(), maps, shape)
            drawn = torch.where(fraction > best, float(value), drawn)
            best = torch.maximum(best, fraction)
    lesion = resample((labels == LESION).float(), maps, shape) >= 0.5
    return torch.where(lesion, float(LESION), drawn)


def _check_orthogonal(affine: NDArray[np.float64]) -> None:
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = np.abs(directions.T @ directions - np.eye(3)).max()
    degrees = float(np.degrees(np.arcsin(min(1.0, cosine))))
    if not degrees <= SHEAR_TOLERANCE_DEGREES:
        raise GeometryError(
            f"the axes of the volume are {degrees:.2f} degrees away from orthogonal, "
            f"expected at most {SHEAR_TOLERANCE_DEGREES}.",
            hint="Ask for the series without gantry tilt, or use --regularize.",
            reason="shear",
        )
