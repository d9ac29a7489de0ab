"""The scanner in the image domain: blur, cupping, shading, rings, correlated noise, scale and storage.

The order is that of a real acquisition as seen in the reconstructed volume; every number is sampled wider than the
dedicated scanners of the literature (49-60 kVp, 0.15-0.8 mm voxels).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from .grid import Grid, upsample
from .random_fields import complex_white_noise, smooth_field
from .settings import SimulationSettings

NOISE_REFERENCE = 0.3
"""mm: voxel edge that the noise level in the settings refers to."""

NOISE_LIMITS = (2.0, 90.0)
"""HU: the least and the most noise that a volume gets near the skin, whatever the settings and the voxels."""


@dataclass(frozen=True)
class ScannerPlan:
    """The sampled numbers of one acquisition."""

    rotation_axis: int
    noise_hu: float
    noise_ramp: float
    noise_cut: float
    noise_axial_blur: float
    blur_mm: float
    cupping: float
    shading_hu: float
    wall_shading_hu: float
    ring_hu: float
    streak_hu: float
    air: str
    field_of_view: float
    motion_mm: tuple[float, float, float]
    motion_share: float
    bad_slices: int
    gain: float
    offset_hu: float
    storage: str
    clip_low: float


def sample_scanner(random: np.random.Generator, settings: SimulationSettings) -> ScannerPlan:
    """Draw one acquisition."""
    low, high = settings.noise_hu
    storage = "hu"
    if random.random() < settings.odd_scale:
        storage = str(random.choice(["shifted", "attenuation"]))
    moving = random.random() < 0.12
    truncated = random.random() < 0.12
    return ScannerPlan(
        noise_hu=float(np.exp(random.uniform(np.log(low), np.log(high)))),
        rotation_axis=int(random.choice([1, 2, 0], p=[0.7, 0.2, 0.1])),
        noise_ramp=random.uniform(0.3, 1.0),
        noise_cut=random.uniform(*settings.noise_cuts[int(random.integers(len(settings.noise_cuts)))]),
        noise_axial_blur=random.uniform(0.2, 1.2),
        blur_mm=random.uniform(*settings.blur_mm),
        cupping=settings.cupping[0] + (settings.cupping[1] - settings.cupping[0]) * random.beta(1.6, 3.0),
        shading_hu=abs(random.normal(0.0, 12.0)),
        wall_shading_hu=random.normal(0.0, 20.0),
        ring_hu=random.exponential(6.0) * float(random.random() < 0.4),
        streak_hu=random.uniform(50.0, 500.0),
        air=str(random.choice(["noisy", "masked", "clipped"], p=[0.35, 0.35, 0.3])),
        field_of_view=random.uniform(0.8, 0.98) if truncated else 0.0,
        motion_mm=(random.normal(0.0, 1.0), random.normal(0.0, 0.7), random.normal(0.0, 1.0)),
        motion_share=random.uniform(0.1, 0.5) if moving else 0.0,
        bad_slices=int(random.integers(1, 4)) if random.random() < 0.15 else 0,
        gain=random.uniform(*settings.gain),
        offset_hu=random.uniform(*settings.offset_hu),
        storage=storage,
        clip_low=float(random.choice([-1000.0, -1024.0, -3000.0])),
    )


@dataclass(frozen=True)
class Scan:
    """What the scanner delivers.

    Parameters
    ----------
    hu : tensor of float32, shape (X, Y, Z)
        The volume.
    without_image : tensor of bool, shape (X, Y, Z), or None
        Voxels beyond the field of view and in damaged slices that hold air alone; None if every voxel has an image.
    """

    hu: torch.Tensor
    without_image: torch.Tensor | None


def after_reconstruction(plan: ScannerPlan) -> ScannerPlan:
    """Return the plan for a volume that was reconstructed from projections: only field of view, scale and storage."""
    return replace(
        plan,
        rotation_axis=1,
        noise_hu=0.0,
        blur_mm=0.0,
        cupping=0.0,
        shading_hu=0.0,
        wall_shading_hu=0.0,
        ring_hu=0.0,
        streak_hu=0.0,
        motion_share=0.0,
        bad_slices=0,
    )


def scan(
    plan: ScannerPlan,
    hu: torch.Tensor,
    outside: torch.Tensor,
    grid: Grid,
    random: np.random.Generator,
    *,
    metal: Sequence[NDArray[np.float64]] = (),
) -> Scan:
    """Return the volume as a scanner would deliver it, and where it shows nothing.

    Parameters
    ----------
    plan : ScannerPlan
        What was sampled.
    hu : tensor of float32, shape (X, Y, Z)
        True Hounsfield units.
    outside : tensor of float32, shape (X, Y, Z)
        Distance from the skin into the air, mm; negative in the breast.
    grid : Grid
        Of the delivered volume.
    random : Generator
        Noise, rings and shading.
    metal : sequence of ndarray of shape (3,)
        World positions of metal in mm; each draws streaks.
    """
    axis = plan.rotation_axis
    turned = grid.swapped(1, axis)
    hu, outside = hu.transpose(1, axis).contiguous(), outside.transpose(1, axis).contiguous()
    scanned = _scan_about_second_axis(plan, hu, outside, turned, random, [_swapped(m, axis) for m in metal])
    without_image = scanned.without_image
    if without_image is not None:
        without_image = without_image.transpose(1, axis).contiguous()
    return Scan(scanned.hu.transpose(1, axis).contiguous(), without_image)


def _swapped(position: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    swapped: NDArray[np.float64] = position.copy()
    swapped[1], swapped[axis] = position[axis], position[1]
    return swapped


def _scan_about_second_axis(
    plan: ScannerPlan,
    hu: torch.Tensor,
    outside: torch.Tensor,
    grid: Grid,
    random: np.random.Generator,
    metal: list[NDArray[np.float64]],
) -> Scan:
    hu = _move(plan, hu, grid)
    hu = gaussian_blur(hu, [plan.blur_mm / 2.355 / s for s in grid.spacing])
    radius = _radius_map(grid, hu.device)
    _cup(plan, hu, outside)
    _shade(plan, hu, grid, random)
    _add_rings(plan, hu, radius, random)
    for position in metal:
        _add_streaks(plan, hu, grid, position, random)
    if plan.noise_hu > 0.0:
        hu.add_(_noise(plan, outside, grid, random))
    without_image = _leave_out(plan, hu, outside, radius, grid, random)
    return Scan(_store(plan, hu), without_image)


def gaussian_blur(values: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
    """Return the volume blurred by Gaussians of the given sigmas in voxels, edges repeated."""
    for dimension, sigma in enumerate(sigmas):
        if sigma < 0.15:
            continue
        reach = max(1, int(np.ceil(3.0 * sigma)))
        taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        taps /= taps.sum()
        count = values.shape[dimension]
        total = values * float(taps[reach])
        for shift in range(1, reach + 1):
            weight = float(taps[reach + shift])
            upper = torch.arange(count, device=values.device).add_(shift).clamp_(max=count - 1)
            lower = torch.arange(count, device=values.device).sub_(shift).clamp_(min=0)
            total.add_(values.index_select(dimension, upper), alpha=weight)
            total.add_(values.index_select(dimension, lower), alpha=weight)
        values = total
    return values


def _move(plan: ScannerPlan, hu: torch.Tensor, grid: Grid) -> torch.Tensor:
    """A breast that settles during the scan leaves a fainter double; edges repeated."""
    if plan.motion_share == 0.0:
        return hu
    double = hu
    for dimension, (shift, spacing) in enumerate(zip(plan.motion_mm, grid.spacing, strict=True)):
        count = hu.shape[dimension]
        index = torch.arange(count, device=hu.device).sub_(round(shift / spacing)).clamp_(0, count - 1)
        double = double.index_select(dimension, index)
    return hu * (1.0 - plan.motion_share) + double * plan.motion_share


def _radius_map(grid: Grid, device: torch.device) -> torch.Tensor:
    x, z = grid.axis(0), grid.axis(2)
    radius = np.hypot((x - x.mean())[:, None], (z - z.mean())[None, :])
    return torch.from_numpy(radius.astype(np.float32)).to(device)


def _cup(plan: ScannerPlan, hu: torch.Tensor, outside: torch.Tensor) -> None:
    """Attenuation falls with the path through tissue, here with depth below the skin."""
    depth = (-outside).clamp_(min=0.0)
    loss = 1.0 - torch.exp(depth.div_(-20.0))
    hu.add_((hu + 1000.0) * loss, alpha=-plan.cupping)


def _shade(plan: ScannerPlan, hu: torch.Tensor, grid: Grid, random: np.random.Generator) -> None:
    coarse = grid.coarse(12.0)
    shade = plan.shading_hu * smooth_field(coarse, random, length=80.0)
    along = np.linspace(0.0, 1.0, coarse.shape[1], dtype=np.float32)[None, :, None]
    shade = shade + plan.wall_shading_hu * (1.0 - along) ** 2
    hu.add_(upsample(shade.astype(np.float32), grid.shape, hu.device))


def _add_rings(plan: ScannerPlan, hu: torch.Tensor, radius: torch.Tensor, random: np.random.Generator) -> None:
    if plan.ring_hu == 0.0:
        return
    step = 0.5
    bins = int(float(radius.max()) / step) + 2
    profile = random.standard_normal((hu.shape[1], bins)).astype(np.float32)
    profile *= random.random((1, bins)) < 0.15
    # A detector element's gain error is diluted over the circle it draws.
    profile *= plan.ring_hu / np.sqrt(0.1 + np.arange(bins, dtype=np.float32) * step / 20.0)
    rings = torch.from_numpy(profile).to(hu.device)[:, (radius / step).long()]
    hu.add_(rings.permute(1, 0, 2))


def _add_streaks(
    plan: ScannerPlan, hu: torch.Tensor, grid: Grid, position: NDArray[np.float64], random: np.random.Generator
) -> None:
    """Bright and dark rays from a piece of metal, in the slices it lies in."""
    x, z = grid.axis(0) - np.float32(position[0]), grid.axis(2) - np.float32(position[2])
    angle = np.arctan2(z[None, :], x[:, None])
    radius = np.hypot(x[:, None], z[None, :])
    rays = np.zeros_like(angle)
    for _ in range(12):
        rays += np.cos(random.integers(2, 24) * angle + np.float32(random.uniform(0.0, 2.0 * np.pi)))
    rays *= np.float32(plan.streak_hu / 2.5) / (1.0 + radius / 4.0)
    across = np.exp(-(((grid.axis(1) - np.float32(position[1])) / 2.0) ** 2))
    near = np.flatnonzero(across > 0.02)
    if near.size == 0:
        return
    slab = slice(int(near[0]), int(near[-1]) + 1)
    streaks = rays[:, None, :] * across[None, slab, None]
    hu[:, slab].add_(torch.from_numpy(streaks.astype(np.float32)).to(hu.device))


def _noise(plan: ScannerPlan, outside: torch.Tensor, grid: Grid, random: np.random.Generator) -> torch.Tensor:
    """Noise whose spectrum rises like a ramp across the rotation axis and falls with the reconstruction filter."""
    shape = tuple(scipy.fft.next_fast_len(n, real=True) for n in grid.shape)
    noise = complex_white_noise((shape[0], shape[1], shape[2]), random)
    nyquist = 0.5 / max(grid.spacing[0], grid.spacing[2])
    fx = np.fft.fftfreq(shape[0], grid.spacing[0])[:, None]
    fz = np.fft.rfftfreq(shape[2], grid.spacing[2])[None, :]
    across = np.hypot(fx, fz) / nyquist
    power = (0.02 + across**plan.noise_ramp) * np.exp(-2.0 * (across / plan.noise_cut) ** 2)
    fy = np.fft.fftfreq(shape[1])
    axial = np.exp(-0.5 * (2.0 * np.pi * fy * plan.noise_axial_blur) ** 2)
    noise *= np.sqrt(power).astype(np.float32)[:, None, :]
    noise *= axial.astype(np.float32)[None, :, None]
    field = scipy.fft.irfftn(noise, s=shape, workers=-1, overwrite_x=True)
    field = field[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
    level = noise_level(plan, grid)
    scaled = torch.from_numpy(np.ascontiguousarray(field * np.float32(level / max(float(field.std()), 1e-9))))
    # Rays through more tissue carry fewer photons: air is quieter than the centre.
    depth = (outside / -40.0).clamp_(-0.5, 0.8)
    return scaled.to(outside.device).mul_(depth.add_(1.0))


def noise_level(plan: ScannerPlan, grid: Grid) -> float:
    """Return the noise in HU near the skin on this grid, before gain; it is half again as much 20 mm below.

    Larger voxels average, less than independently as noise is correlated. The level is clipped to `NOISE_LIMITS`; it is
    0 where the plan has no noise, as behind a reconstruction, which brings its own.
    """
    if plan.noise_hu <= 0.0:
        return 0.0
    level = plan.noise_hu * (grid.voxel_size / NOISE_REFERENCE) ** -1.3
    return float(np.clip(level, *NOISE_LIMITS))


def _leave_out(
    plan: ScannerPlan,
    hu: torch.Tensor,
    outside: torch.Tensor,
    radius: torch.Tensor,
    grid: Grid,
    random: np.random.Generator,
) -> torch.Tensor | None:
    """Mask air, cut off what is beyond the field of view, damage the first slices; return `Scan.without_image`."""
    if plan.air == "masked":
        hu.masked_fill_(outside > 2.0, -1000.0)
    elif plan.air == "clipped":
        hu.clamp_(min=-1000.0)
    without_image = torch.zeros(hu.shape, dtype=torch.bool, device=hu.device)
    if plan.field_of_view > 0.0:
        edge = plan.field_of_view * 0.5 * max(grid.shape[0] * grid.spacing[0], grid.shape[2] * grid.spacing[2])
        # Rays that leave the detector pile up as a bright rim at the edge of the field of view.
        hu.add_((40.0 * torch.exp((radius - edge).clamp_(max=0.0) / 6.0))[:, None, :])
        without_image |= (radius > edge)[:, None, :]
        hu.masked_fill_(without_image, -1000.0)
    for index in range(min(plan.bad_slices, hu.shape[1] // 8)):
        if random.random() < 0.5:
            hu[:, index] = -1000.0
            without_image[:, index] = True
        else:
            hu[:, index] = hu[:, index] * 0.5 + 60.0 * random.standard_normal()
    return without_image if without_image.any() else None


def _store(plan: ScannerPlan, hu: torch.Tensor) -> torch.Tensor:
    hu = hu.mul_(plan.gain).add_(plan.offset_hu)
    if plan.air != "noisy":
        hu.clamp_(min=-1000.0)
    hu.clamp_(min=plan.clip_low, max=8000.0)
    if plan.storage == "shifted":
        return hu.clamp_(min=-1000.0).add_(1000.0)
    if plan.storage == "attenuation":
        # Linear attenuation in 1/m: water is about 25 /m at 44 keV; stored times 10.
        return hu.add_(1000.0).clamp_(min=0.0).mul_(0.25)
    return hu
