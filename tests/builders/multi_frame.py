"""Synthetic enhanced CT: one instance with many frames, in any order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from .series import INTERCEPT, SYNTAXES, SeriesTruth, _decimal, _Plan, _slice
from .volume import make_voxels

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


def make_enhanced(
    path: Path,
    *,
    voxels: NDArray[np.int16] | None = None,
    spacing: tuple[float, float, float] = (0.8, 0.9, 1.5),
    syntax: str = "raw",
    seed: int = 0,
    rescale_per_frame: bool = False,
    without_positions: bool = False,
) -> SeriesTruth:
    """Write an enhanced CT whose frames are shuffled by ``seed``; `make_series` says what comes back."""
    voxels = make_voxels(seed=seed) if voxels is None else voxels
    plan = _Plan(voxels, spacing, (1, 0, 0, 0, 1, 0), (-10.0, -20.0, 30.0), "2.25.3000", "2.25.1", syntax)
    dataset = _slice(plan, 0)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ENHANCED_CT
    order = np.random.default_rng(seed).permutation(voxels.shape[2])
    intercepts = {int(index): INTERCEPT - (int(index) if rescale_per_frame else 0) for index in order}
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(dataset, name)
    dataset.NumberOfFrames = voxels.shape[2]
    stored = [voxels[:, :, index].T.astype(np.int32) - intercepts[int(index)] for index in order]
    dataset.PixelData = np.ascontiguousarray(np.stack(stored)).astype("<i2").tobytes()
    orientation = _item(ImageOrientationPatient=["1", "0", "0", "0", "1", "0"])
    measures = _item(PixelSpacing=[_decimal(spacing[1]), _decimal(spacing[0])], SliceThickness="99")
    dataset.SharedFunctionalGroupsSequence = Sequence(
        [_item(PlaneOrientationSequence=Sequence([orientation]), PixelMeasuresSequence=Sequence([measures]))]
    )
    frames = []
    for index in order:
        position = np.array(plan.origin) + index * spacing[2] * plan.axes()[2]
        frame = _item(
            PixelValueTransformationSequence=Sequence(
                [_item(RescaleSlope="1", RescaleIntercept=str(intercepts[int(index)]), RescaleType="HU")]
            )
        )
        if not without_positions:
            place = _item(ImagePositionPatient=[_decimal(value) for value in position])
            frame.PlanePositionSequence = Sequence([place])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    if syntax != "raw":
        dataset.compress(SYNTAXES[syntax])
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return SeriesTruth(path.parent, [path], plan.series_uid, voxels, plan.affine())


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
