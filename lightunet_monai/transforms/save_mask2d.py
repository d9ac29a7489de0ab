"""The bundle command's way out for 2-D images: one PNG mask an image, on its own pixels."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, SaveImaged
from PIL import Image

from ..errors import OutputError

LESION_GREY = 255
"""Lesion in the mask; background is 0."""


class SaveImageMask2Dd(SaveImaged):
    """Write masks as 8-bit grey PNG, 0 and 255, named after their source: ``NAME_POSTFIX.png``.

    Takes a `MetaTensor` (1, X, Y, 1) of labels under each key. Where this run has written that name, the
    name keeps the suffix of the image (``a.png_mask.png``), so that two images of one name do not replace each other.

    Parameters
    ----------
    keys : keys of the masks
    output_dir : path
        Made when the first mask is written.
    output_postfix : str
        End of the name.

    Raises
    ------
    OutputError
        If the file is there already beside its image, or cannot be written; nothing half-written is left.
    """

    def __init__(self, keys: KeysCollection, output_dir: str | Path, output_postfix: str = "mask") -> None:
        # Not SaveImaged's own: it would set up the writers that this one replaces.
        MapTransform.__init__(self, keys)
        self.output_dir = Path(output_dir)
        self.output_postfix = output_postfix
        self.written: set[str] = set()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write each key; everything passes through."""
        out = dict(data)
        for key in self.key_iterator(out):
            self._write(out[key])
        return out

    def _write(self, label_map: Any) -> None:
        source = str(label_map.meta.get("filename_or_obj", "image"))
        path = self.output_dir / self._name(source)
        part = path.with_name(f".{path.name}.part.png")
        mask = label_map.as_tensor()[0, :, :, 0].cpu().numpy().T > 0  # (X, Y) -> (rows, columns)
        if path.exists() and (self.output_dir / source).exists():
            raise OutputError(
                f"{path}: is there already, beside the image; it may be its reference.",
                hint="Choose another --output_dir.",
                reason="exists",
            )
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * LESION_GREY).save(part)
            os.replace(part, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise OutputError(
                f"{path}: cannot be written: {error.strerror}.", hint="Choose another --output_dir."
            ) from error

    def _name(self, source: str) -> str:
        name, number = f"{Path(source).stem}_{self.output_postfix}.png", 1
        while name in self.written:  # a.png beside a.jpg: a number alone could be the name of a third image
            end = f"_{number}" if number > 1 else ""
            name, number = f"{Path(source).name}{end}_{self.output_postfix}.png", number + 1
        self.written.add(name)
        return name
