"""One simulated case from a seed: anatomy, findings, scanner, storage.

case = simulate_case(seed=7, settings=SimulationSettings(spacing=(0.6, 0.8)))
case.volume_hu, case.label_map, case.affine, case.lesions
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .breast import BreastFields, BreastShape, compute_breast_fields, nipple_position, sample_breast_shape
from .canvas import Canvas
from .grid import FloatArray, Grid, coverage, upsample
from .lesions import Lesion, Site, choose_site, paint_lesion, sample_lesions
from .lookalikes import paint_lookalike, sample_lookalikes
from .parenchyma import make_parenchyma, sample_parenchyma
from .placement import Frame, plan_frame
from .random_streams import RandomStreams
from .scanner import sample_scanner, scan
from .settings import SIMULATOR_VERSION, SimulationSettings
from .storage import sample_storage, to_storage
from .tissues import Tissue, TissueHu, sample_tissue_hu
from .trees import grow_tree, paint_tree


@dataclass(frozen=True)
class SimulatedCase:
    """A labelled volume.

    Parameters
    ----------
    volume_hu : ndarray of int16, shape (X, Y, Z)
        What the scanner delivers.
    label_map : ndarray of uint8, shape (X, Y, Z)
        1 is tumour.
    tissue_map : ndarray of uint8, shape (X, Y, Z)
        Values of `Tissue`.
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ patient millimetres.
    lesions : tuple of Lesion
        What is labelled.
    parameters : dict
        Every sampled number; JSON values only.
    """

    volume_hu: NDArray[np.int16]
    label_map: NDArray[np.uint8]
    tissue_map: NDArray[np.uint8]
    affine: NDArray[np.float64]
    lesions: tuple[Lesion, ...]
    parameters: dict[str, object]


def simulate_case(
    seed: int, *, settings: SimulationSettings | None = None, device: str | torch.device = "cpu"
) -> SimulatedCase:
    """Simulate one case; the same seed and settings give the same case.

    Parameters
    ----------
    seed : int
        Not negative.
    settings : SimulationSettings, optional
        Ranges to draw from; the training recipe by default.
    device : str or torch.device
        Where the voxels are computed.
    """
    settings = settings or SimulationSettings()
    streams = RandomStreams(seed)
    shape = sample_breast_shape(streams.part("breast"), settings)
    storage = sample_storage(streams.part("storage"))
    frame = plan_frame(shape, settings, storage.slice_factor, storage.slice_axis, streams.part("frame"))
    anatomy = _build_anatomy(shape, frame, settings, streams, torch.device(device))
    grid = frame.grid
    hu, tumour, tissue = _thicken(anatomy, frame)
    outside = upsample(anatomy.fields.surface, frame.delivered.shape, hu.device)
    scanner = sample_scanner(streams.part("scanner"), settings)
    hu = scan(scanner, hu, outside, frame.delivered, streams.part("scan"))
    label = tumour >= 0.5
    tissue = torch.where(label, torch.full_like(tissue, int(Tissue.TUMOUR)), tissue)
    parameters: dict[str, object] = {
        "simulator_version": SIMULATOR_VERSION,
        "seed": seed,
        "settings": asdict(settings),
        "breast": asdict(shape),
        **anatomy.parameters,
        "scanner": asdict(scanner),
        "storage": asdict(storage),
        "spacing": list(grid.spacing),
        "lesions": [asdict(lesion) for lesion in anatomy.lesions],
    }
    volume, affine = to_storage(hu.round_().clamp_(-32768, 32767).to(torch.int16), frame.delivered, storage)
    return SimulatedCase(
        volume_hu=volume,
        label_map=to_storage(label.to(torch.uint8), frame.delivered, storage)[0],
        tissue_map=to_storage(tissue, frame.delivered, storage)[0],
        affine=affine,
        lesions=tuple(anatomy.lesions),
        parameters=parameters,
    )


@dataclass(frozen=True)
class _Anatomy:
    canvas: Canvas
    fields: BreastFields
    lesions: list[Lesion]
    parameters: dict[str, object]


def _build_anatomy(
    shape: BreastShape, frame: Frame, settings: SimulationSettings, streams: RandomStreams, device: torch.device
) -> _Anatomy:
    with_contrast = bool(streams.part("contrast").random() < 0.15)
    hu = sample_tissue_hu(streams.part("tissue"), with_contrast=with_contrast)
    grid = frame.grid
    fields = compute_breast_fields(shape, grid, frame.local_from_world, streams.part("surface"))
    plan = sample_parenchyma(streams.part("parenchyma"), settings)
    surface = upsample(fields.surface, grid.shape, device)
    inner = surface + upsample(fields.skin_thickness, grid.shape, device)
    muscle = upsample(fields.muscle, grid.shape, device)
    inner_depth = -torch.maximum(inner, -muscle)
    parenchyma = make_parenchyma(plan, shape, fields, grid, inner_depth, streams.part("texture"))
    canvas = _paint_tissues(grid, hu, surface, inner, muscle, parenchyma.gland, parenchyma.ligament)
    texture = parenchyma.gland.mul(plan.gland_texture_hu - plan.fat_texture_hu).add_(plan.fat_texture_hu)
    canvas.hu.add_(texture.mul_(parenchyma.texture).mul_(inner < 0))
    _paint_nipple(canvas, shape, frame, hu)
    depth_array: FloatArray = inner_depth.cpu().numpy()
    _paint_trees(canvas, shape, frame, hu, depth_array, streams)
    lesions, findings = _paint_findings(canvas, settings, hu, depth_array, parenchyma.gland, streams, with_contrast)
    parameters: dict[str, object] = {
        "contrast_agent": with_contrast,
        "tissue_hu": hu.as_dict(),
        "parenchyma": asdict(plan),
        "look_alikes": findings,
    }
    return _Anatomy(canvas, fields, lesions, parameters)


def _paint_tissues(
    grid: Grid,
    hu: TissueHu,
    surface: torch.Tensor,
    inner: torch.Tensor,
    muscle: torch.Tensor,
    gland: torch.Tensor,
    ligament: torch.Tensor,
) -> Canvas:
    """Blend air, skin, fat, gland, ligaments and muscle by their share of each voxel."""
    size = grid.voxel_size
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


def _paint_nipple(canvas: Canvas, shape: BreastShape, frame: Frame, hu: TissueHu) -> None:
    if shape.nipple_protrusion <= 0.0:
        return
    tip = nipple_position(shape)
    ends = [frame.to_world(tip + np.array([0.0, along, 0.0])) for along in (-4.0, shape.nipple_protrusion)]
    radius = shape.nipple_radius
    canvas.paint_tube(ends[0], ends[1], (radius, 0.8 * radius), hu.skin, Tissue.SKIN)


def _paint_trees(
    canvas: Canvas, shape: BreastShape, frame: Frame, hu: TissueHu, depth: FloatArray, streams: RandomStreams
) -> None:
    random = streams.part("trees")
    tip = frame.to_world(nipple_position(shape) - np.array([0.0, 3.0, 0.0]))
    back = frame.to_world_direction(np.array([0.0, -1.0, 0.0]))
    for _ in range(int(random.integers(0, 9))):
        heading = back + 0.5 * random.standard_normal(3)
        heading /= np.linalg.norm(heading)
        radius = random.uniform(0.25, 1.2)
        pieces = grow_tree(
            random, tip, heading, length=random.uniform(0.15, 0.35) * shape.length, radius=radius, depth=2
        )
        paint_tree(canvas, pieces, hu.duct, depth)
    for _ in range(int(random.integers(1, 6))):
        across = random.uniform(-0.7, 0.7, 2) * np.array([shape.half_width, shape.half_height])
        root = frame.to_world(np.array([across[0], random.uniform(-5.0, 15.0), across[1]]))
        heading = -back + 0.5 * random.standard_normal(3)
        heading /= np.linalg.norm(heading)
        radius = random.uniform(0.4, 1.5)
        pieces = grow_tree(
            random, root, heading, length=random.uniform(0.25, 0.5) * shape.length, radius=radius, depth=3
        )
        paint_tree(canvas, pieces, hu.vessel, depth)


def _paint_findings(
    canvas: Canvas,
    settings: SimulationSettings,
    hu: TissueHu,
    depth: FloatArray,
    gland: torch.Tensor,
    streams: RandomStreams,
    with_contrast: bool,
) -> tuple[list[Lesion], list[dict[str, object]]]:
    """Place and paint tumours first, then look-alikes around them."""
    stride = max(1, round(2.0 / canvas.grid.voxel_size))
    coarse_spacing = [s * stride for s in canvas.grid.spacing]
    step = (slice(None, None, stride),) * 3
    nodes = Grid(depth[step].shape, (coarse_spacing[0], coarse_spacing[1], coarse_spacing[2]), canvas.grid.origin)
    fields = depth[step], gland[step].cpu().numpy()
    taken: list[Site] = []
    lesions = []
    random = streams.part("lesions")
    for number, lesion in enumerate(sample_lesions(random, settings, with_contrast=with_contrast)):
        place = streams.part(f"lesion-{number}")
        site = choose_site(nodes, *fields, taken, place, radius=lesion.diameter / 2.0, in_gland=lesion.in_gland)
        if site is not None:
            taken.append(site)
            lesions.append(paint_lesion(canvas, lesion, site, hu, place))
    findings: list[dict[str, object]] = []
    for number, finding in enumerate(sample_lookalikes(streams.part("look-alikes"))):
        place = streams.part(f"look-alike-{number}")
        site = choose_site(nodes, *fields, taken, place, radius=finding.diameter / 2.0, in_gland=place.random() < 0.6)
        if site is not None:
            taken.append(site)
            paint_lookalike(canvas, finding, site, hu, place)
            findings.append({**asdict(finding), "centre": [float(c) for c in site.centre]})
    return lesions, findings


def _thicken(anatomy: _Anatomy, frame: Frame) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Average thin slices into the delivered thick ones; the tissue of the middle slice stands for all."""
    canvas, factor, axis = anatomy.canvas, frame.slice_factor, frame.slice_axis
    if factor == 1:
        return canvas.hu, canvas.tumour, canvas.tissue
    count = canvas.grid.shape[axis] // factor
    averaged = []
    for values in (canvas.hu, canvas.tumour):
        averaged.append(values.narrow(axis, 0, count * factor).unflatten(axis, (count, factor)).mean(axis + 1))
    index = torch.arange(count, device=canvas.hu.device) * factor + factor // 2
    return averaged[0], averaged[1], canvas.tissue.index_select(axis, index)
