"""MONAI's way into `inputs`: one loader, no fallback.

The class names keep "LoadImage" and "SaveImage": MONAI Label and MONAI Deploy recognise a bundle's reading and
writing steps by that and leave them out when they bring a volume in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImaged, MapTransform
from monai.utils.enums import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from ..errors import GeometryError, UnsupportedImageError
from ..inputs import choose_series, discover_sources, load_volume
from ..inputs.image_header import check_affine, check_shape
from ..inputs.plausibility import ct_warnings, refuse_other_units
from ..labels import LabelTable
from ..sources import DicomSeries, ImageFile, as_path
from .model_grid import unify_lesions

logger = logging.getLogger(__name__)


class LoadImageVolumed(LoadImaged):
    """Load CT volumes through `lightunet_monai.inputs`, with all its checks.

    Under each key it takes a path (file, DICOM folder, zip), an `ImageSource` or a volume in memory (`MetaTensor`); a
    volume passes through unchanged if its shape and affine are those of one and its voxels are finite numbers that can
    be Hounsfield units; one whose ``meta["space"]`` is not RAS is refused. Gives
    `MetaTensor` float32 (1, X, Y, Z), Hounsfield units, affine to RAS+ mm. Where the case has an entry ``"source"``,
    the `ImageSource` that the first key was loaded from is put there: a path alone does not say it.

    Parameters
    ----------
    keys : keys of the volumes
    label_keys : keys of label maps
        Loaded as integers without the checks for CT, and required to lie on the grid of the first of ``keys``.
    allow_missing_keys : bool
        Do not fail on a key that is not there.
    assume_hu : bool
        Take stored values as Hounsfield units where a series has no rescale.
    metadata : mapping
        Content of ``metadata.json``, whose labels the segments of a DICOM SEG or ``.seg.nrrd`` may be; that of the
        shipped bundle by default.
    model : str, optional
        Which model's labels, of the shipped bundle; its default model's if it is left out.

    Raises
    ------
    InputError
        Whatever `discover_sources`, `choose_series` or `load_volume` refuse.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: KeysCollection = (),
        allow_missing_keys: bool = False,
        assume_hu: bool = False,
        metadata: Mapping[str, Any] | None = None,
        model: str | None = None,
    ) -> None:
        # Not LoadImaged's own: it would register MONAI's readers, which this loader must never fall back to.
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.label_keys = (label_keys,) if isinstance(label_keys, str) else tuple(label_keys)
        self.assume_hu = assume_hu
        self.labels = None if metadata is None else LabelTable.from_metadata(metadata)
        if model is not None:
            self.labels = LabelTable.shipped(model)
        self._first_value: tuple[int, str] | None = None
        self._is_told = False

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        """Load each key; other entries pass through. ``reader`` is MONAI's and not used."""
        out = dict(data)
        for key in self.key_iterator(out):
            item = self._choose(out[key])
            if "source" in out and key == self.first_key(out) and isinstance(item, (ImageFile, DicomSeries)):
                out["source"] = item
            out[key] = self._load(item)
        for key in self.label_keys:
            if key in out:
                out[key] = self._load_label_map(out[key], like=out[self.first_key(out)])
        return out

    def _choose(self, item: Any) -> Any:
        if isinstance(item, (torch.Tensor, np.ndarray, ImageFile, DicomSeries)):
            return item
        return choose_series(discover_sources(as_path(item)), assume_hu=self.assume_hu)

    def _load(self, item: Any) -> MetaTensor:
        if isinstance(item, (torch.Tensor, np.ndarray)):
            return _checked(item)
        return load_volume(item, assume_hu=self.assume_hu)

    def _load_label_map(self, item: Any, like: MetaTensor) -> MetaTensor:
        # With it pydicom: only training has labels.
        from .load_label_map import check_same_grid, load_label_map, turned_like

        if not isinstance(item, (torch.Tensor, np.ndarray)):
            label_map = load_label_map(Path(item), like, self.labels)
            # With tissues `MergeTissuesd` does it, for the label map alone: tissue maps have values of their own.
            if self.labels is None or not self.labels.has_tissues:
                self._watch_value(label_map, str(item))
                label_map = unify_lesions(label_map, (), str(item))
        else:
            label_map = item if isinstance(item, MetaTensor) else MetaTensor(torch.as_tensor(item))
            label_map = turned_like(label_map, like)
            check_same_grid(label_map, like, "the label map")
        # Headers are rounded: by its own affine it could get a voxel more on the model's grid, and lie half a one off.
        meta = {key: value for key, value in label_map.meta.items() if key != "affine"}
        return MetaTensor(label_map.as_tensor(), affine=like.affine, meta=meta)

    def _watch_value(self, label_map: MetaTensor, name: str) -> None:
        """Tell once where the one value of a label map is another one than before: it may stand for something else."""
        value = int(label_map.as_tensor().max())
        if value == 0:
            return
        if self._first_value is None:
            self._first_value = (value, name)
        elif value != self._first_value[0] and not self._is_told:
            self._is_told = True
            logger.warning(
                "%s: its lesions have the value %d, those of %s %d: all count as lesions of one kind. Write 0 for what "
                "is no tumour",
                name,
                value,
                self._first_value[1],
                self._first_value[0],
            )


def _checked(volume: torch.Tensor | NDArray[Any]) -> MetaTensor:
    """Return a volume in memory if it has the geometry and the voxels that one can have."""
    if not isinstance(volume, MetaTensor):
        raise GeometryError(
            f"A volume in memory ({type(volume).__name__}) without an affine, expected a MetaTensor with one.",
            hint="Give MetaTensor(volume, affine=...), voxel index to RAS+ millimetres.",
            reason="no-position",
        )
    name = str(volume.meta.get("filename_or_obj", "The volume in memory"))
    if volume.ndim != 4 or volume.shape[0] != 1:
        raise UnsupportedImageError(
            f"{name}: shape {tuple(volume.shape)}, expected (1, X, Y, Z).",
            hint="Give MetaTensor(voxels[None], affine=...) for voxels of (X, Y, Z).",
            reason="dimensions",
        )
    shape = check_shape(tuple(volume.shape[1:]), name)
    if volume.is_complex() or volume.dtype == torch.bool:
        raise UnsupportedImageError(
            f"{name}: its voxels are {volume.dtype}, expected Hounsfield units as whole or floating-point numbers.",
            hint="Give the CT volume itself, not its spectrum or a mask.",
            reason="voxel-type",
        )
    _check_space(volume, name)
    affine = np.asarray(volume.affine, dtype=np.float64)
    if affine.shape != (4, 4) or not np.array_equal(affine[3], (0, 0, 0, 1)):
        raise GeometryError(
            f"{name}: the affine is {affine.tolist()}, expected 4 x 4 numbers, the last row 0, 0, 0, 1.",
            hint="Give MetaTensor(volume, affine=...), voxel index to RAS+ millimetres.",
            reason="affine",
        )
    check_affine(affine, name, shape=shape, allow_shear=True)
    _check_finite(volume.as_tensor()[0], name)
    voxels = volume.as_tensor()[0].detach().cpu().float().numpy()
    refuse_other_units(voxels, what=name)
    if "warnings" in volume.meta:  # `load_volume` has looked for them
        return volume
    warnings = ct_warnings(voxels, what=name)
    return MetaTensor(volume, meta={**volume.meta, "warnings": warnings}) if warnings else volume


def _check_space(volume: MetaTensor, name: str) -> None:
    # "LPS" is no fact: MONAI's readers write it beside an affine to LPS+, MONAI Deploy's beside one to RAS+.
    space = volume.meta.get(MetaKeys.SPACE, SpaceKeys.RAS)
    if space != SpaceKeys.RAS:
        raise GeometryError(
            f"{name}: meta['space'] is {str(space)!r}, expected 'RAS': the affine may not lead to RAS+ millimetres.",
            hint="Turn an affine to LPS+ with monai.data.utils.orientation_ras_lps (that of MONAI Deploy leads to RAS+ "
            "already), and set meta['space'] to 'RAS'.",
            reason="affine",
        )


def _check_finite(voxels: torch.Tensor, name: str) -> None:
    # The sum takes 40 ms for 84 million voxels, fifteen times less than a look at each; it may also overflow.
    if not voxels.is_floating_point() or bool(torch.isfinite(voxels.sum())):
        return
    wrong = torch.isfinite(voxels).logical_not_()
    count = int(wrong.sum())
    if count:
        first = tuple(int(index) for index in np.unravel_index(int(wrong.flatten().byte().argmax()), wrong.shape))
        raise UnsupportedImageError(
            f"{name}: {count} of {wrong.numel()} voxels are no finite numbers, the first at {first}, "
            "expected Hounsfield units everywhere.",
            hint="Replace them, for example by -1024, before the volume is handed in.",
            reason="not-a-number",
        )
