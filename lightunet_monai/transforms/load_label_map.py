"""Reference label maps from files, on the grid of their volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from ..errors import GeometryError, UnreadableFileError, UnsupportedImageError
from ..inputs.dicom_file import is_dicom
from ..inputs.image_header import check_affine
from ..inputs.itk_files import check_name, image_io, open_with_simpleitk
from ..inputs.nifti_files import READ_ERRORS, nifti_affine, read_whole
from ..labels import LabelTable
from .label_grid import Grid, LabelGrid
from .read_dicom_seg import paint_dicom_seg
from .read_seg_nrrd import is_seg_nrrd, itk_affine, paint_seg_nrrd, read_seg_nrrd

SAME_GRID_TOLERANCE_MM = 0.05
"""How far corners of a label map may lie from those of its volume: rounding of headers, not a shift."""

_TURNED_TOLERANCE = 0.05
"""How much a step along an axis may differ from one of the volume, in voxels, to be turned; the corners decide then."""


def load_label_map(path: Path, like: MetaTensor | None = None, labels: LabelTable | None = None) -> MetaTensor:
    """Read a label map.

    Parameters
    ----------
    path : Path
        NIfTI; NRRD and MetaImage, whose values are label values; a segmentation of 3D Slicer (``.seg.nrrd``) or a
        DICOM Segmentation, whose segments are matched with the labels by code and name.
    like : MetaTensor, shape (1, X, Y, Z)
        The volume, on whose grid the label map has to lie; its axes may have another order or direction. A DICOM
        Segmentation needs it: it leaves out empty slices.
    labels : LabelTable
        What segments may be; those of the shipped model by default.

    Returns
    -------
    MetaTensor of uint8, shape (1, X, Y, Z)
        Affine to RAS+ mm; with `like`, its axes.

    Raises
    ------
    UnreadableFileError
        If the file cannot be read.
    UnsupportedImageError
        If it is not three-dimensional, holds values that are not labels 0 to 255, or segments that are not labels.
    GeometryError
        If its header gives no geometry that a volume can have, or it does not lie on the grid of the volume.
    """
    if path.name.lower().endswith(".seg.nhdr"):
        raise UnsupportedImageError(
            f"{path}: a segmentation of 3D Slicer in two files.", hint="Save it as .seg.nrrd.", reason="label-values"
        )
    if is_seg_nrrd(path) or is_dicom(path):
        return _load_segments(path, like, labels or LabelTable.shipped())
    array, affine = _read_nifti(path) if path.name.lower().endswith((".nii", ".nii.gz")) else _read_itk(path)
    array = array.reshape(_three_sizes(array.shape, path))
    if array.dtype.kind not in "iufb":
        raise UnsupportedImageError(
            f"{path}: voxels of type {array.dtype}, a label map has one number in each.", reason="label-values"
        )
    check_affine(np.asarray(affine, dtype=np.float64), str(path), shape=array.shape, allow_shear=True)
    with np.errstate(invalid="ignore"):
        values = array.astype(np.uint8)
    if not np.array_equal(values, array):
        raise UnsupportedImageError(
            f"{path}: values between {array.min()} and {array.max()}, expected whole numbers from 0 to 255.",
            hint="Give the label map, not the volume.",
            reason="label-values",
        )
    meta = {"filename_or_obj": str(path)}
    label_map = MetaTensor(torch.from_numpy(values)[None], affine=torch.as_tensor(affine), meta=meta)
    if like is not None:
        label_map = turned_like(label_map, like)
        check_same_grid(label_map, like, str(path))
    return label_map


def read_label_header(path: Path) -> Grid:
    """Read the grid of a NIfTI, NRRD or MetaImage label map, without its voxels.

    Returns
    -------
    shape : tuple of int
        Voxels along X, Y, Z.
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ mm.

    Raises
    ------
    UnreadableFileError, UnsupportedImageError, GeometryError
        As `load_label_map`.
    """
    if path.name.lower().endswith((".nii", ".nii.gz")):
        image, affine = _open_nifti(path)
        shape = _three_sizes(image.shape, path)
    elif image_io(path):
        header, _ = open_with_simpleitk(path)
        shape, affine = header.shape, header.affine
    else:
        reader = _open_itk(path)
        shape, affine = reader.GetSize(), itk_affine(reader)
    affine = np.asarray(affine, dtype=np.float64)
    check_affine(affine, str(path), shape=shape, allow_shear=True)
    return shape, affine


def _three_sizes(shape: tuple[int, ...], path: Path) -> tuple[int, ...]:
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    if len(shape) != 3:
        raise UnsupportedImageError(f"{path}: {len(shape)} dimensions, a label map has 3.", reason="dimensions")
    return shape


def _load_segments(path: Path, like: MetaTensor | None, labels: LabelTable) -> MetaTensor:
    grid = None if like is None else LabelGrid(tuple(like.shape[1:]), np.asarray(like.affine), str(path))
    if is_seg_nrrd(path):
        segmentation = read_seg_nrrd(path)
        grid = grid or segmentation.new_grid(str(path))
        paint_seg_nrrd(segmentation, grid, labels)
    elif grid is None:
        raise UnsupportedImageError(
            f"{path}: a DICOM Segmentation without its volume, expected both.", hint="Name the volume with it."
        )
    else:
        paint_dicom_seg(path, grid, labels)
    return MetaTensor(torch.from_numpy(grid.labels)[None], affine=torch.as_tensor(grid.affine))


def holds_segments(path: Path) -> bool:
    """Whether a file holds named segments, which may leave out what is empty around them, and not plain values."""
    return is_seg_nrrd(path) or is_dicom(path)


def place_label_map(
    path: Path, shape: tuple[int, ...], affine: NDArray[np.float64], labels: LabelTable
) -> NDArray[np.uint8]:
    """Read a label map and put it on a grid by position: its axes may have another order or direction.

    Parameters
    ----------
    path : Path
        As in `load_label_map`.
    shape : tuple of int
        Voxels of the grid along X, Y, Z.
    affine : ndarray of float64, shape (4, 4)
        Voxel index of the grid to RAS+ mm.
    labels : LabelTable
        What values and segments may be.

    Returns
    -------
    ndarray of uint8, shape (X, Y, Z)

    Raises
    ------
    UnreadableFileError
        If the file cannot be read.
    UnsupportedImageError
        If it holds values or segments that are not labels.
    GeometryError
        If it does not lie on the grid. A segmentation may cover a part of it, a plain label map covers all.
    """
    grid = LabelGrid(shape, affine, str(path))
    if is_seg_nrrd(path):
        paint_seg_nrrd(read_seg_nrrd(path), grid, labels)
    elif is_dicom(path):
        paint_dicom_seg(path, grid, labels)
    else:
        label_map = load_label_map(path)
        values = label_map.as_tensor()[0].numpy()
        _check_size(values.shape, shape, path)
        own_affine = np.asarray(label_map.affine, dtype=np.float64)
        grid.check_whole(values.shape, own_affine)
        unknown = set(np.unique(values).tolist()) - {0, *labels.values}
        if unknown:
            raise UnsupportedImageError(
                f"{path}: holds the values {sorted(unknown)}, the labels of the model are {list(labels.values)}.",
                hint="Save it as .seg.nrrd, whose segments are matched by name, or change the values.",
                reason="label-values",
            )
        for value in labels.values:
            grid.paint(values == value, own_affine, value)
    return grid.labels


def _check_size(found: tuple[int, ...], expected: tuple[int, ...], path: Path) -> None:
    if sorted(found) != sorted(expected):
        raise GeometryError(
            f"{path}: {' x '.join(map(str, found))} voxels, its source has {' x '.join(map(str, expected))}.",
            hint="Give the label map of this series, on its own grid.",
            reason="label-grid",
        )


def turned_like(label_map: MetaTensor, like: MetaTensor) -> MetaTensor:
    """Give a label map the axes of another grid, where it has them in another order or direction.

    Voxels are moved, not resampled: converters to NIfTI reverse rows or slices of a DICOM series, and every voxel stays
    where it was in the patient.

    Parameters
    ----------
    label_map, like : MetaTensor, shape (1, X, Y, Z)

    Returns
    -------
    MetaTensor, shape (1, X, Y, Z)
        `label_map` itself where its axes are those of `like`, or are not parallel to them.
    """
    own = tuple(map(int, label_map.shape[1:])), np.asarray(label_map.affine, dtype=np.float64)
    turns = _turns(own[1], np.asarray(like.affine, dtype=np.float64))
    if turns is None:
        return label_map
    values = nib.orientations.apply_orientation(label_map.as_tensor()[0].numpy(), turns)
    affine = own[1] @ nib.orientations.inv_ornt_aff(turns, own[0])
    meta = {key: value for key, value in label_map.meta.items() if key != "affine"}
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(values))[None], affine=torch.as_tensor(affine), meta=meta)


def turned_grid(grid: Grid, like: Grid) -> Grid:
    """Give a grid the axes of another one, as `turned_like` does with a label map."""
    shape, affine = grid
    turns = _turns(affine, like[1])
    if turns is None:
        return grid
    order = np.argsort(turns[:, 0])
    return tuple(shape[axis] for axis in order), affine @ nib.orientations.inv_ornt_aff(turns, shape)


def _turns(affine: NDArray[np.float64], like: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Where each axis goes, and whether it is reversed, as nibabel writes it; None if nothing is to be turned."""
    steps = (np.linalg.inv(like) @ affine)[:3, :3]
    whole = np.rint(steps)
    is_turned = (np.abs(whole).sum(axis=0) == 1).all() and (np.abs(whole).sum(axis=1) == 1).all()
    if not is_turned or np.abs(steps - whole).max() > _TURNED_TOLERANCE or (whole == np.eye(3)).all():
        return None
    rotation = np.eye(4)
    rotation[:3, :3] = whole
    turns: NDArray[np.float64] = nib.orientations.io_orientation(rotation)
    return turns


def check_same_grid(label_map: MetaTensor, volume: MetaTensor, name: str) -> None:
    """Refuse a label map that does not lie on the grid of its volume.

    Parameters
    ----------
    label_map, volume : MetaTensor, shape (1, X, Y, Z)
    name : str
        What to call the label map in the message.

    Raises
    ------
    GeometryError
        If sizes differ or a corner is more than `SAME_GRID_TOLERANCE_MM` away.
    """
    found, expected = (
        (tuple(map(int, item.shape[1:])), np.asarray(item.affine, dtype=np.float64)) for item in (label_map, volume)
    )
    check_equal_grids(found, expected, name)


def check_equal_grids(found: Grid, expected: Grid, name: str) -> None:
    """Refuse the grid of a label map that is not that of its volume, as `check_same_grid` does."""
    if found[0] != expected[0]:
        raise GeometryError(
            f"{name}: {found[0]} voxels, its volume has {expected[0]}.",
            hint="Draw the label map on the grid of the volume.",
            reason="label-grid",
        )
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
    corners[:, :3] *= np.asarray(expected[0]) - 1
    difference = found[1] - expected[1]
    distance = np.linalg.norm((corners @ difference.T)[:, :3], axis=1).max()
    if not distance <= SAME_GRID_TOLERANCE_MM:
        raise GeometryError(
            f"{name}: up to {distance:.3f} mm away from its volume, expected at most {SAME_GRID_TOLERANCE_MM} mm.",
            hint="Draw the label map on the grid of the volume.",
            reason="label-grid",
        )


def _read_nifti(path: Path) -> tuple[Any, Any]:
    image, affine = _open_nifti(path)
    try:
        return read_whole(image, path, lambda whole: np.asanyarray(whole.dataobj)), affine
    except READ_ERRORS as error:
        raise UnreadableFileError(f"{path}: cannot be read as NIfTI: {error}.") from error


def _open_nifti(path: Path) -> tuple[Any, Any]:
    try:
        image: Any = nib.load(path)
        header = image.header if isinstance(image, (nib.Nifti1Image, nib.Nifti2Image)) else None
    except READ_ERRORS as error:
        raise UnreadableFileError(f"{path}: cannot be read as NIfTI: {error}.") from error
    return image, image.affine if header is None else nifti_affine(header, path, (*image.shape, 1, 1, 1)[:3])[0]


def _read_itk(path: Path) -> tuple[Any, Any]:
    import SimpleITK as sitk

    if image_io(path):  # NRRD and MetaImage: as volumes, with the checksums that ITK passes over
        header, read_voxels = open_with_simpleitk(path)
        return read_voxels(), header.affine
    try:
        image = _open_itk(path).Execute()
    except RuntimeError as error:
        raise UnreadableFileError(f"{path}: cannot be read as a label map.") from error
    return sitk.GetArrayFromImage(image).T, itk_affine(image)


def _open_itk(path: Path) -> Any:
    """A reader that has read the header alone."""
    import SimpleITK as sitk

    check_name(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(image_io(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UnreadableFileError(f"{path}: cannot be read as a label map.") from error
    if reader.GetDimension() != 3:
        raise UnsupportedImageError(f"{path}: {reader.GetDimension()} dimensions, a label map has 3.")
    return reader
