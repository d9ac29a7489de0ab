"""Placing and painting what is found in a breast: tumours first, then look-alikes around them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from .canvas import Canvas
from .grid import FloatArray, Grid
from .lesions import Lesion, LesionPlan, Site, choose_site, paint_lesion, sample_lesions
from .lookalikes import paint_cluster, paint_lookalike, sample_lookalikes
from .random_streams import RandomStreams
from .settings import SimulationSettings
from .tissues import TissueHu

NODE_STEP = 2.0
"""mm between the places that are tried for a finding."""


@dataclass(frozen=True)
class Findings:
    """What was painted: tumours, look-alikes (JSON values) and world positions of metal, mm."""

    lesions: list[Lesion]
    look_alikes: list[dict[str, object]]
    metal: list[NDArray[np.float64]]


def paint_findings(
    canvas: Canvas,
    settings: SimulationSettings,
    hu: TissueHu,
    inner_depth: FloatArray,
    gland: torch.Tensor,
    streams: RandomStreams,
    *,
    with_contrast: bool,
) -> Findings:
    """Place and paint all findings of a case; `inner_depth` and `gland` are on the canvas's grid."""
    grid = canvas.grid
    strides = [max(1, round(NODE_STEP / s)) for s in grid.spacing]
    step = (slice(None, None, strides[0]), slice(None, None, strides[1]), slice(None, None, strides[2]))
    spacing = [s * n for s, n in zip(grid.spacing, strides, strict=True)]
    depth_nodes, gland_nodes = inner_depth[step], gland[step].cpu().numpy()
    shape = depth_nodes.shape
    nodes = Grid((shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2]), grid.origin)
    taken: list[Site] = []

    def find_site(radius: float, random: np.random.Generator, *, in_gland: bool) -> Site | None:
        site = choose_site(nodes, depth_nodes, gland_nodes, taken, random, radius=radius, in_gland=in_gland)
        if site is not None:
            taken.append(site)
        return site

    lesions: list[Lesion] = []
    plans = sample_lesions(streams.part("lesions"), settings, with_contrast=with_contrast)
    for number, plan in enumerate(plans):
        random = streams.part(f"lesion-{number}")
        site = find_site(plan.diameter / 2.0, random, in_gland=plan.in_gland)
        if site is None:
            continue
        lesions.append(paint_lesion(canvas, plan, site, hu, random))
        for satellite, place in _satellites(plan, site, taken, nodes, depth_nodes, random):
            taken.append(place)
            lesions.append(paint_lesion(canvas, satellite, place, hu, random))
        if plan.calcified:
            paint_cluster(canvas, 0.7 * plan.diameter, random.uniform(800.0, 3000.0), site, random)
    found = Findings([lesion for lesion in lesions if lesion.volume_ml > 0.0], [], [])
    for number, finding in enumerate(sample_lookalikes(streams.part("look-alikes"))):
        random = streams.part(f"look-alike-{number}")
        site = find_site(finding.diameter / 2.0, random, in_gland=bool(random.random() < 0.6))
        if site is None:
            continue
        paint_lookalike(canvas, finding, site, hu, random)
        found.look_alikes.append({**asdict(finding), "centre": [float(c) for c in site.centre]})
        if finding.kind == "clip":
            found.metal.append(site.centre)
    return found


def _satellites(
    plan: LesionPlan,
    site: Site,
    taken: list[Site],
    nodes: Grid,
    inner_depth: FloatArray,
    random: np.random.Generator,
) -> list[tuple[LesionPlan, Site]]:
    """Return the small foci around a multifocal tumour that fall on free places in the breast."""
    foci = []
    for _ in range(plan.satellites):
        diameter = float(np.clip(plan.diameter * random.uniform(0.25, 0.5), 3.0, 15.0))
        direction = random.standard_normal(3)
        reach = site.radius * random.uniform(1.2, 2.2) + diameter
        centre = site.centre + direction / np.linalg.norm(direction) * reach
        depth = float(inner_depth[tuple(nodes.nearest(centre[None])[0])])
        free = all(np.linalg.norm(centre - other.centre) > other.radius + diameter / 2.0 + 1.5 for other in taken)
        if free and depth > diameter / 2.0:
            focus = replace(plan, kind="oval", diameter=diameter, core_hu=0.0)
            foci.append((focus, Site(centre, diameter / 2.0)))
    return foci
