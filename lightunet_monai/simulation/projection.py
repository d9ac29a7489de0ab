"""The projection domain: polychromatic cone-beam projections, scatter, photon noise and FDK reconstruction.

Physical and slower than the image domain: used for a share of the volumes and to check the image domain. `cone_beam`
traces the rays and reconstructs; numba, which compiles it, is an optional extra.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from ..errors import UsageError
from .grid import FloatArray, Grid
from .settings import Span
from .tissues import TissueHu
from .xray import BEAMS, Beam, attenuation, detected_spectrum, effective

BONE_LIKE = 0.25
"""Attenuation above fibroglandular tissue, relative to water, from which on the rest is mineral."""

MATERIALS = ("adipose", "fibroglandular", "hydroxyapatite")
"""What a voxel is made of, in the order of `split_materials`."""

SCATTER_WIDTH = 40.0
"""mm on the detector: standard deviation of the scatter's smoothness."""

SCATTER_STEP = 8
"""Detector pixels and views that share one value of the smooth scatter."""


@dataclass(frozen=True)
class ProjectionPlan:
    """The sampled numbers of one cone-beam acquisition; lengths in mm.

    Parameters
    ----------
    beam : Beam
        Tube, filter and detector kind.
    source_axis, source_detector : float
        Distances from the source.
    views : int
        Over 360 degrees.
    photons : float
        Detected without an object, per 0.388 mm pixel and view.
    electronic : float
        Standard deviation of the read-out in photons.
    scatter_to_primary : float
        At the thickest ray.
    scatter_left : float
        Share of the scatter that correction leaves.
    detector_blur : float
        Full width at half maximum on the detector.
    hann_cut : float
        Of the ramp filter, relative to Nyquist.
    """

    beam: Beam
    source_axis: float
    source_detector: float
    views: int
    photons: float
    electronic: float
    scatter_to_primary: float
    scatter_left: float
    detector_blur: float
    hann_cut: float

    def as_dict(self) -> dict[str, object]:
        """Return the numbers by name; JSON values only."""
        return asdict(self)


def sample_projection(random: np.random.Generator, photons: Span) -> ProjectionPlan:
    """Draw one acquisition of the families of dedicated scanners, the photons of a pixel of 0.388 mm log-uniform."""
    family = int(random.integers(3))
    distances = ((650.0, 923.0), (480.0, 865.0), (620.0, 930.0))[family]
    views = int(random.integers(200, 501))
    return ProjectionPlan(
        beam=BEAMS[family],
        source_axis=distances[0] * random.uniform(0.97, 1.03),
        source_detector=distances[1] * random.uniform(0.97, 1.03),
        views=views,
        photons=float(np.exp(random.uniform(np.log(photons[0]), np.log(photons[1])))),
        electronic=random.uniform(2.0, 15.0),
        scatter_to_primary=random.uniform(0.2, 0.7),
        scatter_left=random.uniform(0.0, 0.4),
        detector_blur=random.uniform(0.2, 0.8),
        hann_cut=random.uniform(0.6, 1.0),
    )


def project_and_reconstruct(
    plan: ProjectionPlan, hu: torch.Tensor, tissue: TissueHu, grid: Grid, random: np.random.Generator
) -> torch.Tensor:
    """Return the volume that cone-beam CT makes of a breast.

    Parameters
    ----------
    plan : ProjectionPlan
        What was sampled.
    hu : tensor of float32, shape (X, Y, Z)
        True Hounsfield units at the beam's effective energy.
    tissue : TissueHu
        Values of the case, which tell fat from gland.
    grid : Grid
        Of `hu`; the scanner turns about the y axis, the central ray meets the chest wall.
    random : Generator
        Photon and read-out noise.

    Raises
    ------
    UsageError
        numba is not installed.
    """
    cone_beam = _load_cone_beam()
    detector = Detector.around(grid, plan)
    circle = cone_beam.Circle(plan.source_axis, plan.source_detector, plan.views)
    parts = split_materials(hu.cpu().numpy(), tissue, plan.beam)
    every = dict(zip(MATERIALS, parts, strict=True))
    present = {name: values for name, values in every.items() if values.any()} or every
    paths = cone_beam.project(list(present.values()), grid, detector, circle)
    signal = _polychromatic(plan.beam, list(present), paths)
    del paths
    signal = _scatter_and_blur(plan, signal, detector)
    line_integrals = _water_corrected(plan.beam, _noisy(plan, signal, detector, random))
    reconstructed = cone_beam.reconstruct(line_integrals, grid, detector, circle, hann_cut=plan.hann_cut)
    return torch.from_numpy((reconstructed / effective("water", plan.beam) - 1.0) * 1000.0).to(hu.device)


def split_materials(hu: FloatArray, tissue: TissueHu, beam: Beam) -> list[FloatArray]:
    """Return the volumes of adipose, fibroglandular tissue and mineral per voxel, relative to the pure tissue.

    At the effective energy their sum has the attenuation of `hu`, whatever the physical values of the tissues.
    """
    relative = np.maximum(1.0 + hu / 1000.0, 0.0)
    fat, gland = 1.0 + tissue.adipose / 1000.0, 1.0 + tissue.fibroglandular / 1000.0
    mixture = np.clip((relative - fat) / (gland - fat), 0.0, 1.0)
    adipose = np.where(relative < fat, relative / fat, 1.0 - mixture)
    soft = np.minimum(relative, gland + BONE_LIKE)
    glandular = np.where(relative > gland, soft / gland, mixture)
    mineral = (relative - soft) * effective("water", beam) / effective("hydroxyapatite", beam)
    scale = effective("water", beam)
    adipose *= fat * scale / effective("adipose", beam)
    glandular *= gland * scale / effective("fibroglandular", beam)
    return [np.asarray(part, dtype=np.float32) for part in (adipose, glandular, mineral)]


@dataclass(frozen=True)
class Detector:
    """Pixels (u across, v along the rotation axis), pixel edge in mm and the isocentre's world position."""

    columns: int
    rows: int
    pixel: float
    isocentre: tuple[float, float, float]

    @classmethod
    def around(cls, grid: Grid, plan: ProjectionPlan) -> Detector:
        """Return a detector that sees all of the grid, with pixels finer than a voxel, chest wall at its edge."""
        magnification = plan.source_detector / plan.source_axis
        pixel = max(0.388, 0.7 * grid.voxel_size * magnification)
        lengths = [n * s for n, s in zip(grid.shape, grid.spacing, strict=True)]
        radius = 0.5 * float(np.hypot(lengths[0], lengths[2]))
        nearest = plan.source_detector / (plan.source_axis - radius)
        columns = int(np.ceil(2.0 * radius * nearest / pixel)) + 8
        rows = int(np.ceil(lengths[1] * nearest / pixel)) + 8
        middle = [o + (n - 1) * s / 2.0 for o, n, s in zip(grid.origin, grid.shape, grid.spacing, strict=True)]
        return cls(columns, rows, pixel, (middle[0], grid.origin[1], middle[2]))


def _polychromatic(beam: Beam, materials: list[str], paths: FloatArray) -> FloatArray:
    """Return the transmitted share of the signal, shape (views, columns, rows), from each material's paths in mm."""
    weights = detected_spectrum(beam)
    energies = np.flatnonzero(weights >= 1e-4)
    tables = np.stack([attenuation(name)[energies] for name in materials], axis=1).astype(np.float32)
    views, columns, rows = paths.shape[1:]
    signal = np.zeros((views, columns, rows), dtype=np.float32)
    for view in range(views):  # one view at a time stays in the cache
        through = paths[:, view].reshape(len(materials), -1)
        transmitted = np.exp(-tables @ through)
        signal[view] = (weights[energies].astype(np.float32) @ transmitted).reshape(columns, rows)
    return signal


def _scatter_and_blur(plan: ProjectionPlan, signal: FloatArray, detector: Detector) -> FloatArray:
    """Add what scatter correction leaves and the detector's blur."""
    sigma = plan.detector_blur / 2.355 / detector.pixel
    blurred: FloatArray = ndimage.gaussian_filter(signal, (0.0, sigma, sigma)) if sigma > 0.15 else signal
    if plan.scatter_left > 0.0:
        # Scatter is made where attenuation happens, and comes out smooth.
        source = signal * -np.log(np.maximum(signal, 1e-6))
        coarse = source[::SCATTER_STEP, ::SCATTER_STEP, ::SCATTER_STEP]
        width = SCATTER_WIDTH / detector.pixel / SCATTER_STEP
        coarse = ndimage.gaussian_filter(coarse, (0.5, width, width), mode="nearest")
        thickest = np.unravel_index(int(np.argmin(signal)), signal.shape)
        at_thickest = coarse[tuple(i // SCATTER_STEP for i in thickest)]
        factors = [n / c for n, c in zip(signal.shape, coarse.shape, strict=True)]
        smooth = ndimage.zoom(coarse, factors, order=1)
        scale = plan.scatter_to_primary * plan.scatter_left * signal[thickest] / max(float(at_thickest), 1e-9)
        blurred = blurred + np.float32(scale) * smooth
    return np.asarray(blurred, dtype=np.float32)


def _noisy(plan: ProjectionPlan, signal: FloatArray, detector: Detector, random: np.random.Generator) -> FloatArray:
    photons = plan.photons * (detector.pixel / 0.388) ** 2
    counts = random.poisson(signal * photons).astype(np.float32)
    counts += np.float32(plan.electronic) * random.standard_normal(signal.shape, dtype=np.float32)
    return np.asarray(np.maximum(counts, 0.5) / photons, dtype=np.float32)


def _water_corrected(beam: Beam, signal: FloatArray) -> FloatArray:
    """Return line integrals at the effective energy: the usual beam-hardening correction for water."""
    lengths = np.linspace(0.0, 500.0, 600)
    water = attenuation("water")
    measured = -np.log((detected_spectrum(beam) * np.exp(-np.outer(lengths, water))).sum(axis=1))
    values = np.interp(-np.log(signal), measured, lengths * effective("water", beam))
    return np.asarray(values, dtype=np.float32)


def _load_cone_beam() -> Any:
    """Return the compiled module; the one place that needs the extra."""
    try:
        from . import cone_beam
    except ImportError as error:
        raise UsageError(
            "Projection-domain volumes need numba, which is not installed.",
            hint="pip install 'lightunet_monai[projection]'",
        ) from error
    return cone_beam
