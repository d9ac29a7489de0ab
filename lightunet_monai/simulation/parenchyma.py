"""The inside of the breast: fibroglandular tissue, fat lobules and Cooper's ligaments.

All looks share one recipe: a score for every voxel (dense behind the nipple, thin towards the chest wall, plus a
power-law field and a value per lobule, or one of the forms of `gland_forms`), cut at the quantile that gives the wanted
glandular fraction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from .breast import BreastFields, BreastShape
from .compartments import make_compartments
from .gland_forms import FORMS, form_score
from .grid import FloatArray, Grid, upsample
from .random_fields import power_law_field, smooth_field
from .settings import SimulationSettings

TEXTURE_STEP = 1.0
"""mm between the nodes of the power-law field; finer detail carries less than 1 % of its variance."""

MIX = {"clumps": 1.0, "mixed": 0.5, "compartments": 0.15}
"""Weight of the continuous field against the value per lobule."""


@dataclass(frozen=True)
class ParenchymaPlan:
    """The sampled numbers of the breast's inside, mm unless named otherwise."""

    style: str
    glandular_fraction: float
    exponent: float
    outer_scale: float
    streak: float
    subcutaneous_fat: float
    central_weight: float
    central_depth: float
    edge_width: float
    lobule_size: float
    lobule_stretch: float
    wall_warp: float
    ligament_thickness: float
    ligament_share: float
    fat_texture_hu: float
    gland_texture_hu: float


def sample_parenchyma(random: np.random.Generator, settings: SimulationSettings) -> ParenchymaPlan:
    """Draw one inside; the glandular fraction is log-normal around 0.16 (mean of bCT density studies 15-20 %)."""
    low, high = settings.glandular_fraction
    style = str(random.choice(settings.styles))
    smooth = random.random() < 0.35
    fraction, spare = random.lognormal(np.log(0.16), 0.75), random.uniform(low, high)
    return ParenchymaPlan(
        style=style,
        glandular_fraction=float(fraction if low <= fraction <= high else spare),
        exponent=random.uniform(2.7, 4.0),
        outer_scale=random.uniform(15.0, 60.0),
        streak=random.uniform(1.0, 2.5),
        subcutaneous_fat=random.uniform(2.0, 12.0),
        central_weight=random.uniform(0.8, 2.5),
        central_depth=random.uniform(0.35, 0.7),
        edge_width=random.uniform(0.25, 0.8) if smooth else random.uniform(0.03, 0.2),
        lobule_size=random.uniform(6.0, 18.0),
        lobule_stretch=random.uniform(1.0, 1.8),
        wall_warp=random.uniform(0.5, 3.0),
        ligament_thickness=random.uniform(0.3, 1.0),
        ligament_share=random.uniform(0.0, 1.0) if style == "clumps" else random.uniform(0.4, 1.0),
        fat_texture_hu=random.uniform(1.0, 8.0),
        gland_texture_hu=random.uniform(1.0, 12.0),
    )


@dataclass(frozen=True)
class Parenchyma:
    """Shares on the fine grid, float32 of shape (X, Y, Z), 0 to 1, and a unit-variance texture."""

    gland: torch.Tensor
    ligament: torch.Tensor
    texture: torch.Tensor


def make_parenchyma(
    plan: ParenchymaPlan,
    shape: BreastShape,
    fields: BreastFields,
    grid: Grid,
    inner_depth: torch.Tensor,
    random: np.random.Generator,
) -> Parenchyma:
    """Fill the breast.

    Parameters
    ----------
    plan, shape, fields : ParenchymaPlan, BreastShape, BreastFields
        What was sampled and the smooth fields.
    grid : Grid
        Fine grid.
    inner_depth : tensor of float32, shape (X, Y, Z)
        Depth below the inner surface of the skin and in front of the muscle, mm; positive inside.
    random : Generator
        Fields and lobules.
    """
    device = inner_depth.device
    nodes = grid.coarse(max(TEXTURE_STEP, grid.voxel_size))
    streak = (1.0, plan.streak, 1.0)
    noise = power_law_field(nodes, random, exponent=plan.exponent, outer_scale=plan.outer_scale, stretch=streak)
    score_nodes = noise + _to_shape(_tendency(plan, shape, fields), nodes.shape)
    score = upsample(score_nodes, grid.shape, device)
    if plan.style in FORMS:
        score.mul_(FORMS[plan.style]).add_(
            form_score(
                plan.style, shape, fields, grid, random, size=plan.lobule_size, streak=plan.streak, device=device
            )
        )
    if plan.style in ("clumps", *FORMS):
        sheet_distance = _sheet_distance(plan, grid, random, device)
    else:
        lobules = make_compartments(
            grid,
            random,
            size=plan.lobule_size,
            stretch=(1.0, plan.lobule_stretch, 1.0),
            warp=plan.wall_warp,
            device=device,
        )
        per_lobule = _at_points(score_nodes, nodes, lobules.seeds) + random.normal(0.0, 0.8, len(lobules.seeds))
        values = torch.from_numpy(per_lobule.astype(np.float32)).to(device)[lobules.nearest.long()]
        mix = MIX[plan.style]
        score.mul_(mix).add_(values.mul_(1.0 - mix))
        sheet_distance = lobules.wall_distance
    share = _ligament_share(plan, grid, sheet_distance, random)
    return Parenchyma(
        gland=_cut(score, inner_depth, plan),
        ligament=share.mul_(inner_depth > 0),
        texture=upsample(power_law_field(nodes, random, exponent=2.8, outer_scale=8.0), grid.shape, device),
    )


def _tendency(plan: ParenchymaPlan, shape: BreastShape, fields: BreastFields) -> FloatArray:
    depth = -fields.surface - plan.subcutaneous_fat
    _, v, _ = fields.local
    along = np.clip(v / shape.length, -0.3, 1.0)
    behind_nipple = -plan.central_weight * ((along - plan.central_depth) / 0.45) ** 2
    # No gland within the subcutaneous fat, whatever the noise says.
    skin_side = np.clip(depth / 6.0, -3.0, 1.0)
    return np.asarray(behind_nipple + 1.5 * skin_side, dtype=np.float32)


def _to_shape(values: FloatArray, shape: tuple[int, int, int]) -> FloatArray:
    return upsample(values, shape, torch.device("cpu")).numpy()


def _at_points(values: FloatArray, grid: Grid, points: np.ndarray) -> np.ndarray:
    indices = (points - np.asarray(grid.origin)) / np.asarray(grid.spacing)
    return np.asarray(map_coordinates(values, indices.T, order=1, mode="nearest"))


def _cut(score: torch.Tensor, inner_depth: torch.Tensor, plan: ParenchymaPlan) -> torch.Tensor:
    sample = score[::3, ::3, ::3][inner_depth[::3, ::3, ::3] > 0].cpu().numpy()
    if sample.size == 0:
        return torch.zeros_like(score)
    level = float(np.quantile(sample, 1.0 - plan.glandular_fraction))
    spread = max(float(sample.std()), 1e-6)
    return score.sub_(level).div_(2.0 * plan.edge_width * spread).add_(0.5).clamp_(0.0, 1.0)


def _sheet_distance(
    plan: ParenchymaPlan, grid: Grid, random: np.random.Generator, device: torch.device
) -> torch.Tensor:
    """Return mm to the nearest zero crossing of two smooth fields: curved sheets that meet in lines."""
    coarse = grid.coarse(max(1.5, plan.lobule_size / 5.0))
    nearest: torch.Tensor | None = None
    for _ in range(2):
        field = smooth_field(coarse, random, length=plan.lobule_size * 0.8)
        slope = np.sqrt(sum(step**2 for step in np.gradient(field, *coarse.spacing)))
        distance = upsample(field / np.maximum(slope, 0.3 / plan.lobule_size), grid.shape, device).abs_()
        nearest = distance if nearest is None else torch.minimum(nearest, distance)
    assert nearest is not None
    return nearest


def _ligament_share(
    plan: ParenchymaPlan, grid: Grid, distance: torch.Tensor, random: np.random.Generator
) -> torch.Tensor:
    """Return the share of each voxel that a sheet of the ligament thickness fills."""
    half_wall, half_voxel = plan.ligament_thickness / 2.0, grid.voxel_size / 2.0
    upper = (distance + half_voxel).clamp_(max=half_wall)
    lower = (distance - half_voxel).clamp_(min=-half_wall)
    share = upper.sub_(lower).clamp_(min=0.0).div_(2.0 * half_voxel)
    # Sheets fade in and out: only a part of them is thick enough to be seen.
    coarse = grid.coarse(6.0)
    present = smooth_field(coarse, random, length=25.0) * 0.5 + (plan.ligament_share * 2.0 - 0.5)
    return share.mul_(upsample(np.clip(present, 0.0, 1.0).astype(np.float32), grid.shape, distance.device))
