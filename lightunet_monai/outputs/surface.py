"""Lesion surfaces as STL or OBJ, in LPS millimetres as medical STL files are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lightunet_monai.errors import UsageError
from lightunet_monai.segmentation import Segmentation

from .atomic import atomic_file
from .lesions import LesionMask, find_lesions
from .marking import RESEARCH_USE
from .shape import Mesh, make_mesh

SUFFIXES = (".stl", ".obj")

_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])

_STL_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def write_surface(segmentation: Segmentation, path: Path) -> Path:
    """Write the surfaces of all lesions in one file: binary STL, or OBJ with one object for each lesion.

    The surface is the triangle mesh on which area and sphericity are measured: marching cubes at the level 0.5 of
    the mask, closed, oriented outwards, not smoothed. Without a lesion the file holds no triangle.

    Parameters
    ----------
    segmentation : Segmentation
        Label map (X, Y, Z) and affine.
    path : Path
        ``.stl`` or ``.obj``.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        If `path` ends in neither.
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: found {suffix or 'no extension'}, expected one of {', '.join(SUFFIXES)}.")
    meshes = {lesion.title: _lesion_mesh(segmentation, lesion) for lesion in find_lesions(segmentation)}
    with atomic_file(path) as part:
        part.write_bytes(_stl(meshes) if suffix == ".stl" else _obj(meshes))
    return path


def _lesion_mesh(segmentation: Segmentation, lesion: LesionMask) -> Mesh:
    affine = segmentation.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array(lesion.start)
    mesh = make_mesh(lesion.mask, affine)
    # RAS to LPS is a rotation by 180 degrees, so triangles stay oriented outwards.
    return Mesh(mesh.vertices * _RAS_TO_LPS, mesh.triangles)


def _stl(meshes: dict[str, Mesh]) -> bytes:
    header = f"{RESEARCH_USE} SPACE=LPS".encode("ascii").ljust(80)
    parts = []
    for mesh in meshes.values():
        corners = mesh.vertices[mesh.triangles]  # (T, 3, 3)
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        records = np.zeros(len(corners), dtype=_STL_RECORD)
        records["normal"] = normals / np.linalg.norm(normals, axis=1, keepdims=True)
        records["corners"] = corners
        parts.append(records.tobytes())
    count = sum(len(mesh.triangles) for mesh in meshes.values())
    return b"".join([header, count.to_bytes(4, "little"), *parts])


def _obj(meshes: dict[str, Mesh]) -> bytes:
    lines = [f"# {RESEARCH_USE}", "# SPACE=LPS, millimetres"]
    first = 1
    for title, mesh in meshes.items():
        lines.append(f"o {title.replace(' ', '_')}")
        lines += [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in mesh.vertices]
        lines += [f"f {a} {b} {c}" for a, b, c in mesh.triangles + first]
        first += len(mesh.vertices)
    return ("\n".join(lines) + "\n").encode("ascii", errors="replace")
