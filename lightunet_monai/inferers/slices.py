"""A 2-D network over a volume: each slice with its neighbours, exact windows, air left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, sliding_window_inference
from torch import Tensor
from torch.nn.functional import max_pool3d, pad

from ..errors import UsageError
from .tiling import HALO, Span, check_halo, plan_spans

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
    refine_logit : float or None
        None to compute every direction everywhere. Otherwise the first alone is, and the others only in the slices
        that come near a voxel at which the margin of the first (logit of class 1, the tumour, minus the highest of the
        others) exceeds this number. Far from all such voxels the logits are those of the first direction.
    refine_margin : int
        How near, voxels along each axis.
    sw_batch_size : int
        Windows computed at once.
    halo : int
        Context of a window on each side, voxels; a multiple of `STRIDE`.
    tissue_threshold : float
        Input value above which a voxel is tissue; at or below it, air.
    background_logit : float
        Logit of background where nothing was computed; the others get its negative.
    mirrored_axes : sequence of int
        Axes of the volume along which it is mirrored and computed once more each; the logits are the mean over all of
        these. None for volumes, which cost as much again for each; worth it for single images.
    overlap : float or None
        None for exact windows. Otherwise MONAI's sliding windows with Gaussian blending and this overlap,
        for comparison; the result then depends on the window.

    Raises
    ------
    UsageError
        If the halo is no multiple of `STRIDE`, or no window is to be computed at once.
    ValueError
        If there are no axes, or others.

    Notes
    -----
    Takes (1, C, X, Y, Z), of which the slices are cut from the first channel, gives logits (1, K, X, Y, Z) of the same
    dtype on the same device. The logits are kept for the whole volume; all else is bounded by the batch of windows.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        neighbours: int = 1,
        slice_axes: Sequence[int] = (2,),
        refine_logit: float | None = None,
        refine_margin: int = 4,
        sw_batch_size: int = 4,
        halo: int = HALO,
        tissue_threshold: float = 0.0,
        background_logit: float = 10.0,
        mirrored_axes: Sequence[int] = (),
        overlap: float | None = None,
    ) -> None:
        super().__init__()
        if not slice_axes or not set(slice_axes) <= {0, 1, 2}:
            raise ValueError(f"slice_axes: found {list(slice_axes) or 'none'}, expected at least one of 0, 1, 2")
        if sw_batch_size < 1:
            raise UsageError(f"sw_batch_size: found {sw_batch_size}, expected 1 or more.")
        check_halo(halo)
        self.roi_size = tuple(roi_size)
        self.neighbours = neighbours
        self.slice_axes = tuple(slice_axes)
        self.refine_logit = refine_logit
        self.refine_margin = refine_margin
        self.sw_batch_size = sw_batch_size
        self.halo = halo
        self.tissue_threshold = tissue_threshold
        self.background_logit = background_logit
        self.mirrored_axes = tuple(mirrored_axes)
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
        """Give the logits (1, K, X, Y, Z) of a volume (1, C, X, Y, Z).

        ``sw_batch_size`` and ``roi_size`` take the place of the inferer's own in this call, where memory is short.
        """
        load = (sw_batch_size or self.sw_batch_size, tuple(roi_size or self.roi_size))
        if inputs.dim() != 5 or inputs.shape[0] != 1:
            raise ValueError(f"expected one volume, (1, C, X, Y, Z), found {tuple(inputs.shape)}")
        volume = (inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs)[0, 0]
        passes = 1 + len(self.mirrored_axes)
        mean = self._mean(volume, network, load, _part_of(progress, 0, passes))
        for index, axis in enumerate(self.mirrored_axes, 1):
            mirrored = self._mean(volume.flip(axis), network, load, _part_of(progress, index, passes))
            mean.add_(mirrored.flip(1 + axis))
        return mean.div_(passes)[None] if passes > 1 else mean[None]

    def _mean(self, volume: Tensor, network: Network, load: Load, progress: Progress | None) -> Tensor:
        # Logits (K, X, Y, Z), the mean over the directions.
        tissue = volume > self.tissue_threshold
        parts = len(self.slice_axes)
        mean = self._along(0, volume, tissue, network, load, progress)
        if parts > 1 and self.refine_logit is not None:
            near = self._near_candidates(mean, self.refine_logit)
            for index in range(1, parts):
                logits = self._along(index, volume, near, network, load, progress, with_neighbours=False)
                mean.add_(torch.where(near, logits, 0))
            return torch.where(near, mean / parts, mean)
        for index in range(1, parts):
            mean.add_(self._along(index, volume, tissue, network, load, progress))
        return mean.div_(parts)

    def _along(
        self,
        index: int,
        volume: Tensor,
        wanted: Tensor,
        network: Network,
        load: Load,
        progress: Progress | None,
        *,
        with_neighbours: bool = True,
    ) -> Tensor:
        # Logits (K, X, Y, Z) of one direction of slices, where the mask says that they are wanted.
        axis = self.slice_axes[index]
        slices, wanted = volume.movedim(axis, 0), wanted.movedim(axis, 0)  # (S, H, W)
        height, width = slices.shape[1:]
        missing = (0, max(0, SMALLEST_SLICE - width), 0, max(0, SMALLEST_SLICE - height))
        if any(missing):
            slices, wanted = pad(slices, missing), pad(wanted, missing)
        part = _part_of(progress, index, len(self.slice_axes))
        if self.overlap is not None:
            logits = self._blended(slices, network, load, part)
        else:
            has_wanted = wanted.flatten(1).any(dim=1)
            indices = (self._stack_any(has_wanted) if with_neighbours else has_wanted).nonzero().flatten().tolist()
            logits = self._exact(slices, indices, self._windows(wanted, load[1]), network, load[0], part)
        return logits[..., :height, :width].movedim(1, 1 + axis)  # (K, S, H, W) -> (K, X, Y, Z)

    def _near_candidates(self, logits: Tensor, least: float) -> Tensor:
        # (K, X, Y, Z) -> (X, Y, Z), by one axis after the other: the same box for less work.
        others = torch.cat([logits[:1], logits[2:]]).amax(dim=0)
        near = (logits[1] - others > least).to(torch.float32)[None, None]
        for axis in range(3):
            reach = [self.refine_margin if i == axis else 0 for i in range(3)]
            near = max_pool3d(near, [2 * r + 1 for r in reach], stride=1, padding=reach)
        return near[0, 0] > 0

    def _exact(
        self,
        slices: Tensor,
        wanted: Sequence[int],
        windows: Sequence[tuple[Span, Span]],
        network: Network,
        batch_size: int,
        progress: Progress | None,
    ) -> Tensor:
        logits: Tensor | None = None
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
            if progress is not None:
                progress(1, 1)
            answer = network(self._stack(slices[:1, :PROBE_SIZE, :PROBE_SIZE], [0]))
            logits = self._background(answer, slices)
        return logits

    def _windows(self, wanted: Tensor, roi_size: tuple[int, ...]) -> list[tuple[Span, Span]]:
        # One box for the whole volume, so that no voxel's context depends on which slices share a batch.
        plane = wanted.any(dim=0)
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
