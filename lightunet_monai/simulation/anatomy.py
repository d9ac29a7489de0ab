"""One patient's breast on the fine grid, before any scanner: tissues, trees and findings."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .breast import BreastFields, BreastShape, compute_breast_fields, nipple_position
from .canvas import Canvas
from .findings import paint_findings
from .grid import FloatArray, Grid, coverage, upsample
from .implant import implant_distance, sample_implant
from .lesions import Lesion
from .parenchyma import Parenchyma, ParenchymaPlan, make_parenchyma, sample_parenchyma
from .placement import Frame
from .random_streams import RandomStreams
from .settings import SimulationSettings
from .thorax import paint_thorax
from .tissues import Tissue, TissueHu, sample_tissue_hu
from .trees import grow_tree, paint_tree

BEHIND_BREAST = 12.0
"""mm behind the breast's origin to which gland and findings may reach."""


@dataclass(frozen=True)
class Anatomy:
    """The painted breast.

    Parameters
    ----------
    canvas : Canvas
        HU, tissues and tumour share on the fine grid.
    fields : BreastFields
        Smooth fields.
    hu : TissueHu
        Values of the case.
    lesions : list of Lesion
        What is labelled.
    metal : list of ndarray of shape (3,)
        World positions of metal, mm.
    parameters : dict
        Sampled numbers; JSON values only.
    """

    canvas: Canvas
    fields: BreastFields
    hu: TissueHu
    lesions: list[Lesion]
    metal: list[NDArray[np.float64]]
    parameters: dict[str, object]


def build_anatomy(
    shape: BreastShape, frame: Frame, settings: SimulationSettings, streams: RandomStreams, device: torch.device
) -> Anatomy:
    """Paint one breast (or, in chest CT, both) with all it holds."""
    with_contrast = bool(streams.part("contrast").random() < settings.with_contrast)
    hu = sample_tissue_hu(streams.part("tissue"), with_contrast=with_contrast)
    grid = frame.grid
    fields = compute_breast_fields(shape, grid, frame.local_from_world, streams.part("surface"))
    plan = sample_parenchyma(streams.part("parenchyma"), settings)
    surface = upsample(fields.surface, grid.shape, device)
    inner = surface + upsample(fields.skin_thickness, grid.shape, device)
    muscle = upsample(fields.muscle, grid.shape, device)
    breast_back = upsample(fields.local[1] + np.float32(BEHIND_BREAST), grid.shape, device)
    inner_depth = torch.minimum(torch.minimum(-inner, muscle), breast_back)
    implant = sample_implant(streams.part("implant"), shape, share=settings.with_implant)
    shell = None
    if implant is not None:
        shell = upsample(implant_distance(implant, fields.local), grid.shape, device)
        inner_depth = torch.minimum(inner_depth, shell)
    parenchyma = make_parenchyma(plan, shape, fields, grid, inner_depth, streams.part("texture"))
    canvas = _paint_tissues(grid, hu, surface, inner, muscle, parenchyma)
    _add_texture(canvas, plan, parenchyma, inner)
    if shape.wall_in_view:
        paint_thorax(canvas, shape, fields, streams.part("thorax"), with_contrast=with_contrast)
    if implant is not None and shell is not None:
        share = coverage(torch.maximum(shell, inner), grid.voxel_size)
        canvas.hu.add_((implant.hu - canvas.hu).mul_(share))
        canvas.tissue[share >= 0.5] = int(Tissue.IMPLANT)
    depth_array: FloatArray = inner_depth.cpu().numpy()
    for side in frame.sides:
        _paint_nipple(canvas, shape, frame, hu, side)
        _paint_trees(canvas, shape, frame, hu, depth_array, streams.part(f"trees{'' if side > 0 else '-left'}"), side)
    canvas.confine(coverage(surface, grid.voxel_size))
    found = paint_findings(canvas, settings, hu, depth_array, parenchyma.gland, streams, with_contrast=with_contrast)
    parameters: dict[str, object] = {
        "contrast_agent": with_contrast,
        "tissue_hu": hu.as_dict(),
        "parenchyma": asdict(plan),
        "implant": None if implant is None else asdict(implant),
        "look_alikes": found.look_alikes,
    }
    return Anatomy(canvas, fields, hu, found.lesions, found.metal, parameters)


def _paint_tissues(
    grid: Grid,
    hu: TissueHu,
    surface: torch.Tensor,
    inner: torch.Tensor,
    muscle: torch.Tensor,
    parenchyma: Parenchyma,
) -> Canvas:
    """Blend air, skin, fat, gland, ligaments and muscle by their share of each voxel."""
    size = grid.voxel_size
    gland, ligament = parenchyma.gland, parenchyma.ligament
    value = gland * (hu.fibroglandular - hu.adipose) + hu.adipose
    value.add_((hu.ligament - value).clamp_(min=0.0).mul_(ligament))
    behind = coverage(muscle, size)
    value.add_((hu.muscle - value).mul_(behind))
    value.sub_(hu.skin).mul_(coverage(inner, size)).add_(hu.skin)
    value.sub_(hu.air).mul_(coverage(surface, size)).add_(hu.air)
    tissue = torch.full(grid.shape, int(Tissue.ADIPOSE), dtype=torch.uint8, device=surface.device)
    tissue[gland >= 0.5] = int(Tissue.FIBROGLANDULAR)
    tissue[(ligament >= 0.5) & (gland < 0.5)] = int(Tissue.LIGAMENT)
    tissue[behind >= 0.5] = int(Tissue.MUSCLE)
    tissue[inner > 0] = int(Tissue.SKIN)
    tissue[surface > 0] = int(Tissue.OUTSIDE)
    return Canvas(grid, value, tissue)


def _add_texture(canvas: Canvas, plan: ParenchymaPlan, parenchyma: Parenchyma, inner: torch.Tensor) -> None:
    amplitude = parenchyma.gland.mul(plan.gland_texture_hu - plan.fat_texture_hu).add_(plan.fat_texture_hu)
    canvas.hu.add_(amplitude.mul_(parenchyma.texture).mul_(inner < 0))


def _paint_nipple(canvas: Canvas, shape: BreastShape, frame: Frame, hu: TissueHu, side: float) -> None:
    if shape.nipple_protrusion <= 0.0:
        return
    tip = nipple_position(shape)
    ends = [frame.to_world(tip + np.array([0.0, along, 0.0]), side) for along in (-4.0, shape.nipple_protrusion)]
    radius = shape.nipple_radius
    canvas.paint_tube(ends[0], ends[1], (radius, 0.8 * radius), hu.skin, Tissue.SKIN)


def _paint_trees(
    canvas: Canvas,
    shape: BreastShape,
    frame: Frame,
    hu: TissueHu,
    depth: FloatArray,
    random: np.random.Generator,
    side: float,
) -> None:
    """Paint up to eight ducts from the nipple and one to five vessels from the chest wall."""
    tip = frame.to_world(nipple_position(shape) - np.array([0.0, 3.0, 0.0]), side)
    back = frame.to_world_direction(np.array([0.0, -1.0, 0.0]))
    for _ in range(int(random.integers(0, 9))):
        radius, length = random.uniform(0.25, 1.2), random.uniform(0.15, 0.35) * shape.length
        pieces = grow_tree(random, tip, _about(back, random), length=length, radius=radius, depth=2)
        paint_tree(canvas, pieces, hu.duct, depth)
    for _ in range(int(random.integers(1, 6))):
        across = random.uniform(-0.7, 0.7, 2) * np.array([shape.half_width, shape.half_height])
        root = frame.to_world(np.array([across[0], random.uniform(-5.0, 15.0), across[1]]), side)
        radius, length = random.uniform(0.4, 1.5), random.uniform(0.25, 0.5) * shape.length
        pieces = grow_tree(random, root, _about(-back, random), length=length, radius=radius, depth=3)
        paint_tree(canvas, pieces, hu.vessel, depth)


def _about(direction: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Return a unit direction within some tens of degrees of another."""
    turned = direction + 0.5 * random.standard_normal(3)
    unit: NDArray[np.float64] = turned / np.linalg.norm(turned)
    return unit
