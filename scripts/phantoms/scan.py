"""Cone-beam projections and FDK reconstruction of a phantom by RTK (package itk-rtk), as in a breast CT scanner.

The axis of rotation is the nipple's. The central ray touches the chest wall's end of the view, so the detector sees one
half of the cone (half-cone geometry). Projections have five energies, some scatter that its correction left, detector
blur and photon noise; water beam hardening is corrected, and water has 0 HU.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from .anatomy import Phantom
from .fields import Field, Grid, finer, smooth_noise
from .materials import BEAMS, BEHIND_WATER, Beam, Spectrum, as_bases, attenuation, effective, hounsfield

NOISE_HU = (10.0, 60.0)
"""Standard deviation aimed at in a voxel; photons follow from it, log-uniform too."""

NOISE_OF_FILTER = 0.055
"""Variance of FDK over that of the bare ramp, for a Hann window that ends at Nyquist: it leaves 0.09 of it,
and interpolation less; set so that reconstructions have the noise aimed at."""

TEXTURE = 0.004
"""Standard deviation of the attenuation within a tissue, relative: about 4 HU."""

MARGIN = 5.0
"""mm of air around the breast in the reconstruction."""

MOST_VOXELS = 210
"""Along an axis of the reconstruction; a large breast has larger voxels."""

ROWS_BEFORE = 3
"""Detector rows behind the central ray."""

SCATTER_STEP = 8
"""Pixels and views that share a value of scatter, which is smooth."""

SCATTER_WIDTH = 35.0
"""mm on the detector: standard deviation of that smoothness."""


class RtkMissingError(ImportError):
    """itk-rtk is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "Projections need RTK, which is not installed: pip install itk-rtk, or pip install '.[interop]' in a "
            "checkout; --no-projection makes volumes without it."
        )


@dataclass(frozen=True)
class Scan:
    """One acquisition; lengths in mm.

    Parameters
    ----------
    beam : Beam
    source_axis, source_detector : float
    views : int
        Over 360 degrees.
    voxel : float
        Of the reconstruction.
    pixel : float
        Of the detector, seen at the axis.
    hann : float
        End of the window on the ramp filter, relative to Nyquist.
    noise_hu : float
        Aimed at.
    scatter : float
        What is left of it behind 120 mm of breast, relative to the primary signal there; half behind half as much.
    blur : float
        Full width at half maximum on the detector.
    """

    beam: Beam
    source_axis: float
    source_detector: float
    views: int
    voxel: float
    pixel: float
    hann: float
    noise_hu: float
    scatter: float
    blur: float


def sample_scan(random: np.random.Generator, phantom: Phantom) -> Scan:
    """Draw a scanner of the known kinds for a phantom."""
    extent = max(s.stop - s.start for s in _breast_box(phantom)) * phantom.grid.voxel + 2.0 * MARGIN
    voxel = max(random.uniform(0.5, 0.95), extent / MOST_VOXELS)
    source_axis, source_detector = ((650.0, 923.0), (458.0, 878.0), (511.0, 900.0))[int(random.integers(3))]
    return Scan(
        beam=BEAMS[int(random.integers(len(BEAMS)))],
        source_axis=source_axis,
        source_detector=source_detector,
        views=int(random.choice([300, 360, 400, 500], p=[0.5, 0.3, 0.15, 0.05])),
        voxel=voxel,
        pixel=voxel * random.uniform(0.9, 1.05),
        hann=random.uniform(0.75, 1.0),
        noise_hu=float(np.exp(random.uniform(*np.log(NOISE_HU)))),
        scatter=random.uniform(0.0, 0.03),
        blur=random.uniform(0.25, 0.6),
    )


def reconstruction_grid(random: np.random.Generator, phantom: Phantom, voxel: float) -> Grid:
    """Grid around the breast that starts at the first plane in view, not aligned with the phantom's."""
    grid, boxes = phantom.grid, _breast_box(phantom)
    low = [grid.origin[a] + grid.voxel * boxes[a].start - MARGIN - voxel * random.uniform() for a in range(3)]
    high = [grid.origin[a] + grid.voxel * boxes[a].stop + MARGIN for a in range(3)]
    low[1] = voxel / 2.0
    x, y, z = (int(np.ceil((h - o) / voxel)) for o, h in zip(low, high, strict=True))
    return Grid((x, y, z), (low[0], low[1], low[2]), voxel)


def _breast_box(phantom: Phantom) -> tuple[slice, slice, slice]:
    box: tuple[slice, slice, slice] = ndimage.find_objects((phantom.tissue > 0).astype(np.uint8))[0]
    return box


def true_hu(
    random: np.random.Generator, phantom: Phantom, tissues: dict[int, Spectrum], beam: Beam, grid: Grid
) -> Field:
    """HU of the phantom without a scanner, averaged over the voxels of a grid."""
    values = _mapped(phantom, {label: 1.0 + hounsfield(mu, beam) / 1000.0 for label, mu in tissues.items()})
    values *= _texture(random, phantom)
    return 1000.0 * (averaged(values, phantom.grid, grid, samples=2) - 1.0)


def reconstruct(
    random: np.random.Generator, phantom: Phantom, tissues: dict[int, Spectrum], scan: Scan, grid: Grid
) -> tuple[Field, float]:
    """Return HU on the grid and the photons of a pixel and view without an object.

    Raises
    ------
    RtkMissingError
        itk-rtk is not installed.
    """
    itk, rtk = load_rtk()
    frame = _Frame.around(random, phantom, scan)
    circle = rtk.ThreeDCircularProjectionGeometry.New()
    for view in range(scan.views):
        circle.AddProjection(scan.source_axis, scan.source_detector, 360.0 * view / scan.views)
    amounts = {label: as_bases(mu) for label, mu in tissues.items()}
    water = _mapped(phantom, {label: pair[0] for label, pair in amounts.items()}) * _texture(random, phantom)
    oxalate = _mapped(phantom, {label: pair[1] for label, pair in amounts.items()})
    paths = [_project(itk, rtk, circle, frame, phantom.grid, values) for values in (water, oxalate)]
    del water, oxalate
    signal = _transmitted(scan.beam, paths)
    del paths
    signal = _scattered_and_blurred(scan, signal, frame)
    photons = _photons(scan, signal)
    counts = random.poisson(signal * photons).astype(np.float32)
    lengths = _water_lengths(scan.beam, np.maximum(counts, 0.5) / np.float32(photons))
    result = _reconstruct(itk, rtk, circle, frame, grid, lengths, scan.hann)
    return 1000.0 * (result - 1.0), photons


def load_rtk() -> tuple[Any, Any]:
    """Return the modules itk and itk.RTK, set to one thread: cases run side by side."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # SWIG crashes where its warnings are errors
        try:
            import itk
            from itk import RTK as rtk  # noqa: N811
        except ImportError as error:
            raise RtkMissingError from error
        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(1)
        rtk.ThreeDCircularProjectionGeometry.New()
        kind = itk.Image[itk.F, 3]  # what is first used here does not warn later
        rtk.JosephForwardProjectionImageFilter[kind, kind].New()
        rtk.FDKConeBeamReconstructionFilter[kind].New()
        itk.image_from_array(np.zeros((1, 1, 1), np.float32))
    return itk, rtk


def averaged(values: Field, fine: Grid, grid: Grid, *, samples: int) -> Field:
    """Mean over the voxels of a grid, of so many nearest neighbours along each axis; what is outside counts 0."""
    lines, inside = [], []
    for axis in range(3):
        steps = (np.arange(grid.shape[axis] * samples) + 0.5) / samples - 0.5
        index = np.rint((grid.origin[axis] + grid.voxel * steps - fine.origin[axis]) / fine.voxel).astype(int)
        inside.append((index >= 0) & (index < fine.shape[axis]))
        lines.append(np.clip(index, 0, fine.shape[axis] - 1))
    result = np.empty(grid.shape, np.float32)
    for plane in range(grid.shape[2]):  # one at a time stays small
        part = slice(plane * samples, (plane + 1) * samples)
        cut = values[np.ix_(lines[0], lines[1], lines[2][part])].astype(np.float32)
        cut *= inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, part]
        shape = (grid.shape[0], samples, grid.shape[1], samples, samples)
        result[:, :, plane] = cut.reshape(shape).mean(axis=(1, 3, 4))
    return result


@dataclass(frozen=True)
class _Frame:
    """Detector pixels of an edge length at the detector, and where the axis meets the first plane in view."""

    columns: int
    rows: int
    pixel: float
    axis: tuple[float, float, float]

    @classmethod
    def around(cls, random: np.random.Generator, phantom: Phantom, scan: Scan) -> _Frame:
        """A detector that sees all of the breast before the first plane; the woman does not lie quite centred."""
        grid = phantom.grid
        middle = [grid.origin[a] + grid.voxel * (grid.shape[a] - 1) / 2.0 + random.uniform(-5.0, 5.0) for a in (0, 2)]
        x, y, z = grid.axes()
        distance = np.sqrt((x - middle[0]) ** 2 + (z - middle[1]) ** 2)
        radius = float((distance * (phantom.tissue > 0).any(axis=1, keepdims=True)).max()) + 2.0
        pixel = scan.pixel * scan.source_detector / scan.source_axis
        half = radius * scan.source_detector / np.sqrt(scan.source_axis**2 - radius**2)
        height = float(y.max()) * scan.source_detector / (scan.source_axis - radius)
        columns, rows = int(np.ceil(2.0 * half / pixel)) + 4, int(np.ceil(height / pixel)) + ROWS_BEFORE + 2
        return cls(columns, rows, pixel, (middle[0], 0.0, middle[1]))


def _mapped(phantom: Phantom, values: dict[int, float]) -> Field:
    table = np.zeros(max(values) + 1, np.float32)
    for label, value in values.items():
        table[label] = value
    base = table[phantom.tissue]
    thin = phantom.share > 0.0
    base[thin] += phantom.share[thin] * (table[phantom.thin[thin]] - base[thin])
    return base


def _texture(random: np.random.Generator, phantom: Phantom) -> Field:
    return 1.0 + np.float32(TEXTURE) * finer(smooth_noise(random, phantom.grid.coarser(), 6.0, 2))


def _image(itk: Any, values: Field, spacing: list[float], origin: list[float]) -> Any:
    image = itk.image_from_array(np.ascontiguousarray(values))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    return image


def _stack(itk: Any, values: Field, frame: _Frame) -> Any:
    """Views of (rows, columns) as RTK's image; u is centred, v starts behind the central ray."""
    origin = [-frame.pixel * (frame.columns - 1) / 2.0, -ROWS_BEFORE * frame.pixel, 0.0]
    return _image(itk, values, [frame.pixel, frame.pixel, 1.0], origin)


def _volume(itk: Any, values: Field, grid: Grid, frame: _Frame) -> Any:
    origin = [o - a for o, a in zip(grid.origin, frame.axis, strict=True)]
    return _image(itk, values.transpose(2, 1, 0), [grid.voxel] * 3, origin)


def _project(itk: Any, rtk: Any, circle: Any, frame: _Frame, grid: Grid, values: Field) -> Field:
    """Path lengths of shape (views, rows, columns), mm times the field's unit, along rays after Joseph."""
    kind = itk.Image[itk.F, 3]
    views = len(circle.GetGantryAngles())
    projector = rtk.JosephForwardProjectionImageFilter[kind, kind].New()
    projector.SetGeometry(circle)
    projector.SetInput(0, _stack(itk, np.zeros((views, frame.rows, frame.columns), np.float32), frame))
    projector.SetInput(1, _volume(itk, values, grid, frame))
    projector.Update()
    return np.asarray(itk.array_from_image(projector.GetOutput()), np.float32)


def _reconstruct(itk: Any, rtk: Any, circle: Any, frame: _Frame, grid: Grid, lengths: Field, hann: float) -> Field:
    fdk = rtk.FDKConeBeamReconstructionFilter[itk.Image[itk.F, 3]].New()
    fdk.SetInput(0, _volume(itk, np.zeros(grid.shape, np.float32), grid, frame))
    fdk.SetInput(1, _stack(itk, lengths, frame))
    fdk.SetGeometry(circle)
    fdk.GetRampFilter().SetTruncationCorrection(0.0)
    fdk.GetRampFilter().SetHannCutFrequency(hann)
    fdk.Update()
    return np.asarray(itk.array_from_image(fdk.GetOutput()), np.float32).transpose(2, 1, 0)


def _transmitted(beam: Beam, paths: list[Field]) -> Field:
    signal = np.zeros_like(paths[0])
    water, oxalate = attenuation("water"), attenuation("oxalate")
    for energy, weight in enumerate(beam.weights):
        if weight:
            signal += np.float32(weight) * np.exp(
                -np.float32(water[energy]) * paths[0] - np.float32(oxalate[energy]) * paths[1]
            )
    return signal


def _scattered_and_blurred(scan: Scan, signal: Field, frame: _Frame) -> Field:
    sigma = scan.blur / 2.355 / frame.pixel
    thickest = float(np.quantile(signal[::SCATTER_STEP], 0.02))
    thickness = -np.log(thickest) / effective(attenuation("water"), scan.beam)
    source = (1.0 - signal)[::SCATTER_STEP, ::SCATTER_STEP, ::SCATTER_STEP]
    width = SCATTER_WIDTH / frame.pixel / SCATTER_STEP
    smooth = ndimage.gaussian_filter(source, (1.0, width, width), mode="nearest")
    smooth *= scan.scatter * thickness / BEHIND_WATER * thickest / max(float(smooth.max()), 1e-6)
    whole = ndimage.zoom(smooth, [n / c for n, c in zip(signal.shape, smooth.shape, strict=True)], order=1)
    return np.asarray(ndimage.gaussian_filter(signal, (0.0, sigma, sigma)) + whole, np.float32)


def _photons(scan: Scan, signal: Field) -> float:
    """Photons for the noise aimed at: variance of filtered back-projection (Kak and Slaney, 1988, chapter 5)."""
    behind = float(np.quantile(signal[::SCATTER_STEP], 0.15))
    water = float(np.array(scan.beam.weights) @ attenuation("water"))
    wanted = scan.noise_hu / 1000.0 * water
    ramp = np.pi**2 / (12.0 * scan.views * scan.pixel**2) * NOISE_OF_FILTER * scan.hann**3
    return float(ramp / (wanted**2 * behind))


def _water_lengths(beam: Beam, signal: Field) -> Field:
    """Length of water, mm, that transmits the same share: the usual correction of beam hardening."""
    lengths = np.linspace(-60.0, 600.0, 1321)
    seen = -np.log((np.array(beam.weights) * np.exp(-np.outer(lengths, attenuation("water")))).sum(axis=1))
    return np.asarray(np.interp(-np.log(signal), seen, lengths), np.float32)
