"""MONAI's way into `inputs` for 2-D images, and out of it as PNG masks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImaged, MapTransform
from numpy.typing import NDArray

from ..errors import GeometryError, UnsupportedImageError
from ..inputs import load_image2d, load_mask2d
from ..inputs.image2d_pixels import PLAUSIBLE_SPACING_MM, Plane2D, check_contrast, check_size, is_plausible_spacing
from ..sources import DicomSeries, ImageFile, as_path


class LoadImage2Dd(LoadImaged):
    """Load 2-D images through `lightunet_monai.inputs`, with all its checks.

    Under each key it takes a path, an `ImageFile` or an image in memory, (1, X, Y, 1): a `MetaTensor`, or a tensor or
    array, whose spacing is unknown. Pixels in memory pass through unchanged if they are those of an image. Gives
    `MetaTensor` float32 (1, X, Y, 1), brightness.

    Parameters
    ----------
    keys : keys of the images
    label_keys : keys of masks
        Loaded as 0 and 1, of the size of the first of ``keys``.
    apply_voi : bool
        DICOM: apply the window or VOI LUT of the header.
    allow_missing_keys : bool
        Do not fail on a key that is not there.

    Raises
    ------
    InputError
        Whatever `load_image2d` or `load_mask2d` refuse, in memory, too.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: KeysCollection = (),
        apply_voi: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        # Not LoadImaged's own: it would register MONAI's readers, which this loader must never fall back to.
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.label_keys = (label_keys,) if isinstance(label_keys, str) else tuple(label_keys)
        self.apply_voi = apply_voi

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        """Load each key; other entries pass through. ``reader`` is MONAI's and not used."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self._load(out[key])
        for key in self.label_keys:
            if key in out and not isinstance(out[key], (torch.Tensor, np.ndarray)):
                out[key] = load_mask2d(_path(out[key]), out[self.first_key(out)])
        return out

    def _load(self, item: Any) -> MetaTensor:
        if isinstance(item, (torch.Tensor, np.ndarray)):
            return _checked(item)
        return load_image2d(_path(item), apply_voi=self.apply_voi)


def _checked(image: torch.Tensor | NDArray[Any]) -> MetaTensor:
    """Return an image in memory as `load_image2d` gives one, if it has the pixels and the spacing that one can have."""
    meta = {key: value for key, value in getattr(image, "meta", {}).items() if key != "affine"}
    name = str(meta.get("filename_or_obj", "The image in memory"))
    if image.ndim != 4 or image.shape[0] != 1 or image.shape[3] != 1:
        raise UnsupportedImageError(
            f"{name}: shape {tuple(image.shape)}, expected (1, X, Y, 1).",
            hint="Give pixels of (rows, columns) as torch.as_tensor(pixels.T)[None, ..., None].",
            reason="dimensions",
        )
    check_size(int(image.shape[1]), int(image.shape[2]), name)
    pixels = _as_float(image, name)
    # Without an affine as `load_image2d` has it where the spacing is not known.
    affine = _checked_affine(image, name) if isinstance(image, MetaTensor) else np.diag([-1.0, -1.0, 1.0, 1.0])
    plane = pixels.detach().cpu().numpy()[0, :, :, 0].T  # (X, Y) -> (rows, columns)
    _check_finite(plane, name)
    check_contrast(Plane2D(plane, None), name)
    if isinstance(image, MetaTensor) and image.dtype == torch.float32 and "has_spacing" in meta:
        return image
    # An affine of 1 mm is what MONAI gives an image without one.
    meta.setdefault("has_spacing", not np.allclose(np.linalg.norm(affine[:3, :2], axis=0), 1.0))
    if not meta["has_spacing"] and not meta.get("warnings"):
        meta["warnings"] = [f"{name}: no pixel spacing is given; areas are in pixels, not in mm."]
    return MetaTensor(pixels, affine=torch.as_tensor(affine), meta=meta)


def _as_float(image: torch.Tensor | NDArray[Any], name: str) -> torch.Tensor:
    if image.dtype.kind not in "biuf" if isinstance(image, np.ndarray) else image.is_complex():
        raise UnsupportedImageError(
            f"{name}: its pixels are {image.dtype}, expected whole or floating-point numbers.",
            hint="Give the brightness of each pixel.",
            reason="pixel-type",
        )
    if isinstance(image, np.ndarray):  # of any byte order
        return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    pixels: torch.Tensor = image.as_tensor() if isinstance(image, MetaTensor) else image
    return pixels.float()


def _check_finite(plane: NDArray[np.float32], name: str) -> None:
    wrong = np.argwhere(~np.isfinite(plane))
    if len(wrong):
        row, column = wrong[0]
        raise UnsupportedImageError(
            f"{name}: {len(wrong)} of {plane.size} pixels are no finite numbers, the first in column {column}, "
            f"row {row}, expected brightness everywhere.",
            hint="Replace them, for example by 0, before the image is handed in.",
            reason="not-a-number",
        )


def _checked_affine(image: MetaTensor, name: str) -> NDArray[np.float64]:
    affine = np.asarray(image.affine, dtype=np.float64)
    if affine.shape != (4, 4):
        raise GeometryError(
            f"{name}: the affine has shape {affine.shape}, expected (4, 4).",
            hint="Give torch.diag(torch.tensor([-ACROSS, -DOWN, 1, 1])), the spacing in mm, or no affine.",
            reason="affine",
        )
    across, down = (float(value) for value in np.linalg.norm(affine[:3, :2], axis=0))
    low, high = PLAUSIBLE_SPACING_MM
    if not np.isfinite(affine).all() or not is_plausible_spacing((across, down)):
        raise GeometryError(
            f"{name}: the spacing is {across:.4g} x {down:.4g} mm, expected {low:g} to {high:g} mm.",
            hint="Give MetaTensor(image) without an affine where the spacing is not known.",
            reason="implausible-spacing",
        )
    return affine


def _path(item: Any) -> Path:
    if isinstance(item, DicomSeries):
        return item.paths[0] if len(item.paths) == 1 else item.paths[0].parent
    return item.path if isinstance(item, ImageFile) else as_path(item)
