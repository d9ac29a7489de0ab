"""The volume being painted: Hounsfield units, tissues and tumour share, with partial volume at every edge."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from .grid import FloatArray, Grid, Slices
from .tissues import Tissue


class Canvas:
    """Fine fields of one case.

    Parameters
    ----------
    grid : Grid
        Geometry.
    hu : tensor of float32, shape (X, Y, Z)
        Before the scanner.
    tissue : tensor of uint8, shape (X, Y, Z)
        Values of `Tissue`.
    """

    def __init__(self, grid: Grid, hu: torch.Tensor, tissue: torch.Tensor) -> None:
        self.grid = grid
        self.hu = hu
        self.tissue = tissue
        self.tumour = torch.zeros_like(hu)
        self._body: torch.Tensor | None = None

    def confine(self, body: torch.Tensor) -> None:
        """From now on paint only within `body`, the share of each voxel inside the skin's outer surface."""
        self._body = body

    def paint(self, slices: Slices, share: FloatArray, hu: float | FloatArray, tissue: Tissue) -> None:
        """Replace `share` (0 to 1) of each voxel of a patch by a tissue of the given HU."""
        part = torch.from_numpy(np.ascontiguousarray(share, dtype=np.float32)).to(self.hu.device)
        if self._body is not None:
            part = part * self._body[slices]
        value = torch.as_tensor(hu, dtype=torch.float32, device=self.hu.device)
        self.hu[slices].add_((value - self.hu[slices]) * part)
        self.tissue[slices][part >= 0.5] = int(tissue)

    def add_tumour(self, slices: Slices, share: FloatArray) -> None:
        """Count `share` of each voxel of a patch as tumour in the label map."""
        part = torch.from_numpy(np.ascontiguousarray(share, dtype=np.float32)).to(self.hu.device)
        if self._body is not None:
            part = part * self._body[slices]
        self.tumour[slices] = torch.maximum(self.tumour[slices], part)

    def paint_tube(
        self,
        start: NDArray[np.float64],
        end: NDArray[np.float64],
        radii: tuple[float, float],
        hu: float,
        tissue: Tissue,
    ) -> tuple[Slices, FloatArray] | None:
        """Paint a tapering capsule between two world points; return its patch and shares, None if outside."""
        tube = tube_share(self.grid, start, end, radii)
        if tube is not None:
            self.paint(tube[0], tube[1], hu, tissue)
        return tube


def tube_share(
    grid: Grid, start: NDArray[np.float64], end: NDArray[np.float64], radii: tuple[float, float]
) -> tuple[Slices, FloatArray] | None:
    """Return the patch of a tapering capsule and the share of each voxel inside, or None outside the grid."""
    middle = (start + end) / 2.0
    axis = end - start
    length = float(np.linalg.norm(axis))
    slices = grid.around(middle, length / 2.0 + max(radii) + grid.voxel_size)
    if slices is None:
        return None
    offsets = grid.offsets(slices, start)
    along = sum((offset * np.float32(a) for offset, a in zip(offsets, axis, strict=True)), np.float32(0.0))
    along = np.clip(along / max(length**2, 1e-9), 0.0, 1.0)
    squared = sum(
        ((offset - along * np.float32(a)) ** 2 for offset, a in zip(offsets, axis, strict=True)), np.float32(0.0)
    )
    radius = radii[0] + along * (radii[1] - radii[0])
    size = grid.voxel_size
    share = np.clip(0.5 + (radius - np.sqrt(squared)) / size, 0.0, 1.0)
    # The ramp above is too generous for tubes thinner than a voxel: keep their cross-section instead.
    generous = (radius + size / 2.0) ** 2 * (0.5 + radius / size) / 3.0
    share *= np.minimum(1.0, radius**2 / generous)
    return slices, np.asarray(share, dtype=np.float32)
