"""A 2-D network over a volume: each slice with its neighbours, exact windows, air left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, sliding_window_inference
from torch import Tensor
from torch.nn.functional import pad

from .tiling import HALO, plan_spans

Progress = Callable[[int, int], None]
"""Called with (windows done, windows in all)."""

Network = Callable[[Tensor], Tensor]

Load = tuple[int, tuple[int, ...]]
"""Windows at once, and the largest window."""

SMALLEST_SLICE = 8
"""The network halves a slice three times; thinner ones get air beside them."""

PROBE_SIZE = 16
"""Size of the window that tells the number of channels when a volume holds no tissue at all."""


class SliceInferer(Inferer):
    """Run a 2-D network on every slice of a volume, with the neighbouring slices as channels.

    Whole slices are computed where they fit into a window, else windows with a halo that give the same numbers
    (see `tiling`). Slices without tissue are not computed, nor is what lies outside the
    bounding box of the tissue: there the logits say background.

    Parameters
    ----------
    roi_size : sequence of int
        Largest window in the slice, voxels, halo included.
    neighbours : int
        Slices on each side that become channels; at the ends of the volume the last slice repeats.
    slice_axes : sequence of int
        Axes of the volume, 0, 1, 2, that are perpendicular to the slices. With several, the logits are the mean over
        the directions.
    sw_batch_size : int
        Windows computed at once.
    halo : int
        Context of a window on each side, voxels.
    tissue_threshold : float
        Input value above which a voxel is tissue; at or below it, air.
    background_logit : float
        Logit of background where nothing was computed; the others get its negative.
    overlap : float or None
        None for exact windows. Otherwise MONAI's sliding windows with Gaussian blending and this overlap,
        for comparison; the result then depends on the window.

    Notes
    -----
    Takes (1, 1, X, Y, Z), gives logits (1, K, X, Y, Z) of the same dtype on the same device. The logits are kept for
    the whole volume; all else is bounded by the batch of windows.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        neighbours: int = 1,
        slice_axes: Sequence[int] = (2,),
        sw_batch_size: int = 4,
        halo: int = HALO,
        tissue_threshold: float = 0.0,
        background_logit: float = 10.0,
        overlap: float | None = None,
    ) -> None:
        super().__init__()
        if not slice_axes:
            raise ValueError("slice_axes: found none, expected at least one of 0, 1, 2")
        self.roi_size = tuple(roi_size)
        self.neighbours = neighbours
        self.slice_axes = tuple(slice_axes)
        self.sw_batch_size = sw_batch_size
        self.halo = halo
        self.tissue_threshold = tissue_threshold
        self.background_logit = background_logit
        self.overlap = overlap

    def __call__(
        self,
        inputs: Tensor,
        network: Network,
        *args: Any,
        progress: Progress | None = None,
        sw_batch_size: int | None = None,
        roi_size: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Give the logits (1, K, X, Y, Z) of a volume (1, 1, X, Y, Z).

        ``sw_batch_size`` and ``roi_size`` take the place of the inferer's own in this call, where memory is short.
        """
        load = (sw_batch_size or self.sw_batch_size, tuple(roi_size or self.roi_size))
        if inputs.shape[:2] != (1, 1):
            raise ValueError(f"expected one volume of one channel, (1, 1, X, Y, Z), found {tuple(inputs.shape)}")
        volume = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        run = self._exact if self.overlap is None else self._blended
        mean: Tensor | None = None
        for index, axis in enumerate(self.slice_axes):
            part = _part_of(progress, index, len(self.slice_axes))
            slices = volume[0, 0].movedim(axis, 0)  # (S, H, W)
            height, width = slices.shape[1:]
            missing = (0, max(0, SMALLEST_SLICE - width), 0, max(0, SMALLEST_SLICE - height))
            logits = run(pad(slices, missing) if any(missing) else slices, network, load, part)
            logits = logits[..., :height, :width].movedim(1, 1 + axis)  # (K, S, H, W) -> (K, X, Y, Z)
            mean = logits if mean is None else mean.add_(logits)
        assert mean is not None
        return mean.div_(len(self.slice_axes))[None]

    def _exact(self, slices: Tensor, network: Network, load: Load, progress: Progress | None) -> Tensor:
        batch_size, roi_size = load
        tissue = slices > self.tissue_threshold
        wanted = self._stack_any(tissue.flatten(1).any(dim=1)).nonzero().flatten().tolist()
        logits: Tensor | None = None
        windows = self._windows(tissue, roi_size)
        batches = [wanted[i : i + batch_size] for i in range(0, len(wanted), batch_size)]
        total, done = len(batches) * len(windows), 0
        for batch in batches:
            stack = self._stack(slices, batch)  # (B, C, H, W)
            for rows, columns in windows:
                window = stack[..., rows.read_start : rows.read_stop, columns.read_start : columns.read_stop]
                answer = network(window)
                if logits is None:
                    logits = self._background(answer, slices)
                kept = answer[
                    ...,
                    rows.keep_start - rows.read_start : rows.keep_stop - rows.read_start,
                    columns.keep_start - columns.read_start : columns.keep_stop - columns.read_start,
                ]
                target = logits[:, :, rows.keep_start : rows.keep_stop, columns.keep_start : columns.keep_stop]
                target[:, batch] = kept.to(slices.dtype).movedim(0, 1)  # (B, K, h, w) -> (K, B, h, w)
                done += 1
                if progress is not None:
                    progress(done, total)
        if logits is None:
            answer = network(self._stack(slices[:1, :PROBE_SIZE, :PROBE_SIZE], [0]))
            logits = self._background(answer, slices)
        return logits

    def _windows(self, tissue: Tensor, roi_size: tuple[int, ...]) -> list[tuple[Any, Any]]:
        # One box for the whole volume, so that no voxel's context depends on which slices share a batch.
        plane = tissue.any(dim=0)
        if not bool(plane.any()):
            return []
        height, width = plane.shape
        rows = plane.any(dim=1).nonzero().flatten()
        columns = plane.any(dim=0).nonzero().flatten()
        row_spans = plan_spans(int(rows[0]), int(rows[-1]) + 1, height, roi_size[0], halo=self.halo)
        column_spans = plan_spans(int(columns[0]), int(columns[-1]) + 1, width, roi_size[1], halo=self.halo)
        return [(r, c) for r in row_spans for c in column_spans]

    def _stack_any(self, has_tissue: Tensor) -> Tensor:
        # A slice is computed if it or one of its neighbours holds tissue.
        wide = has_tissue.clone()
        for shift in range(1, self.neighbours + 1):
            wide[shift:] |= has_tissue[:-shift]
            wide[:-shift] |= has_tissue[shift:]
        return wide

    def _stack(self, slices: Tensor, indices: Sequence[int]) -> Tensor:
        # (S, H, W) -> (B, C, H, W); slices beyond the ends repeat the last one.
        centre = torch.as_tensor(indices, device=slices.device)
        shifts = torch.arange(-self.neighbours, self.neighbours + 1, device=slices.device)
        return slices[(centre[:, None] + shifts[None, :]).clamp(0, slices.shape[0] - 1)]

    def _background(self, answer: Tensor, slices: Tensor) -> Tensor:
        logits = torch.full(
            (answer.shape[1], *slices.shape), -self.background_logit, dtype=slices.dtype, device=slices.device
        )
        logits[0] = self.background_logit
        return logits

    def _blended(self, slices: Tensor, network: Network, load: Load, progress: Progress | None) -> Tensor:
        parts = []
        batch_size, roi_size = load
        for index in range(slices.shape[0]):
            parts.append(
                sliding_window_inference(
                    self._stack(slices, [index]),
                    roi_size,
                    batch_size,
                    network,
                    overlap=self.overlap,
                    mode="gaussian",
                )[0]
            )
            if progress is not None:
                progress(index + 1, slices.shape[0])
        return torch.stack(parts, dim=1)


def _part_of(progress: Progress | None, index: int, parts: int) -> Progress | None:
    # Directions have different numbers of windows; each counts as the same share of the work.
    if progress is None or parts == 1:
        return progress
    return lambda done, total: progress(index * total + done, parts * total)
