"""One simulated case from a seed: anatomy, findings, scanner, storage.

case = simulate_case(seed=7, settings=SimulationSettings(spacing=(0.6, 0.8)))
case.volume_hu, case.label_map, case.affine, case.lesions
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .anatomy import build_anatomy
from .breast import sample_breast_shape
from .drawing import draw_label
from .grid import upsample
from .lesions import Lesion
from .placement import Frame, plan_frame
from .projection import project_and_reconstruct, sample_projection
from .random_streams import RandomStreams
from .scanner import after_reconstruction, noise_level, sample_scanner, scan
from .settings import SIMULATOR_VERSION, SimulationSettings
from .storage import sample_storage, to_storage
from .tissues import Tissue


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
        The tumours of the volume; `Lesion.label_voxels` says how much of each is labelled.
    parameters : dict
        Every sampled number, and the noise that became of it (`noise_level_hu` beside `noise_hu`); JSON values only.
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
    storage = sample_storage(streams.part("storage"), shape.family)
    frame = plan_frame(shape, settings, storage.slice_factor, storage.slice_axis, streams.part("frame"))
    anatomy = build_anatomy(shape, frame, settings, streams, torch.device(device))
    scanner = sample_scanner(streams.part("scanner"), settings)
    projection = None
    if settings.acquisition == "projection":
        projection = sample_projection(streams.part("projection"), settings.photons)
        noise = streams.part("photons")
        anatomy.canvas.hu = project_and_reconstruct(projection, anatomy.canvas.hu, anatomy.hu, frame.grid, noise)
        scanner = after_reconstruction(scanner)
    surface = upsample(anatomy.fields.surface, frame.grid.shape, anatomy.canvas.hu.device)
    # A nipple stands out of the surface that the breast was drawn from: it is breast, not air.
    surface = surface.where(anatomy.canvas.tissue == int(Tissue.OUTSIDE), surface.clamp(max=0.0))
    hu, tumour, outside = (_thicken(v, frame) for v in (anatomy.canvas.hu, anatomy.canvas.tumour, surface))
    tissue = _middle_slices(anatomy.canvas.tissue, frame)
    scanned = scan(scanner, hu, outside, frame.delivered, streams.part("scan"), metal=anatomy.metal)
    if scanned.without_image is not None:  # what has no image has neither tissue nor label
        tissue = tissue.masked_fill(scanned.without_image, int(Tissue.OUTSIDE))
    label, lesions = draw_label(tumour, anatomy.lesions, frame.delivered, without_image=scanned.without_image)
    drawn = torch.from_numpy(label).to(tissue.device)
    tissue = _with_drawn_tumour(tissue, drawn)
    parameters: dict[str, object] = {
        "simulator_version": SIMULATOR_VERSION,
        "seed": seed,
        "settings": asdict(settings),
        "breast": asdict(shape),
        **anatomy.parameters,
        "scanner": {**asdict(scanner), "noise_level_hu": noise_level(scanner, frame.delivered)},
        "projection": None if projection is None else projection.as_dict(),
        "storage": {**asdict(storage), "slice_factor": frame.slice_factor},
        "spacing": list(frame.delivered.spacing),
        "lesions": [asdict(lesion) for lesion in lesions],
    }
    volume, affine = to_storage(scanned.hu.round_().clamp_(-32768, 32767).to(torch.int16), frame.delivered, storage)
    return SimulatedCase(
        volume_hu=volume,
        label_map=to_storage(drawn, frame.delivered, storage)[0],
        tissue_map=to_storage(tissue, frame.delivered, storage)[0],
        affine=affine,
        lesions=lesions,
        parameters=parameters,
    )


def _thicken(values: torch.Tensor, frame: Frame) -> torch.Tensor:
    """Average thin slices into the delivered thick ones."""
    axis, factor = frame.slice_axis, frame.slice_factor
    if factor == 1:
        return values
    shape = frame.delivered.shape
    return values.reshape([*shape[:axis], shape[axis], factor, *shape[axis + 1 :]]).mean(axis + 1)


def _middle_slices(tissue: torch.Tensor, frame: Frame) -> torch.Tensor:
    """Return the tissue of the middle thin slice of each delivered one: codes cannot be averaged."""
    count, factor = frame.delivered.shape[frame.slice_axis], frame.slice_factor
    index = torch.arange(count, device=tissue.device) * factor + factor // 2
    return tissue.index_select(frame.slice_axis, index)


def _with_drawn_tumour(tissue: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Make the tissue map agree with the label map; spicules too thin to draw count as fibrous tissue."""
    undrawn = (tissue == int(Tissue.TUMOUR)) & (drawn == 0)
    tissue = tissue.masked_fill(undrawn, int(Tissue.FIBROGLANDULAR))
    return tissue.masked_fill((drawn > 0) & (tissue != int(Tissue.CALCIFICATION)), int(Tissue.TUMOUR))
