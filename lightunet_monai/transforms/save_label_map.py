"""The bundle command's way out: one NIfTI label map a case, on the exact grid of its source."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, SaveImaged

from ..errors import OutputError
from ..inputs.files import IMAGE_SUFFIXES

SCANNER_COORDINATES = 1
"""NIfTI code of qform and sform: RAS+ mm of the patient."""


class SaveImageLabelMapd(SaveImaged):
    """Write label maps as NIfTI, named after their source: ``NAME_POSTFIX.nii.gz``.

    Takes a `MetaTensor` (1, X, Y, Z) of labels under each key; its affine is written as it is. (MONAI's own
    writer may resample or flip on the way.) A name that this run has written already gets a number, so that two
    sources of one name do not replace each other.

    Parameters
    ----------
    keys : keys of the label maps
    output_dir : path
        Made when the first label map is written.
    output_postfix : str
        End of the name.

    Raises
    ------
    OutputError
        If the file is there already beside its volume, or cannot be written; nothing half-written is left.
    """

    def __init__(self, keys: KeysCollection, output_dir: str | Path, output_postfix: str = "seg") -> None:
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
        stem = Path(str(label_map.meta.get("filename_or_obj", "volume"))).name
        for suffix in IMAGE_SUFFIXES:
            stem = stem.removesuffix(suffix)
        path = self.output_dir / self._name(stem)
        part = path.with_name(f".{path.name}.part.nii.gz")
        array = label_map.as_tensor()[0].cpu().numpy().astype(np.uint8)
        image = nib.Nifti1Image(array, np.asarray(label_map.affine, dtype=np.float64))
        image.set_qform(image.affine, SCANNER_COORDINATES)
        image.set_sform(image.affine, SCANNER_COORDINATES)
        image.header.set_xyzt_units("mm")
        if path.exists() and any((self.output_dir / f"{stem}{suffix}").exists() for suffix in IMAGE_SUFFIXES):
            raise OutputError(
                f"{path}: is there already, beside the volume; it may be its reference.",
                hint="Choose another --output_dir.",
                reason="exists",
            )
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            nib.save(image, part)
            os.replace(part, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise OutputError(
                f"{path}: cannot be written: {error.strerror}.", hint="Choose another --output_dir."
            ) from error

    def _name(self, stem: str) -> str:
        name, number = f"{stem}_{self.output_postfix}.nii.gz", 1
        while name in self.written:
            number += 1
            name = f"{stem}_{number}_{self.output_postfix}.nii.gz"
        self.written.add(name)
        return name
