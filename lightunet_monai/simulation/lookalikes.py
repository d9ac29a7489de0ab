"""Benign findings that look like tumours and are not labelled: cysts, fibroadenomas, nodes, clips, calcifications.

They differ from tumours by value: never above fibroglandular tissue for soft findings, far above for mineral and metal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .lesion_shapes import ellipsoid, lobulated, spicules
from .lesions import Site
from .tissues import Tissue, TissueHu

KINDS = ("cyst", "fibroadenoma", "node", "clip", "coarse_calcification", "microcalcifications", "scar")
SHARES = (0.28, 0.16, 0.12, 0.08, 0.12, 0.16, 0.08)


@dataclass(frozen=True)
class LookAlike:
    """One benign finding: kind, diameter in mm, HU above fibroglandular (absolute HU for cysts, mineral, metal)."""

    kind: str
    diameter: float
    hu: float
    elongation: float


def sample_lookalikes(random: np.random.Generator) -> list[LookAlike]:
    """Draw nought to three findings."""
    count = int(random.choice([0, 1, 2, 3], p=[0.45, 0.3, 0.17, 0.08]))
    return [_sample_one(random) for _ in range(count)]


def _sample_one(random: np.random.Generator) -> LookAlike:
    kind = str(random.choice(KINDS, p=SHARES))
    elongation = random.uniform(1.0, 1.8)
    if kind == "cyst":
        diameter = float(np.clip(random.lognormal(np.log(10.0), 0.5), 3.0, 35.0))
        return LookAlike(kind, diameter, random.uniform(0.0, 25.0), random.uniform(1.0, 1.3))
    if kind == "fibroadenoma":
        diameter = float(np.clip(random.lognormal(np.log(11.0), 0.4), 4.0, 30.0))
        return LookAlike(kind, diameter, random.uniform(-20.0, -2.0), elongation)
    if kind == "node":
        return LookAlike(kind, random.uniform(4.0, 10.0), random.uniform(-10.0, 0.0), random.uniform(1.2, 2.0))
    if kind == "clip":
        return LookAlike(kind, random.uniform(1.5, 3.5), random.uniform(3000.0, 6000.0), 3.0)
    if kind == "coarse_calcification":
        return LookAlike(kind, random.uniform(1.0, 4.0), random.uniform(500.0, 2000.0), elongation)
    if kind == "scar":
        return LookAlike(kind, random.uniform(8.0, 25.0), random.uniform(-25.0, -5.0), 1.0)
    return LookAlike(kind, random.uniform(3.0, 15.0), random.uniform(800.0, 3000.0), 1.0)


def paint_lookalike(canvas: Canvas, finding: LookAlike, site: Site, hu: TissueHu, random: np.random.Generator) -> None:
    """Paint one benign finding."""
    if finding.kind == "microcalcifications":
        paint_cluster(canvas, finding.diameter, finding.hu, site, random)
        return
    if finding.kind == "scar":
        _paint_scar(canvas, finding, site, hu, random)
        return
    radius = finding.diameter / 2.0
    slices = canvas.grid.around(site.centre, 1.9 * radius + 2.0)
    if slices is None:
        return
    offsets = canvas.grid.offsets(slices, site.centre)
    if finding.kind == "fibroadenoma" and random.random() < 0.4:
        distance = lobulated(offsets, radius, random)
    else:
        distance = ellipsoid(offsets, radius, random, elongation=finding.elongation)
    size = canvas.grid.voxel_size
    share = np.clip(0.5 - distance / size, 0.0, 1.0)
    if finding.kind == "cyst":
        # A cyst is water: below gland by definition of the sampled values.
        canvas.paint(slices, share, min(finding.hu, hu.fibroglandular - 5.0), Tissue.BENIGN)
    elif finding.kind == "fibroadenoma":
        canvas.paint(slices, share, hu.fibroglandular + finding.hu, Tissue.BENIGN)
    elif finding.kind == "node":
        canvas.paint(slices, share, hu.fibroglandular + finding.hu, Tissue.BENIGN)
        hilum = np.sqrt(sum((o - np.float32(0.2 * radius)) ** 2 for o in offsets)) - 0.55 * radius
        canvas.paint(slices, np.clip(0.5 - hilum / size, 0.0, 1.0) * share, hu.adipose, Tissue.BENIGN)
    elif finding.kind == "clip":
        canvas.paint(slices, share, finding.hu, Tissue.METAL)
    else:
        canvas.paint(slices, share, finding.hu, Tissue.CALCIFICATION)


def _paint_scar(canvas: Canvas, finding: LookAlike, site: Site, hu: TissueHu, random: np.random.Generator) -> None:
    """Paint strands that pull towards a line, without a mass in the middle."""
    middle = site.centre
    for start, end, radii in spicules(random, finding.diameter / 3.0)[:60]:
        value = hu.fibroglandular + finding.hu
        canvas.paint_tube(middle + 0.6 * start, middle + end, radii, value, Tissue.BENIGN)


def paint_cluster(canvas: Canvas, diameter: float, hu: float, site: Site, random: np.random.Generator) -> None:
    """Paint 5 to 30 specks of 0.15 to 0.6 mm; below the voxel size only their share of the voxel counts."""
    for _ in range(int(random.integers(5, 31))):
        place = site.centre + random.normal(0.0, diameter / 4.0, 3)
        radius = random.uniform(0.075, 0.3)
        size = canvas.grid.voxel_size
        slices = canvas.grid.around(place, radius + size)
        if slices is None:
            continue
        offsets = canvas.grid.offsets(slices, place)
        share = np.clip(0.5 + (radius - np.sqrt(sum(o**2 for o in offsets))) / size, 0.0, 1.0)
        volume = 4.0 / 3.0 * np.pi * radius**3
        share *= min(1.0, volume / max(float(share.sum()) * size**3, 1e-9))
        canvas.paint(slices, share.astype(np.float32), hu, Tissue.CALCIFICATION)
