"""NRRD: the plain label map, and the file format itself.

Format: https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightunet_monai.segmentation import Segmentation

from .atomic import atomic_file
from .marking import RESEARCH_USE

COMPRESSION = 1
"""Gzip level: label maps are long runs of one value, so higher levels cost time and gain little."""


def write_nrrd(segmentation: Segmentation, path: Path) -> Path:
    """Write the label map as NRRD, uint8, gzip, on the grid of the source.

    Parameters
    ----------
    segmentation : Segmentation
        Label map (X, Y, Z) and affine, voxel index to RAS+ mm. The file holds LPS, as ITK and Slicer write it.
    path : Path
        ``.nrrd``.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    notes = {f"label {label.value}": label.title for label in segmentation.labels}
    return write_nrrd_file(path, segmentation.label_map, segmentation.affine, notes)


def write_nrrd_file(
    path: Path, label_map: NDArray[np.uint8], affine: NDArray[np.float64], notes: Mapping[str, str]
) -> Path:
    """Write one NRRD file.

    Parameters
    ----------
    path : Path
        The file.
    label_map : ndarray of uint8, shape (X, Y, Z)
        Values.
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ mm; shear and left-handed axes are kept as they are.
    notes : mapping of str to str
        Key/value pairs, which keep their order.

    Returns
    -------
    Path
    """
    header = _header(label_map.shape, affine, notes).encode("utf-8")
    with atomic_file(Path(path)) as part, open(part, "wb") as stream:
        stream.write(header)
        # A fixed time stamp and no file name: the same label map gives the same bytes.
        with gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION, fileobj=stream, mtime=0) as packed:
            packed.write(label_map.tobytes(order="F"))  # first axis fastest
    return Path(path)


def _header(shape: tuple[int, ...], affine: NDArray[np.float64], notes: Mapping[str, str]) -> str:
    ras_to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    voxel_to_lps = ras_to_lps @ affine
    lines = [
        "NRRD0004",
        f"# {RESEARCH_USE}",
        "type: uint8",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(size) for size in shape)}",
        f"space directions: {' '.join(_vector(voxel_to_lps[:3, axis]) for axis in range(3))}",
        "kinds: domain domain domain",
        "encoding: gzip",
        f"space origin: {_vector(voxel_to_lps[:3, 3])}",
        *(f"{key}:={_escaped(value)}" for key, value in notes.items()),
    ]
    return "\n".join(lines) + "\n\n"


def _vector(values: NDArray[np.float64]) -> str:
    # repr keeps all digits; adding 0.0 turns -0.0 into 0.0
    return "(" + ",".join(repr(float(value) + 0.0) for value in values) + ")"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
