"""NRRD and MetaImage files: geometry from the text header, voxels by SimpleITK."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GeometryError, UnreadableFileError, UnsupportedImageError
from .image_header import (
    UNIT_HINT,
    VOXEL_TYPE_HINT,
    ImageFileHeader,
    ReadVoxels,
    check_file_size,
    check_shape,
)
from .packed import check_gzip, check_zlib

_MAX_TEXT_BYTES = 64 * 1024
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NRRD_SPACES = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
"""Signs that turn a NRRD space into LPS."""

_META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "FLOAT": 4, "DOUBLE": 8}
_META_BYTES |= {"LONG": 4, "ULONG": 4, "LONG_LONG": 8, "ULONG_LONG": 8}
"""As MetaIO counts them, whatever a long has on this machine."""

_NRRD_BYTES = {"char": 1, "int8": 1, "short": 2, "int16": 2, "int": 4, "int32": 4, "longlong": 8, "int64": 8}
_NRRD_BYTES |= {"float": 4, "double": 8}


Check = Callable[[], None]
"""Raises UnreadableFileError if the voxels of a file cannot be unpacked."""


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
        header, check_packed = _read_nrrd(path) if is_nrrd else _read_meta_image(path)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise UnreadableFileError(
            f"{path}: damaged header: {type(error).__name__} {error}.", hint="Write the file again."
        ) from None
    return header, lambda: _read_voxels(path, header.shape, check_packed)


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


def _read_voxels(path: Path, shape: tuple[int, int, int], check_packed: Check | None) -> NDArray[np.float32]:
    sitk = _import_simpleitk()
    if check_packed is not None:
        check_packed()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(image_io(path))  # left to itself it does not know .MHA
    try:
        image = reader.Execute()
    except RuntimeError:
        raise UnreadableFileError(f"{path}: damaged or truncated.", hint="Copy or export the file again.") from None
    voxels = sitk.GetArrayViewFromImage(image)
    if image.GetNumberOfComponentsPerPixel() != 1 or voxels.dtype.kind not in "iuf" or voxels.size != np.prod(shape):
        raise UnsupportedImageError(
            f"{path}: voxels of type {voxels.dtype}, expected one real number each.", hint=VOXEL_TYPE_HINT
        )
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


def _read_nrrd(path: Path) -> tuple[ImageFileHeader, Check | None]:
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
            f"{path}: {fields['kinds']} axes, expected one number a voxel.", hint=VOXEL_TYPE_HINT, reason="voxel-type"
        )
    shape = check_shape(sizes, path)
    if fields["type"].lower() == "block":
        raise UnsupportedImageError(
            f"{path}: voxels of type block, expected one number each.", hint=VOXEL_TYPE_HINT, reason="voxel-type"
        )
    name = re.sub(r"^(unsigned|signed|u)\s*(?=[a-z])", "", fields["type"].lower()).replace("_t", "")
    encoding, size = fields.get("encoding", "raw").lower(), int(np.prod(shape)) * _NRRD_BYTES.get(name, 1)
    data, begin = (_check_data_file(path, fields["data file"]), 0) if "data file" in fields else (path, offset)
    check_file_size(data, size, begin, is_packed=encoding != "raw")
    skip = int(fields.get("line skip") or fields.get("lineskip") or 0)
    is_gzip = encoding in ("gzip", "gz")
    header = ImageFileHeader(shape, _nrrd_affine(fields, path))
    return header, (lambda: check_gzip(data, begin, size, lines=skip)) if is_gzip else None


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
        raise GeometryError(
            f"{path}: the space is {space}, expected left-posterior-superior.",
            hint="Write the file in that space.",
            reason="no-geometry",
        )
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", "")))
    if not units <= {"mm", "millimeter", "millimetre", "millimeters", ""}:
        raise GeometryError(
            f"{path}: the unit of length is {', '.join(sorted(units))}, expected mm.", hint=UNIT_HINT, reason="unit"
        )
    directions = [_vector(text) for text in re.findall(r"\([^)]*\)", fields["space directions"])]
    if len(directions) != 3:
        raise GeometryError(
            f"{path}: {len(directions)} space directions, expected 3.",
            hint="Write the file with its orientation; it is not guessed.",
            reason="no-geometry",
        )
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


def _read_meta_image(path: Path) -> tuple[ImageFileHeader, Check | None]:
    lines, offset = _read_text(path, lambda line: line.startswith(b"ElementDataFile"))
    fields = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    shape = check_shape(tuple(int(size) for size in fields["DimSize"].split()), path)
    if int(fields.get("ElementNumberOfChannels", "1")) != 1:
        raise UnsupportedImageError(
            f"{path}: several channels, expected one number a voxel.", hint=VOXEL_TYPE_HINT, reason="voxel-type"
        )
    kind = fields["ElementType"].removeprefix("MET_")
    if kind not in _META_BYTES:
        raise UnsupportedImageError(
            f"{path}: voxels of type {kind}, expected one number each.", hint=VOXEL_TYPE_HINT, reason="voxel-type"
        )
    _check_meta_values(fields, path)
    check_packed = _find_meta_voxels(fields, path, offset, int(np.prod(shape)))
    return ImageFileHeader(shape, _meta_affine(fields, path, int(fields["NDims"]))), check_packed


def _find_meta_voxels(fields: dict[str, str], path: Path, offset: int, count: int) -> Check | None:
    """Check that the voxels are where the header says, in full; give the check of packed ones."""
    source, kind = fields["ElementDataFile"], fields["ElementType"].removeprefix("MET_")
    is_local, skip = source == "LOCAL", int(fields.get("HeaderSize", "0"))
    if is_local and 0 < skip < offset:
        raise UnreadableFileError(
            f"{path}: HeaderSize is {skip}, expected none or at least the {offset} bytes of the header.",
            hint="Write the file again.",
        )
    data, begin = (path, max(offset, skip)) if is_local else (_check_data_file(path, source), max(0, skip))
    is_packed, size = fields.get("CompressedData", "False").lower() == "true", count * _META_BYTES[kind]
    check_file_size(data, size, begin, is_packed=is_packed)
    if not is_packed:
        if kind in ("LONG", "ULONG") and data.stat().st_size - begin >= 2 * size:
            raise UnsupportedImageError(
                f"{path}: voxels of type MET_{kind} in more than 4 bytes each.",
                hint=f"Write it as MET_{kind}_LONG.",
                reason="voxel-type",
            )
        return None
    packed_bytes = int(fields.get("CompressedDataSize", "0"))
    if packed_bytes <= 0 and is_local:  # MetaIO unpacks the wrong bytes then, and gives what it has
        raise UnreadableFileError(f"{path}: the header has no CompressedDataSize.", hint="Write the file again.")
    return lambda: check_zlib(data, begin, size, packed_bytes=packed_bytes if packed_bytes > 0 else data.stat().st_size)


def _check_meta_values(fields: dict[str, str], path: Path) -> None:
    """Refuse what MetaIO reads and ITK then passes over in silence."""
    unit = fields.get("DistanceUnits", "mm")
    if unit not in ("mm", "?", ""):
        raise GeometryError(f"{path}: the unit of length is {unit}, expected mm.", hint=UNIT_HINT, reason="unit")
    slope, intercept = (
        fields.get(f"ElementToIntensityFunction{name}", plain) for name, plain in (("Slope", "1"), ("Offset", "0"))
    )
    if (float(slope), float(intercept)) != (1.0, 0.0):
        raise UnsupportedImageError(
            f"{path}: voxels to be multiplied by {slope} and raised by {intercept}, expected Hounsfield units.",
            hint="Write the file with the values themselves.",
            reason="rescale",
        )


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
        raise GeometryError(
            f"{path}: the spacing is {found} mm, expected more than 0.",
            hint="Write the file with its spacing; it is not guessed.",
            reason="implausible-spacing",
        )
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = offset
    return np.asarray(_LPS_TO_RAS @ affine + 0.0)
