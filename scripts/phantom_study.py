"""Labelled breast CT volumes of independent kinds: phantoms, projected and reconstructed by RTK.

    python scripts/phantom_study.py -n 24 --seed 1 -o OUT
    python scripts/phantom_study.py -n 24 --seed 1 --kind clumps -o OUT
    lightunet evaluate --data OUT/datalist.json --section testing -o OUT/evaluation

They share no code with `lightunet simulate`, on which models are trained: anatomy, lesions and physics are
written anew (`phantoms/`), rays and FDK are those of RTK (pip install itk-rtk). The same seed gives the same volumes.
The first kind is after the phantoms of the VICTRE trial; models from 0.18.0 on have seen those of seed 101. No model
has seen the second, by which nothing is chosen, or the third, by which choices are made.

OUT/images, OUT/labels     NIfTI, HU and 1 in masses
OUT/tissues                what fills most of each voxel, values as of `lightunet simulate`
OUT/parameters             what was drawn and scanned, and what was measured in the volume, JSON
OUT/datalist.json          all cases, under "testing"
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from phantoms.anatomy import Phantom, make_breast
from phantoms.cells import burst, make_celled_breast, wavy
from phantoms.clumps import ellipsoids, make_clumped_breast, star
from phantoms.fields import Field, Grid
from phantoms.lesions import draw_lesions
from phantoms.materials import Tissue, sample_tissues
from phantoms.scan import (
    RtkMissingError,
    averaged,
    load_rtk,
    reconstruct,
    reconstruction_grid,
    sample_scan,
    true_hu,
)
from scipy import ndimage

VERSION = 1
"""Of the phantoms: another number, other volumes."""

ORIENTATIONS = ("LPS", "LAS", "RAS", "LSA", "RSP", "LIA", "PSL", "ASR")
"""Axes of the stored voxels: axial, coronal (slices from chest wall to nipple) and sagittal."""

KINDS = ("compartments", "clumps", "cells")
"""Of breasts and masses: after the VICTRE trial; level sets of noise with masses of ellipsoids and cones; cells of fat
and gland with masses that have waves or ridges."""

LOWEST, HIGHEST = -1024, 3071
"""HU that are stored."""

FEWEST_VOXELS = 50
"""Of one tissue, for its mean to be given."""

TISSUE_VALUES = {
    1: (Tissue.ADIPOSE,),
    2: (Tissue.GLAND, Tissue.LIGAMENT, Tissue.DUCT, Tissue.VESSEL, Tissue.CYST, Tissue.NODE, Tissue.CALCIFICATION),
    3: (Tissue.SKIN,),
    4: (Tissue.MUSCLE,),
    9: tuple(range(Tissue.MASS, 256)),
}
"""Values of a tissue map as ``lightunet simulate`` writes it, with what counts as each of them to five classes."""

LABEL_SAMPLES = 4
"""Along each axis of a voxel, to know whether a mass fills half of it."""


@dataclass(frozen=True)
class Request:
    """What one case is made from.

    Parameters
    ----------
    seed, number : int
        The study's seed and the case's number, from 1.
    projection : bool
        False: the phantom itself, averaged over voxels.
    noise_hu : float
        Standard deviation of white noise that is added.
    scale : float
        Of the breast's size; below 1 for quick tests.
    version : int
    kind : str
        One of `KINDS`.
    """

    seed: int
    number: int
    projection: bool = True
    noise_hu: float = 0.0
    scale: float = 1.0
    version: int = VERSION
    kind: str = KINDS[0]

    @property
    def name(self) -> str:
        return f"case_{self.number:04d}"


@dataclass(frozen=True)
class Case:
    """A volume in HU, its maps of masses and tissues, its affine (RAS), and what was drawn, scanned and measured."""

    hu: Field
    label: NDArray[np.uint8]
    tissue: NDArray[np.uint8]
    affine: NDArray[np.float64]
    record: dict[str, Any]


def make_case(request: Request) -> Case:
    """Make one phantom and its reconstruction.

    Raises
    ------
    RtkMissingError
        Projections are asked for and itk-rtk is not installed.
    """
    name = b"phantom study" if request.kind == KINDS[0] else f"phantom study: {request.kind}".encode()
    random = np.random.default_rng([zlib.crc32(name), request.version, request.seed, request.number])
    voxel = random.uniform(0.5, 0.6)
    if request.kind == KINDS[0]:
        phantom = make_breast(random, voxel, scale=request.scale)
        relative = draw_lesions(random, phantom)
    elif request.kind == KINDS[1]:
        phantom = make_clumped_breast(random, voxel, scale=request.scale)
        relative = draw_lesions(random, phantom, {"lobulated": ellipsoids, "stellate": star})
    else:
        phantom = make_celled_breast(random, voxel, scale=request.scale)
        relative = draw_lesions(random, phantom, {"wavy": wavy, "irregular": burst})
    tissues: dict[int, NDArray[np.float64]] = {int(tissue): mu for tissue, mu in sample_tissues(random).items()}
    tissues |= {label: factor * tissues[Tissue.GLAND] for label, factor in relative.items()}
    scan = sample_scan(random, phantom)
    grid = reconstruction_grid(random, phantom, scan.voxel)
    if request.projection:
        hu, photons = reconstruct(random, phantom, tissues, scan, grid)
    else:
        hu, photons = true_hu(random, phantom, tissues, scan.beam, grid), 0.0
    if request.noise_hu > 0.0:
        hu = hu + np.float32(request.noise_hu) * random.standard_normal(hu.shape, dtype=np.float32)
    label = _label(phantom, grid)
    record = {
        "request": asdict(request),
        "phantom": phantom.record,
        "scan": {**asdict(scan), "photons": round(photons, 1)} if request.projection else None,
        "measured": _measure(phantom, grid, hu),
        "orientation": str(random.choice(ORIENTATIONS)),
    }
    affine = np.diag([grid.voxel, grid.voxel, grid.voxel, 1.0])
    affine[:3, 3] = grid.origin
    return Case(np.clip(hu, LOWEST, HIGHEST), label, _tissue_map(phantom, grid), affine, record)


def _label(phantom: Phantom, grid: Grid) -> NDArray[np.uint8]:
    """Voxels of the grid of which a mass fills half or more."""
    label = np.zeros(grid.shape, np.uint8)
    for mass, box in enumerate(
        ndimage.find_objects(np.maximum(phantom.tissue, Tissue.MASS - 1) - (Tissue.MASS - 1)), 1
    ):
        if box is None:
            continue
        first, last = [], []
        for axis in range(3):
            low, high = (phantom.grid.origin[axis] + phantom.grid.voxel * i for i in (box[axis].start, box[axis].stop))
            first.append(max(0, int((low - grid.origin[axis]) / grid.voxel) - 1))
            last.append(min(grid.shape[axis], int((high - grid.origin[axis]) / grid.voxel) + 3))
        part = tuple(slice(f, t) for f, t in zip(first, last, strict=True))
        start = grid.position(first)
        x, y, z = (t - f for f, t in zip(first, last, strict=True))
        small = Grid((x, y, z), (start[0], start[1], start[2]), grid.voxel)
        here = (phantom.tissue == Tissue.MASS - 1 + mass).astype(np.float32)
        label[part] |= averaged(here, phantom.grid, small, samples=LABEL_SAMPLES) >= 0.5
    return label


def _tissue_map(phantom: Phantom, grid: Grid) -> NDArray[np.uint8]:
    """What fills most of each voxel of the grid: a value of `TISSUE_VALUES`, 0 for all else."""
    filled = np.where(phantom.share >= 0.5, phantom.thin, phantom.tissue)
    shares = {
        value: averaged(np.isin(filled, tissues).astype(np.float32), phantom.grid, grid, samples=2)
        for value, tissues in TISSUE_VALUES.items()
    }
    most = 1.0 - sum(shares.values())  # of all else
    tissue_map = np.zeros(grid.shape, np.uint8)
    for value, share in shares.items():
        tissue_map[share > most] = value
        most = np.maximum(most, share)
    return tissue_map


def _measure(phantom: Phantom, grid: Grid, hu: Field) -> dict[str, Any]:
    """Mean HU of tissues in voxels that hold nothing else, and the noise where there is only fat."""
    measured: dict[str, Any] = {}
    for tissue in (Tissue.ADIPOSE, Tissue.GLAND):
        pure = (phantom.tissue == tissue) & (phantom.share == 0.0)
        only = ndimage.binary_erosion(averaged(pure.astype(np.float32), phantom.grid, grid, samples=2) >= 1.0)
        if only.sum() < FEWEST_VOXELS:
            continue
        measured[f"{tissue.name.lower()}_hu"] = round(float(hu[only].mean()), 1)
        if tissue == Tissue.ADIPOSE:
            around = ndimage.gaussian_filter(np.where(only, hu, 0.0), 2.0)
            weight = ndimage.gaussian_filter(only.astype(np.float32), 2.0)
            measured["noise_hu"] = round(float((hu[only] - around[only] / weight[only]).std()), 1)
    return measured


def write_case(case: Case, folder: Path, name: str) -> None:
    """Write image, label map, tissue map and, last, parameters; the volume is turned to its orientation."""
    parameters = folder / "parameters" / f"{name}.json"
    parameters.unlink(missing_ok=True)  # of an older case, whose files are replaced one by one
    maps = {"images": np.rint(case.hu).astype(np.int16), "labels": case.label, "tissues": case.tissue}
    for kind, values in maps.items():
        image = nibabel.Nifti1Image(values, case.affine)
        wanted = nibabel.orientations.axcodes2ornt(tuple(case.record["orientation"]))
        image = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), wanted))
        image.header.set_xyzt_units("mm")
        image.set_qform(image.affine, code=1)
        image.set_sform(image.affine, code=1)
        nibabel.save(image, folder / kind / f"{name}.nii.gz")
    text = json.dumps(case.record, indent=1)
    parameters.write_text(text + "\n", encoding="utf-8")


def make_study(requests: list[Request], folder: Path, *, jobs: int = 1) -> Iterator[str]:
    """Write the cases that are not there yet and then the datalist; yields a line on each case made."""
    for kind in ("images", "labels", "tissues", "parameters"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    missing = [(request, folder) for request in requests if not _is_there(request, folder)]
    if jobs > 1:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            yield from pool.imap_unordered(_make_and_write, missing)
    else:
        yield from map(_make_and_write, missing)
    keys = {"image": "images", "label": "labels", "tissue": "tissues"}
    cases = [{key: f"{kind}/{r.name}.nii.gz" for key, kind in keys.items()} for r in requests]
    text = json.dumps({"testing": cases}, indent=1)
    (folder / "datalist.json").write_text(text + "\n", encoding="utf-8")


def _is_there(request: Request, folder: Path) -> bool:
    if not all((folder / kind / f"{request.name}.nii.gz").exists() for kind in ("images", "labels", "tissues")):
        return False
    made: dict[str, Any] = {"kind": KINDS[0]}  # what records without one are of
    try:
        made |= json.loads((folder / "parameters" / f"{request.name}.json").read_text(encoding="utf-8"))["request"]
    except (FileNotFoundError, ValueError):  # not made, or stopped while the record was written
        return False
    return made == asdict(request)


def _make_and_write(task: tuple[Request, Path]) -> str:
    request, folder = task
    case = make_case(request)
    write_case(case, folder, request.name)
    masses = case.record["phantom"]["masses"]
    size = " x ".join(map(str, case.hu.shape))
    return f"{request.name}: {size}, {len(masses)} masses, {json.dumps(case.record['measured'])}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Labelled breast CT volumes of independent phantoms.")
    parser.add_argument("-n", type=int, default=24, dest="count", help="volumes (24)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0], help="of breasts and masses (%(default)s)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--no-projection", action="store_true", help="the phantoms themselves, without a scanner")
    parser.add_argument("--noise-hu", type=float, default=0.0, metavar="X", help="white noise to add, HU (0)")
    arguments = parser.parse_args()
    if arguments.count < 1 or arguments.seed < 0 or arguments.jobs < 1 or arguments.noise_hu < 0.0:
        parser.error("expected -n and --jobs of 1 or more, --seed and --noise-hu of 0 or more")
    requests = [
        Request(arguments.seed, number, not arguments.no_projection, arguments.noise_hu, kind=arguments.kind)
        for number in range(1, arguments.count + 1)
    ]
    try:
        if not arguments.no_projection:
            load_rtk()
        for line in make_study(requests, arguments.output, jobs=arguments.jobs):
            print(line, flush=True)
    except (RtkMissingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.output / 'datalist.json'}: {arguments.count} cases")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
