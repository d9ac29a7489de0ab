"""Forms of fibroglandular tissue beside lobules and noise: lobes along ducts, a body with carved fat, strands.

They are what makes recipe `forms`. A form is a score per voxel, which is added to a part of the score that all looks
share; what scores highest becomes gland.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree

from .breast import BreastFields, BreastShape, nipple_position
from .compartments import make_compartments
from .grid import FloatArray, Grid, upsample
from .random_fields import power_law_field
from .trees import grow_tree

STRAND_STEP = 1.0
"""mm between the nodes of the fields whose zero crossings are strands."""


FORMS = {"lobes": 0.5, "carved": 0.4, "strands": 0.35}
"""How much of the shared score each form keeps."""


def form_score(
    form: str,
    shape: BreastShape,
    fields: BreastFields,
    grid: Grid,
    random: np.random.Generator,
    *,
    size: float,
    streak: float,
    device: torch.device,
) -> torch.Tensor:
    """Return what a form adds to the score of each voxel.

    Parameters
    ----------
    form : str
        ``lobes``, ``carved`` or ``strands``.
    shape, fields : BreastShape, BreastFields
        The breast and its smooth fields.
    grid : Grid
        Fine grid.
    random : Generator
        Ducts, lobules and fields.
    size : float
        mm: of a fat lobule, of the gap between strands.
    streak : float
        Strands are longer by this factor from the chest wall to the nipple.
    device : torch.device
        Where the score is to be.

    Returns
    -------
    tensor of float32, shape (X, Y, Z)
        At most 0 for lobes and strands.
    """
    if form == "lobes":
        return upsample(_lobes(shape, fields, random), grid.shape, device)
    if form == "carved":
        return _carved(grid, random, size=size, device=device)
    return upsample(_strands(grid, random, size=size, streak=streak), grid.shape, device)


def _lobes(shape: BreastShape, fields: BreastFields, random: np.random.Generator) -> FloatArray:
    """Score nearness to branching ducts: 4 to 14 trees that fan out from behind the nipple."""
    root = nipple_position(shape) - np.array([0.0, 4.0, 0.0])
    points = []
    for _ in range(int(random.integers(4, 15))):
        heading = np.array([0.0, -1.0, 0.0]) + random.uniform(0.3, 0.9) * random.standard_normal(3)
        length = random.uniform(0.25, 0.45) * shape.length
        for start, end, _ in grow_tree(
            random, root, heading / np.linalg.norm(heading), length=length, radius=1.0, depth=3
        ):
            steps = np.linspace(0.0, 1.0, 4)[:, None]
            points.append(start + steps * (end - start))
    local = np.stack([axis.ravel() for axis in fields.local], axis=1)
    distance, _ = cKDTree(np.concatenate(points)).query(local, workers=-1)
    reach = random.uniform(4.0, 10.0)
    return np.asarray(-2.0 * distance / reach, dtype=np.float32).reshape(fields.local[0].shape)


def _carved(grid: Grid, random: np.random.Generator, *, size: float, device: torch.device) -> torch.Tensor:
    """Score a body of gland from which most lobules are carved out, walls of gland left between them."""
    lobules = make_compartments(grid, random, size=size, stretch=(1.0, 1.0, 1.0), warp=0.15 * size, device=device)
    is_fat = random.random(len(lobules.seeds)) < random.uniform(0.4, 0.8)
    fat = torch.from_numpy(is_fat.astype(np.float32)).to(device)
    wall = random.uniform(0.05, 0.2) * size
    inside = ((lobules.wall_distance - wall) / (0.1 * size)).clamp_(-1.0, 1.0)
    return inside.mul_(fat[lobules.nearest.long()]).mul_(-2.0)


def _strands(grid: Grid, random: np.random.Generator, *, size: float, streak: float) -> FloatArray:
    """Score nearness to sheets, where one field passes through 0, or to threads, where two do."""
    nodes = grid.coarse(max(STRAND_STEP, grid.voxel_size))
    count = int(random.integers(1, 3))
    squares = [
        power_law_field(nodes, random, exponent=4.5, outer_scale=2.5 * size, stretch=(1.0, streak, 1.0)) ** 2
        for _ in range(count)
    ]
    return np.asarray(-2.5 * np.sqrt(np.sum(squares, axis=0)), dtype=np.float32)
