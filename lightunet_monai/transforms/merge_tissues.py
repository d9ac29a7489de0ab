"""One label map for training from two: the lesions, and the tissues around them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..errors import UnsupportedImageError
from ..labels import LESION
from .model_grid import unify_lesions


class MergeTissuesd(MapTransform):
    """Put the tissues of a tissue map under the lesions of a label map.

    Takes label maps (1, X, Y, Z) under ``keys`` and, where a case has one, a tissue map of the same shape under
    ``tissue_key``, which is taken out. Where the label map holds a lesion (label 1, or the one value it holds, such as
    255) it stays; everywhere else the tissue decides. A case without a tissue map passes through, if its label map
    names the tissues itself.

    Parameters
    ----------
    keys : keys of the label maps
    tissue_key : str
        Key of the tissue map.
    values : mapping
        Value of the tissue map to label; keys may be text, as in JSON.

    Raises
    ------
    UnsupportedImageError
        If a tissue value is not in ``values``, a label map holds a value of unknown meaning, or a case names no
        tissue at all.
    """

    def __init__(self, keys: KeysCollection, tissue_key: str, values: Mapping[Any, int]) -> None:
        super().__init__(keys)
        self.tissue_key = tissue_key
        self.values = {int(tissue): int(label) for tissue, label in values.items()}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Merge into each key; other entries pass through."""
        out = dict(data)
        tissue = out.pop(self.tissue_key, None)
        for key in self.key_iterator(out):
            if tissue is not None:
                out[key] = self._merge(out[key], tissue)
            elif int(out[key].max()) <= LESION:
                raise UnsupportedImageError(
                    f"{_name(out)}: its label map holds no tissue, and the datalist names no tissue map for it.",
                    hint="Give the folder of the tissue maps to 'lightunet datalist' with --tissues.",
                    reason="no-tissues",
                )
        return out

    def _merge(self, label_map: MetaTensor, tissue: Any) -> MetaTensor:
        codes = np.asarray(tissue).astype(np.int64)
        unknown = sorted(set(np.unique(codes).tolist()) - set(self.values))
        if unknown:
            raise UnsupportedImageError(
                f"{_file(tissue)}: the tissue map holds the values {unknown}, expected some of {sorted(self.values)}.",
                hint="Name them under label_values in the training configuration.",
                reason="tissue-values",
            )
        table = np.zeros(int(codes.max()) + 1, dtype=np.uint8)
        for code, label in self.values.items():
            if code < len(table):
                table[code] = label
        merged: MetaTensor = unify_lesions(label_map.clone(), {LESION, *self.values.values()}, _file(label_map))
        array = merged.as_tensor()
        around = torch.from_numpy(table[codes]).to(array.device, array.dtype)
        array[:] = torch.where(array == LESION, array, around)
        return merged


def _name(case: Mapping[Hashable, Any]) -> str:
    return _file(case.get("image")) or "a case"


def _file(item: Any) -> str:
    meta = getattr(item, "meta", {})
    return str(meta.get("filename_or_obj", "the case"))
