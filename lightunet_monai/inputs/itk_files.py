"""NRRD and MetaImage files: geometry from the text header, voxels by SimpleITK."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GeometryError, UnreadableFileError, UnsupportedImageError
from .image_header import ImageFileHeader, ReadVoxels, check_file_size, check_shape

_MAX_TEXT_BYTES = 64 * 1024
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NRRD_SPACES = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
"""Signs that turn a NRRD space into LPS."""

_META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "FLOAT": 4, "DOUBLE": 8}
_META_BYTES |= {"LONG": 8, "ULONG": 8, "LONG_LONG": 8, "ULONG_LONG": 8}
_NRRD_BYTES = {"char": 1, "int8": 1, "short": 2, "int16": 2, "int": 4, "int32": 4, "longlong": 8, "int64": 8}
_NRRD_BYTES |= {"float": 4, "double": 8}


def open_with_simpleitk(path: Path) -> tuple[ImageFileHeader, ReadVoxels]:
    """Read the header of a NRRD or MetaImage file.

    Returns
    -------
    ImageFileHeader
    callable
        Reads the voxels, float32, shape (X, Y, Z).

    Raises
    ------
    GeometryError
        If origin, spacing or directions are missing.
    UnsupportedImageError
        If it is not one volume of real numbers.
    UnreadableFileError
        If it is damaged or truncated, or keeps its voxels outside its folder.
    """
    check_name(path)
    is_nrrd = path.name.lower().endswith((".nrrd", ".nhdr"))
    try:
        header = _read_nrrd(path) if is_nrrd else _read_meta_image(path)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise UnreadableFileError(
            f"{path}: damaged header: {type(error).__name__} {error}.", hint="Write the file again."
        ) from None
    return header, lambda: _read_voxels(path, header.shape)


def image_io(path: Path) -> str:
    """What SimpleITK calls the reader of a NRRD or MetaImage file; empty for one of another kind."""
    name = path.name.lower()
    if name.endswith((".nrrd", ".nhdr")):
        return "NrrdImageIO"
    return "MetaImageIO" if name.endswith((".mha", ".mhd")) else ""


def check_name(path: Path) -> None:
    """Check that SimpleITK can be given a path: one that is no text ends the whole process.

    Raises
    ------
    UnreadableFileError
        If the path is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UnreadableFileError(
            f"{path}: the name of the file or of a folder above it is not UTF-8.", hint="Rename it.", reason="file-name"
        ) from None


def _read_voxels(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    sitk = _import_simpleitk()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(image_io(path))  # left to itself it does not know .MHA
    try:
        image = reader.Execute()
    except RuntimeError:
        raise UnreadableFileError(f"{path}: damaged or truncated.", hint="Copy or export the file again.") from None
    voxels = sitk.GetArrayViewFromImage(image)
    if image.GetNumberOfComponentsPerPixel() != 1 or voxels.dtype.kind not in "iuf" or voxels.size != np.prod(shape):
        raise UnsupportedImageError(f"{path}: voxels of type {voxels.dtype}, expected one real number each.")
    return np.asarray(voxels.astype(np.float32).T.reshape(shape))


def _import_simpleitk() -> Any:
    try:
        import SimpleITK
    except ImportError:
        raise UnsupportedImageError(
            "reading NRRD and MetaImage needs SimpleITK.", hint="pip install SimpleITK, or convert to NIfTI."
        ) from None
    return SimpleITK


def _read_text(path: Path, is_end: Callable[[bytes], bool]) -> tuple[list[str], int]:
    """Header lines up to and with the last one, and where the data begin."""
    lines: list[str] = []
    with path.open("rb") as stream:
        while stream.tell() < _MAX_TEXT_BYTES and (line := stream.readline(_MAX_TEXT_BYTES)):
            lines.append(line.decode("latin-1").strip())
            if is_end(line):
                break
        return lines, stream.tell()


def _check_data_file(path: Path, name: str) -> Path:
    """The file with the voxels must lie beside the header; some writers say so with ``./``."""
    name = re.sub(r"^(\./+)+", "", name)
    if not name or Path(name).name != name or name in (".", "..") or "\\" in name or ":" in name:
        raise UnreadableFileError(
            f"{path}: the voxels are said to be in another folder, expected a file beside the header.",
            hint="Write the volume as one file.",
            reason="data-file-outside",
        )
    data = path.with_name(name)
    if data.is_symlink() or not data.is_file():
        raise UnreadableFileError(f"{path}: the file with the voxels is missing.", hint="Copy both files.")
    return data


def _read_nrrd(path: Path) -> ImageFileHeader:
    lines, offset = _read_text(path, lambda line: not line.strip())
    if not lines or not lines[0].startswith("NRRD000"):
        raise ValueError("no NRRD magic")
    fields = {}
    for line in lines[1:]:
        if line and not line.startswith("#") and ":=" not in line:
            key, _, value = line.partition(":")
            fields[key.strip().lower().replace("datafile", "data file")] = value.strip()
    sizes = tuple(int(size) for size in fields["sizes"].split())
    kinds = fields.get("kinds", "").lower().split()
    if kinds and any(kind in ("vector", "list", "rgb-color", "3-vector", "complex") for kind in kinds):
        raise UnsupportedImageError(
            f"{path}: {fields['kinds']} axes, expected one number a voxel.", reason="voxel-type"
        )
    shape = check_shape(sizes, path)
    if fields["type"].lower() == "block":
        raise UnsupportedImageError(f"{path}: voxels of type block, expected one number each.", reason="voxel-type")
    name = re.sub(r"^(unsigned|signed|u)\s*(?=[a-z])", "", fields["type"].lower()).replace("_t", "")
    is_packed = fields.get("encoding", "raw").lower() not in ("raw",)
    data, begin = (_check_data_file(path, fields["data file"]), 0) if "data file" in fields else (path, offset)
    check_file_size(data, int(np.prod(shape)) * _NRRD_BYTES.get(name, 1), begin, is_packed=is_packed)
    return ImageFileHeader(shape, _nrrd_affine(fields, path))


def _nrrd_affine(fields: dict[str, str], path: Path) -> NDArray[np.float64]:
    space = fields.get("space", "").lower()
    for key in ("space", "space directions", "space origin"):
        if not fields.get(key):
            raise GeometryError(
                f"{path}: the header has no {key}, expected it.",
                hint="Write the file with its orientation; it is not guessed.",
                reason="no-geometry",
            )
    if space not in _NRRD_SPACES:
        raise GeometryError(f"{path}: the space is {space}, expected left-posterior-superior.", reason="no-geometry")
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", "")))
    if not units <= {"mm", "millimeter", "millimetre", "millimeters", ""}:
        raise GeometryError(f"{path}: the unit of length is {', '.join(sorted(units))}, expected mm.", reason="unit")
    directions = [_vector(text) for text in re.findall(r"\([^)]*\)", fields["space directions"])]
    if len(directions) != 3:
        raise GeometryError(f"{path}: {len(directions)} space directions, expected 3.", reason="no-geometry")
    affine = np.eye(4)
    affine[:3, :3] = np.array(directions).T
    affine[:3, 3] = _vector(fields["space origin"])
    affine[:3] *= np.array(_NRRD_SPACES[space], np.float64)[:, None]
    return np.asarray(_LPS_TO_RAS @ affine + 0.0)


def _vector(text: str) -> list[float]:
    numbers = [float(part) for part in text.strip("() ").split(",")]
    if len(numbers) != 3:
        raise ValueError(f"vector of {len(numbers)}")
    return numbers


def _read_meta_image(path: Path) -> ImageFileHeader:
    lines, offset = _read_text(path, lambda line: line.startswith(b"ElementDataFile"))
    fields = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    shape = check_shape(tuple(int(size) for size in fields["DimSize"].split()), path)
    if int(fields.get("ElementNumberOfChannels", "1")) != 1:
        raise UnsupportedImageError(f"{path}: several channels, expected one number a voxel.", reason="voxel-type")
    kind = fields["ElementType"].removeprefix("MET_")
    if kind not in _META_BYTES:
        raise UnsupportedImageError(f"{path}: voxels of type {kind}, expected one number each.", reason="voxel-type")
    source = fields["ElementDataFile"]
    data, begin = (path, offset) if source == "LOCAL" else (_check_data_file(path, source), 0)
    is_packed = fields.get("CompressedData", "False").lower() == "true"
    check_file_size(data, int(np.prod(shape)) * _META_BYTES[kind], begin, is_packed=is_packed)
    return ImageFileHeader(shape, _meta_affine(fields, path, int(fields["NDims"])))


def _meta_affine(fields: dict[str, str], path: Path, dimensions: int) -> NDArray[np.float64]:
    def numbers(names: tuple[str, ...], count: int) -> NDArray[np.float64]:
        text = next((fields[name] for name in names if name in fields), None)
        if text is None:
            raise GeometryError(
                f"{path}: the header has no {names[0]}, expected it.",
                hint="Write the file with its orientation; it is not guessed.",
                reason="no-geometry",
            )
        values = np.array([float(part) for part in text.split()])
        if len(values) != count:
            raise ValueError(f"{names[0]} of {len(values)} numbers")
        return values

    spacing = numbers(("ElementSpacing",), dimensions)[:3]
    offset = numbers(("Offset", "Origin", "Position"), dimensions)[:3]
    # MetaIO writes one direction after the other, each a row of the matrix.
    directions = numbers(("TransformMatrix", "Rotation", "Orientation"), dimensions**2)
    directions = directions.reshape(dimensions, dimensions)[:3, :3].T
    if (spacing <= 0).any():
        found = " x ".join(f"{value:g}" for value in spacing)
        raise GeometryError(f"{path}: the spacing is {found} mm, expected more than 0.", reason="implausible-spacing")
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = offset
    return np.asarray(_LPS_TO_RAS @ affine + 0.0)
