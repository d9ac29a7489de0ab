"""What is measured on each lesion, as values, CSV and JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightunet_monai.errors import UsageError
from lightunet_monai.segmentation import Segmentation

from .atomic import atomic_file
from .lesions import LesionMask, find_lesions
from .marking import RESEARCH_STATEMENT
from .shape import axial_size, feret_mm, make_mesh, sphericity
from .surroundings import BodySurface, find_body_surface, find_nipple, skin_distance_mm, surrounding_hu
from .tissue import LabelledSkin, breast_density, find_labelled_skin
from .uids import lesion_tracking_uid

SCHEMA = 1

_DIGITS = 4
"""Decimals written to files: a tenth of a micrometre, a ten-thousandth of an HU."""

_VOLUME_DIGITS = 6
"""Significant digits of a volume: a lesion of a few voxels is far below a thousandth of a millilitre."""

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Lesion:
    """Measurements of one lesion. A value that cannot be measured is None.

    Parameters
    ----------
    number : int
        1 for the largest lesion of the case.
    label : str
        Name from the label table.
    tracking_uid : str
        The same in DICOM SEG and SR.
    voxels : int
        Number of voxels.
    volume_ml : float
        Voxels times voxel volume (IBSI YEKZ).
    surface_area_mm2 : float
        Area of the mesh at level 0.5 (IBSI C0JK).
    sphericity : float
        (36 pi V^2)^(1/3) / A of that mesh (IBSI QCFX), 0 to 1.
    feret_diameter_mm : float
        Largest distance between two points of the surface (IBSI L0JK).
    axial_long_axis_mm, axial_short_axis_mm : float
        Longest axial diameter and the longest perpendicular to it in the same plane (RECIST 1.1).
    axial_plane : int
        Index of that plane in the label map, counted along `axial_plane_axis`.
    axial_plane_axis : int
        Voxel axis 0, 1 or 2 that is closest to the superior direction.
    long_axis_ends_ras_mm : tuple of two points
        End points of the longest axial diameter.
    centroid_ras_mm : tuple of float
        Mean position of the voxels, RAS+ mm.
    centroid_voxel : tuple of float
        The same as voxel index (column, row, slice).
    mean_hu, sd_hu : float or None
        Mean and population standard deviation of the intensities.
    contrast_hu : float or None
        Mean HU minus the mean of the tissue 1 to 5 mm outside of it.
    skin_distance_mm : float or None
        Shortest distance from the surface of the lesion to the outer surface of the skin; see
        `Findings.skin_method`.
    nipple_distance_mm : float or None
        Distance from the centroid to the nipple; see `Findings.nipple_method`.
    mean_probability, max_probability : float or None
        Of the probability map inside the lesion.
    """

    number: int
    label: str
    tracking_uid: str
    voxels: int
    volume_ml: float
    surface_area_mm2: float
    sphericity: float
    feret_diameter_mm: float
    axial_long_axis_mm: float
    axial_short_axis_mm: float
    axial_plane: int
    axial_plane_axis: int
    long_axis_ends_ras_mm: tuple[Point, Point]
    centroid_ras_mm: Point
    centroid_voxel: Point
    mean_hu: float | None = None
    sd_hu: float | None = None
    contrast_hu: float | None = None
    skin_distance_mm: float | None = None
    nipple_distance_mm: float | None = None
    mean_probability: float | None = None
    max_probability: float | None = None


@dataclass(frozen=True)
class Findings:
    """All lesions of a case, the largest first.

    Parameters
    ----------
    lesions : tuple of Lesion
    nipple_ras_mm : tuple of float or None
        Where the nipple was found.
    nipple_method : str or None
        ``"label"`` or ``"breast tip"`` (an estimate: the most anterior point of the breast).
    skin_found : bool
        Whether the skin is known; it is looked for where there is a lesion, and False without one.
    skin_method : str or None
        ``"label"``: the skin is labelled; where the air outside the body is nearer than labelled skin, skin is missing
        from the labels and the border to that air counts. ``"air"``: that border alone.
    breast_density : float or None
        As in `tissue.breast_density`, 0 to 1; None if the tissues are not labelled.
    """

    lesions: tuple[Lesion, ...] = ()
    nipple_ras_mm: Point | None = None
    nipple_method: str | None = None
    skin_found: bool = False
    skin_method: str | None = None
    breast_density: float | None = None

    def __iter__(self) -> Iterator[Lesion]:
        return iter(self.lesions)

    def __len__(self) -> int:
        return len(self.lesions)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, rounded, with the schema number."""
        return {
            "schema": SCHEMA,
            "count": len(self.lesions),
            "nipple_ras_mm": _rounded(self.nipple_ras_mm),
            "nipple_method": self.nipple_method,
            "skin_found": self.skin_found,
            "skin_method": self.skin_method,
            "breast_density": _rounded(self.breast_density),
            "lesions": [_written(lesion) for lesion in self.lesions],
        }


def measure_lesions(segmentation: Segmentation, volume_hu: NDArray[np.generic] | None = None) -> Findings:
    """Measure every lesion of a segmentation.

    Parameters
    ----------
    segmentation : Segmentation
        Label map (X, Y, Z), affine, and the probability map if there is one.
    volume_hu : ndarray, shape (X, Y, Z), or None
        Intensities on the same grid, Hounsfield units, float32 or int16; None leaves out what needs them.

    Returns
    -------
    Findings

    Raises
    ------
    UsageError
        If the shapes differ.
    """
    if volume_hu is not None and volume_hu.shape != segmentation.label_map.shape:
        raise UsageError(
            f"volume_hu: found shape {volume_hu.shape}, expected that of the label map {segmentation.label_map.shape}."
        )
    masks = find_lesions(segmentation)
    body = find_body_surface(volume_hu, segmentation.affine) if masks and volume_hu is not None else None
    nipple = find_nipple(segmentation, body)
    skin = find_labelled_skin(segmentation, volume_hu) if masks else None
    return Findings(
        lesions=tuple(
            _measure(mask, segmentation, volume_hu, body, skin, nipple[0] if nipple else None) for mask in masks
        ),
        nipple_ras_mm=_point(nipple[0]) if nipple else None,
        nipple_method=nipple[1] if nipple else None,
        skin_found=skin is not None or body is not None,
        skin_method="label" if skin is not None else "air" if body is not None else None,
        breast_density=breast_density(segmentation),
    )


def write_findings_json(findings: Findings, path: Path) -> Path:
    """Write findings as JSON, UTF-8, atomically.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    values = {"statement": RESEARCH_STATEMENT, **findings.to_json()}
    with atomic_file(Path(path)) as part:
        part.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8", newline="\n")
    return Path(path)


def write_findings_csv(findings: Findings, path: Path) -> Path:
    """Write findings as CSV: one line a lesion, one column a number, empty where a value is missing.

    A case without lesions gives the header line alone.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    rows = [_flat(lesion) for lesion in findings.lesions]
    with atomic_file(Path(path)) as part, open(part, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_columns())
        writer.writerows([["" if row[name] is None else row[name] for name in _columns()] for row in rows])
    return Path(path)


def _measure(
    lesion: LesionMask,
    segmentation: Segmentation,
    volume_hu: NDArray[np.generic] | None,
    body: BodySurface | None,
    skin: LabelledSkin | None,
    nipple: NDArray[np.float64] | None,
) -> Lesion:
    affine = segmentation.affine
    box_affine = affine.copy()
    box_affine[:3, 3] += affine[:3, :3] @ np.array(lesion.start)
    mesh = make_mesh(lesion.mask, box_affine)
    axial = axial_size(lesion.mask, box_affine)
    voxel = np.argwhere(lesion.mask).mean(axis=0) + lesion.start
    centroid = affine[:3, :3] @ voxel + affine[:3, 3]
    hu = volume_hu[lesion.box][lesion.mask].astype(np.float64) if volume_hu is not None else None
    around = surrounding_hu(lesion.mask, lesion.start, segmentation, volume_hu) if volume_hu is not None else None
    chance = segmentation.probability[lesion.box][lesion.mask] if segmentation.probability is not None else None
    return Lesion(
        number=lesion.number,
        label=lesion.label.name,
        tracking_uid=lesion_tracking_uid(segmentation, lesion),
        voxels=lesion.voxels,
        volume_ml=lesion.voxels * segmentation.voxel_volume_ml,
        surface_area_mm2=mesh.area_mm2,
        sphericity=sphericity(mesh),
        feret_diameter_mm=feret_mm(mesh.vertices),
        axial_long_axis_mm=axial.long_mm,
        axial_short_axis_mm=axial.short_mm,
        axial_plane=axial.plane + lesion.start[axial.axis],
        axial_plane_axis=axial.axis,
        long_axis_ends_ras_mm=(_point(axial.ends[0]), _point(axial.ends[1])),
        centroid_ras_mm=_point(centroid),
        centroid_voxel=_point(voxel),
        mean_hu=float(hu.mean()) if hu is not None else None,
        sd_hu=float(hu.std()) if hu is not None else None,
        contrast_hu=float(hu.mean()) - around if hu is not None and around is not None else None,
        skin_distance_mm=_to_skin(mesh.vertices, skin, body, volume_hu, affine),
        nipple_distance_mm=float(np.linalg.norm(centroid - nipple)) if nipple is not None else None,
        mean_probability=float(chance.mean(dtype=np.float64)) if chance is not None else None,
        max_probability=float(chance.max()) if chance is not None else None,
    )


def _to_skin(
    vertices: NDArray[np.float64],
    skin: LabelledSkin | None,
    body: BodySurface | None,
    volume_hu: NDArray[np.generic] | None,
    affine: NDArray[np.float64],
) -> float | None:
    distances = [] if skin is None else [skin.distance_mm(vertices)]
    if body is not None and volume_hu is not None:
        distances.append(skin_distance_mm(vertices, body, volume_hu, affine))
    return min(distances, default=None)


_VECTORS = {
    "long_axis_ends_ras_mm": ("x1", "y1", "z1", "x2", "y2", "z2"),
    "centroid_ras_mm": ("x", "y", "z"),
    "centroid_voxel": ("column", "row", "slice"),
}


def _columns() -> list[str]:
    columns = []
    for item in fields(Lesion):
        columns += [f"{item.name}_{part}" for part in _VECTORS[item.name]] if item.name in _VECTORS else [item.name]
    return columns


def _flat(lesion: Lesion) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in _written(lesion).items():
        if name in _VECTORS:
            numbers = np.asarray(value).ravel().tolist()
            row |= {f"{name}_{part}": number for part, number in zip(_VECTORS[name], numbers, strict=True)}
        else:
            row[name] = value
    return row


def round_volume(volume_ml: float) -> float:
    """Give a volume as it is written."""
    return float(f"{volume_ml:.{_VOLUME_DIGITS}g}")


def _written(lesion: Lesion) -> dict[str, Any]:
    values = {name: _rounded(value) for name, value in asdict(lesion).items()}
    return values | {"volume_ml": round_volume(lesion.volume_ml)}


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = values.tolist()
    return x, y, z


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, (tuple, list)):
        return [_rounded(item) for item in value]
    return value
