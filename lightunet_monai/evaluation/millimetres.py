"""MONAI's surface metrics in millimetres, for the bundle's evaluator.

MONAI's handlers pass no spacing on, so their distances are in voxels. These take it from the affine of the label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.metrics import HausdorffDistanceMetric, SurfaceDiceMetric, SurfaceDistanceMetric


class _Millimetres:
    """Adds the spacing; a distance to an empty mask is NaN, which MONAI leaves out of the mean, not infinite."""

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        affine = np.asarray(y.affine, dtype=np.float64)  # type: ignore[attr-defined]
        spacing = np.linalg.norm(affine.reshape(4, 4)[:3, :3], axis=0).tolist()
        values: torch.Tensor = super()._compute_tensor(  # type: ignore[misc]
            torch.as_tensor(y_pred), torch.as_tensor(y), **{**kwargs, "spacing": spacing}
        )
        return torch.where(torch.isfinite(values), values, torch.full_like(values, torch.nan))


class HausdorffDistanceMm(_Millimetres, HausdorffDistanceMetric):
    """MONAI's `HausdorffDistanceMetric` with the spacing of the label, a `MetaTensor` (1, X, Y, Z)."""


class SurfaceDistanceMm(_Millimetres, SurfaceDistanceMetric):
    """MONAI's `SurfaceDistanceMetric` with the spacing of the label, a `MetaTensor` (1, X, Y, Z)."""


class SurfaceDiceMm(_Millimetres, SurfaceDiceMetric):
    """MONAI's `SurfaceDiceMetric` with the spacing of the label, a `MetaTensor` (1, X, Y, Z)."""
