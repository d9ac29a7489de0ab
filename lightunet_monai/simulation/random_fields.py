"""Random fields by filtering white noise in the frequency domain."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from .grid import FloatArray, Grid


def power_law_field(
    grid: Grid,
    random: np.random.Generator,
    *,
    exponent: float,
    outer_scale: float,
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> FloatArray:
    """Return a field of zero mean and unit variance whose 3-D power falls as frequency^-exponent.

    Parameters
    ----------
    grid : Grid
        Nodes of the field.
    random : Generator
        Source of the white noise.
    exponent : float
        Of the 3-D spectrum. A slice of the field then has exponent - 1 (the 2-D beta of the literature).
    outer_scale : float
        Length in mm above which the power no longer grows.
    stretch : tuple of float
        Structures are longer by this factor along x, y, z.

    Returns
    -------
    ndarray of float32
        Of the grid's shape.
    """
    shape = tuple(scipy.fft.next_fast_len(n, real=True) for n in grid.shape)
    spectrum = complex_white_noise((shape[0], shape[1], shape[2]), random)
    squared = _squared_frequency((shape[0], shape[1], shape[2]), grid.spacing, stretch)
    squared += np.float32(outer_scale**-2.0)
    spectrum *= squared ** np.float32(-exponent / 4.0)
    spectrum[0, 0, 0] = 0.0
    field = scipy.fft.irfftn(spectrum, s=shape, workers=-1, overwrite_x=True)
    field = field[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-12), dtype=np.float32)


def smooth_field(grid: Grid, random: np.random.Generator, *, length: float) -> FloatArray:
    """Return a Gaussian field of zero mean and unit variance with correlation length `length` mm."""
    shape = tuple(
        scipy.fft.next_fast_len(n + int(2 * length / s), real=True)
        for n, s in zip(grid.shape, grid.spacing, strict=True)
    )
    spectrum = complex_white_noise((shape[0], shape[1], shape[2]), random)
    squared = _squared_frequency((shape[0], shape[1], shape[2]), grid.spacing, (1.0, 1.0, 1.0))
    spectrum *= np.exp(-squared * np.float32((np.pi * length) ** 2 / 4.0))
    field = scipy.fft.irfftn(spectrum, s=shape, workers=-1, overwrite_x=True)
    # Periodic boxes share their scale: without this a box smaller than the length has no variance.
    scale = float(field.std())
    field = field[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
    return np.asarray(field / max(scale, 1e-12), dtype=np.float32)


def complex_white_noise(shape: tuple[int, int, int], random: np.random.Generator) -> NDArray[np.complex64]:
    """Return the half spectrum (X, Y, Z // 2 + 1) of real white noise, up to a constant."""
    half = (shape[0], shape[1], shape[2] // 2 + 1, 2)
    spectrum: NDArray[np.complex64] = random.standard_normal(half, dtype=np.float32).view(np.complex64)[..., 0]
    # The inverse transform keeps only the Hermitian part of these planes, which halves their power.
    spectrum[..., 0] *= np.float32(np.sqrt(2.0))
    if shape[2] % 2 == 0:
        spectrum[..., -1] *= np.float32(np.sqrt(2.0))
    return spectrum


def _squared_frequency(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], stretch: tuple[float, float, float]
) -> FloatArray:
    fx = np.fft.fftfreq(shape[0], spacing[0]) * stretch[0]
    fy = np.fft.fftfreq(shape[1], spacing[1]) * stretch[1]
    fz = np.fft.rfftfreq(shape[2], spacing[2]) * stretch[2]
    squared = fx[:, None, None] ** 2 + fy[None, :, None] ** 2 + fz[None, None, :] ** 2
    return np.asarray(squared, dtype=np.float32)
