"""Prepared cases on disk: each written whole or not at all, one that cannot be read prepared anew."""

from __future__ import annotations

import logging
import os
from copy import deepcopy
from typing import Any

import torch
from monai.data import PersistentDataset
from monai.utils import convert_to_tensor

from .checkpoints import UNREADABLE, write_whole

logger = logging.getLogger(__name__)


class CaseCache(PersistentDataset):
    """MONAI's `PersistentDataset`, whose parameters it has, for cases ``{key: path}``.

    MONAI's own moves a file into place from the folder for temporary files. From another file system that is a copy: a
    kill or a full disk leaves a part of it under the final name, which no later training can read.

    Raises
    ------
    OutputError
        If a prepared case cannot be written, as on a full disk.
    """

    def _cachecheck(self, item_transformed: Any) -> Any:
        path = self.cache_dir / f"{self.hash_func(item_transformed).decode()}.pt"
        if path.is_file():
            try:
                return torch.load(path, weights_only=True)
            except UNREADABLE:
                logger.warning("%s: cannot be read, the case is prepared anew", path)
        prepared = convert_to_tensor(
            self._pre_transform(deepcopy(item_transformed)), convert_numeric=False, track_meta=False
        )
        write_whole(prepared, path, path.with_name(f"{path.name}.{os.getpid()}.part"))
        return prepared
