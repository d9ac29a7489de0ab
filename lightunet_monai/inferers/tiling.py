"""Which parts of a slice are computed, and which part of each is kept.

In evaluation mode the network is covariant under shifts by multiples of its stride and looks no farther than
its receptive field. A window that starts on such a multiple and carries a halo at least as wide therefore gives, in
its core, the numbers that one pass over the whole slice gives. So each voxel is computed once, nothing is blended, and
the result does not depend on the size of the windows.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError

STRIDE = 8
"""Shift under which the four-level network is covariant: three times max-pool by 2."""

HALO = 56
"""Receptive-field radius of the four-level network, 51 voxels, rounded up to a multiple of `STRIDE`."""


@dataclass(frozen=True)
class Span:
    """One window along one axis, in voxels: what goes in, and which part of the answer is kept.

    Parameters
    ----------
    read_start, read_stop : int
        What the network sees.
    keep_start, keep_stop : int
        What is written, between the two above.
    """

    read_start: int
    read_stop: int
    keep_start: int
    keep_stop: int


def check_halo(halo: int) -> None:
    """Check that windows with this halo start on multiples of the stride.

    Raises
    ------
    UsageError
        If they do not: the network would then give other numbers in each window.
    """
    if halo < 0 or halo % STRIDE:
        below = max(0, halo // STRIDE * STRIDE)
        raise UsageError(
            f"halo: found {halo} voxels, expected a multiple of {STRIDE}.",
            hint=f"Use {below + STRIDE}." if halo > 0 else f"Use {HALO}.",
        )


def plan_spans(start: int, stop: int, size: int, window: int, *, halo: int = HALO) -> tuple[Span, ...]:
    """Cover an interval of an axis with windows, each voxel kept once.

    Parameters
    ----------
    start, stop : int
        The interval that is wanted, inside ``[0, size)``.
    size : int
        Length of the axis, voxels.
    window : int
        Largest length the network is given at once, halo included.
    halo : int
        Context on each side, a multiple of `STRIDE`.

    Returns
    -------
    tuple of Span
        Starts are multiples of `STRIDE`; halos end at the border of the axis.

    Raises
    ------
    UsageError
        If a window has no room between its halos, or the halo is no multiple of `STRIDE`.
    """
    check_halo(halo)
    start = start // STRIDE * STRIDE
    stop = min(size, -(-stop // STRIDE) * STRIDE)
    if min(size, stop + halo) - max(0, start - halo) <= window:
        return (Span(max(0, start - halo), min(size, stop + halo), start, stop),)
    core = (window - 2 * halo) // STRIDE * STRIDE
    if core < STRIDE:
        raise UsageError(
            f"windows of {window} voxels leave no room between two halos of {halo}.",
            hint=f"Use windows of {2 * halo + STRIDE} voxels or more.",
        )
    return tuple(
        Span(max(0, low - halo), min(size, low + core + halo), low, min(low + core, stop))
        for low in range(start, stop, core)
    )
