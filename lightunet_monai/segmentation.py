"""The result of one case: a label map on the grid of its source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import BundleError
from .labels import LabelTable
from .sources import ImageSource

AlgorithmType = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]
"""As DICOM's Segment Algorithm Type: drawn by the model, by the model and then edited, or by hand."""

DOUBTFUL = "doubtful_pieces"
"""Entry of the data after postprocessing that tells what was drawn and left out, a list of `DoubtfulPiece`."""


@dataclass(frozen=True)
class Provenance:
    """Who made a segmentation: which model, and how.

    Parameters
    ----------
    model_name, model_version : str
        From the bundle's metadata.
    weights_sha256 : str
        Hash of the weights file, hexadecimal.
    engine, precision, device : str
        What ran the network, for example ``"torch"``, ``"float32"``, ``"cpu"``.
    settings : dict
        Everything else that this run set, such as the threshold; JSON values only.
    algorithm_type : str
        ``"SEMIAUTOMATIC"`` if people edited what the model drew, ``"MANUAL"`` if it had no part in it.
    """

    model_name: str
    model_version: str
    weights_sha256: str
    engine: str
    precision: str
    device: str
    settings: dict[str, object] = field(default_factory=dict)
    algorithm_type: AlgorithmType = "AUTOMATIC"


@dataclass(frozen=True)
class DoubtfulPiece:
    """A place that the model drew as a lesion and then did not hold to be one: it is not in the label map.

    Parameters
    ----------
    probability : float
        The highest of the piece, as judged: below the sure threshold.
    volume_ml : float
        Of the piece on the model's grid, as drawn there.
    place_ras_mm : tuple of float
        Where its probability is highest, RAS+ mm.
    """

    probability: float
    volume_ml: float
    place_ras_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Segmentation:
    """A label map with its geometry and its meaning.

    Parameters
    ----------
    label_map : ndarray of uint8, shape (X, Y, Z)
        One label value per voxel; axes are columns, rows, slices of the source.
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ patient millimetres, equal to the source's; of a source with uneven slices, that of the
        even grid it was resampled onto.
    labels : LabelTable
        What the values mean.
    source : ImageSource
        Where the volume came from.
    provenance : Provenance
        Which model made it.
    probability : ndarray of float32, shape (X, Y, Z), or None
        Calibrated probability of a lesion against everything else, where it was asked for.
    is_picture : bool
        A single 2-D image without a place in a patient: of the affine only the scale means something.
    has_spacing : bool
        False if the image states no spacing: the affine then counts pixels, not millimetres.
    doubtful : tuple of DoubtfulPiece
        What was drawn and is not in the label map, because the model was not sure of it; the surest first.

    Raises
    ------
    BundleError
        If shapes disagree or the label map holds a value that is not in the table.
    """

    label_map: NDArray[np.uint8]
    affine: NDArray[np.float64]
    labels: LabelTable
    source: ImageSource
    provenance: Provenance
    probability: NDArray[np.float32] | None = None
    is_picture: bool = False
    has_spacing: bool = True
    doubtful: tuple[DoubtfulPiece, ...] = ()

    def __post_init__(self) -> None:
        if self.label_map.ndim != 3 or self.label_map.dtype != np.uint8:
            raise BundleError(
                f"the label map is {self.label_map.dtype} with shape {self.label_map.shape}, expected uint8 (X, Y, Z).",
                hint="The bundle's postprocessing must end in a label map.",
            )
        if self.affine.shape != (4, 4):
            raise BundleError(f"the affine has shape {self.affine.shape}, expected (4, 4).")
        if self.probability is not None and self.probability.shape != self.label_map.shape:
            raise BundleError(
                f"the probability map has shape {self.probability.shape}, the label map {self.label_map.shape}."
            )
        unknown = sorted(_values(self.label_map) - {0, *self.labels.values})
        if unknown:
            raise BundleError(
                f"the label map holds the values {unknown}, the label table has {list(self.labels.values)}.",
                hint="channel_def in metadata.json must name every channel of the network.",
            )

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along columns, rows and slices, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def has_lesion(self) -> bool:
        """Whether any voxel is labelled as a finding, normal anatomy aside."""
        lesions = [label.value for label in self.labels if label.is_lesion]
        return any(bool((plane == value).any()) for plane in _planes(self.label_map) for value in lesions)

    def volume_ml(self, value: int) -> float:
        """Volume of one structure in millilitres."""
        voxels = sum(int(np.count_nonzero(plane == value)) for plane in _planes(self.label_map))
        return voxels * self.voxel_volume_ml


def _values(label_map: NDArray[np.uint8]) -> set[int]:
    # The largest value is quick to find and mostly answers the question; else plane by plane, without a large copy.
    largest = int(label_map.max(initial=0))
    if largest <= 1:
        return {0, largest}
    seen = np.zeros(256, dtype=bool)
    for plane in _planes(label_map):
        seen[plane] = True
    return set(np.flatnonzero(seen).tolist())


def _planes(label_map: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    # As they lie in memory: what is computed of one plane is small beside the label map, and fast.
    yield from np.moveaxis(label_map, int(np.argmax(label_map.strides)), 0)
