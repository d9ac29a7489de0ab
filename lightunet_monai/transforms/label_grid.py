"""Labels are put on the grid of a volume by their position in the patient, never by their place in a file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import GeometryError, UnsupportedImageError
from ..inputs.limits import MAX_VOLUME_VOXELS

Grid = tuple[tuple[int, ...], NDArray[np.float64]]
"""Shape (X, Y, Z), and affine (4, 4) from voxel index to RAS+ mm."""

OFF_VOXEL_TOLERANCE = 0.1
"""How far labelled voxels may lie from those of the volume, in voxels: writers repeat the jitter of slice positions."""

_HINT = "Draw the segmentation on the grid of the volume."


class LabelGrid:
    """A label map that is filled segment by segment.

    Parameters
    ----------
    shape : tuple of int
        Voxels of the volume along X, Y, Z.
    affine : array, shape (4, 4)
        Voxel index to RAS+ mm.
    name : str
        What to call the segmentation in messages.

    Attributes
    ----------
    labels : ndarray of uint8, shape (X, Y, Z)
    """

    def __init__(self, shape: tuple[int, ...], affine: NDArray[np.float64], name: str) -> None:
        self.labels = np.zeros(shape, dtype=np.uint8)
        self.affine = np.asarray(affine, dtype=np.float64)
        self.name = name
        self._to_voxel = np.linalg.inv(self.affine)

    def paint(self, mask: NDArray[np.bool_], affine: NDArray[np.float64], value: int) -> None:
        """Give the voxels of a mask a label value.

        Parameters
        ----------
        mask : ndarray of bool, shape (x, y, z)
            On its own grid, which may be a part of the volume's, or have its axes in another order or direction.
        affine : ndarray of float64, shape (4, 4)
            Voxel index of the mask to RAS+ mm.
        value : int
            1 to 255.

        Raises
        ------
        GeometryError
            If the voxels do not lie on those of the volume, or outside of it.
        UnsupportedImageError
            If a voxel has another label already.
        """
        to_voxel = self.check_lattice(mask.shape, affine)
        if mask.shape == self.labels.shape and np.abs(to_voxel - np.eye(4)).max() < OFF_VOXEL_TOLERANCE / sum(
            mask.shape
        ):
            place: tuple[NDArray[np.intp], ...] = np.nonzero(mask)
        else:
            place = self._places(np.argwhere(mask), to_voxel)
        taken = self.labels[place]
        clash = np.count_nonzero((taken != 0) & (taken != value))
        if clash:
            other = int(taken[(taken != 0) & (taken != value)][0])
            raise UnsupportedImageError(
                f"{self.name}: {clash} voxels belong to the labels {value} and {other}, expected one label a voxel.",
                hint="Take the overlap out of one of the segments.",
                reason="label-overlap",
            )
        self.labels[place] = value

    def check_lattice(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Check that voxels lie on those of the volume or on their continuation.

        Returns
        -------
        ndarray of float64, shape (4, 4)
            Voxel index to that of the volume.

        Raises
        ------
        GeometryError
            If they do not.
        """
        to_voxel: NDArray[np.float64] = self._to_voxel @ affine
        axes = [axis for axis in range(3) if shape[axis] > 1]
        steps = to_voxel[:3, axes]
        whole = np.rint(steps)
        is_turned = (np.abs(whole).sum(axis=0) == 1).all() and (np.abs(whole).sum(axis=1) <= 1).all()
        spread = np.abs(steps - whole) @ (np.array(shape)[axes] - 1.0)
        offset = np.abs(to_voxel[:3, 3] - np.rint(to_voxel[:3, 3]))
        deviation = float((spread + offset).max())
        if not is_turned:
            raise GeometryError(
                f"{self.name}: one voxel is {self._steps(steps)} voxels of its volume, expected the same grid.",
                hint=_HINT,
                reason="label-grid",
            )
        if deviation > OFF_VOXEL_TOLERANCE:
            raise GeometryError(
                f"{self.name}: lies up to {deviation:.3f} voxels beside those of its volume, "
                f"expected at most {OFF_VOXEL_TOLERANCE}.",
                hint=_HINT,
                reason="label-grid",
            )
        return to_voxel

    def check_whole(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> None:
        """Check that a grid is the whole one of the volume; its axes may have another order or direction.

        Parameters
        ----------
        shape : tuple of int
            Voxels along the axes of that grid.
        affine : ndarray of float64, shape (4, 4)
            Its voxel index to RAS+ mm.

        Raises
        ------
        GeometryError
            If it is another grid, or covers a part of it, or lies beside it by whole voxels.
        """
        found = self._ends(shape, affine)
        expected = np.array([[0, 0, 0], np.array(self.labels.shape) - 1])
        if (found != expected).any():
            distance = np.linalg.norm((found - expected) @ self.affine[:3, :3].T, axis=1).max()
            raise GeometryError(
                f"{self.name}: covers the voxels {_range(found)} of its volume, expected {_range(expected)}; "
                f"it lies up to {distance:.1f} mm beside it.",
                hint="Give the label map on the grid of this volume. If the volume was moved after it was read, "
                "read it again and draw on that.",
                reason="label-grid",
            )

    def holds(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> bool:
        """Say whether all voxels of a grid are voxels of the volume: whatever is in them can be painted."""
        try:
            low, high = self._ends(shape, affine)
        except GeometryError:
            return False
        return bool((low >= 0).all() and (high < self.labels.shape).all())

    def _ends(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.int_]:
        """First and last voxel of the volume, along each axis, that a grid covers."""
        to_voxel = self.check_lattice(shape, affine)
        corners = np.array([[0.0, 0.0, 0.0], np.array(shape) - 1.0])
        ends = np.rint(corners @ to_voxel[:3, :3].T + to_voxel[:3, 3]).astype(int)
        return np.array([ends.min(axis=0), ends.max(axis=0)])

    @staticmethod
    def _steps(steps: NDArray[np.float64]) -> str:
        return " x ".join(f"{length:.4g}" for length in np.linalg.norm(steps, axis=0))

    def _places(self, index: NDArray[np.intp], to_voxel: NDArray[np.float64]) -> tuple[NDArray[np.intp], ...]:
        places = np.rint(index @ to_voxel[:3, :3].T + to_voxel[:3, 3]).astype(np.intp)
        outside = np.count_nonzero(((places < 0) | (places >= self.labels.shape)).any(axis=1))
        if outside:
            raise GeometryError(
                f"{self.name}: {outside} of {len(places)} labelled voxels lie outside of the volume.",
                hint="Give the segmentation of this volume.",
                reason="label-grid",
            )
        return places[:, 0], places[:, 1], places[:, 2]


def _range(ends: NDArray[np.int_]) -> str:
    return " x ".join(f"{low} to {high}" for low, high in ends.T.tolist())


def joint_grid(
    first: tuple[tuple[int, ...], NDArray[np.float64]], second: tuple[tuple[int, ...], NDArray[np.float64]]
) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Give the smallest grid around two boxes of voxels of one grid, with the axes of the first.

    Parameters
    ----------
    first, second : tuple of shape (X, Y, Z) and affine (4, 4)
        Voxel index to RAS+ mm.

    Returns
    -------
    shape : tuple of int
    affine : ndarray of float64, shape (4, 4)

    Raises
    ------
    GeometryError
        If the second does not continue the first in whole voxels, or so far away that they are of no one volume.
    """
    shape, affine = first
    to_first = LabelGrid((1, 1, 1), affine, "the segmentation").check_lattice(second[0], second[1])
    ends = np.array([[0.0, 0.0, 0.0], np.array(second[0]) - 1.0])
    own = np.rint(ends @ to_first[:3, :3].T + to_first[:3, 3]).astype(int)
    low = np.minimum(0, own.min(axis=0))
    size = np.maximum(np.array(shape) - 1, own.max(axis=0)) - low + 1
    if size.astype(np.float64).prod() > MAX_VOLUME_VOXELS:
        raise GeometryError(
            f"{' x '.join(map(str, size))} voxels hold both segmentations, expected at most {MAX_VOLUME_VOXELS}.",
            hint=_HINT,
            reason="label-grid",
        )
    whole = np.array(affine, dtype=np.float64)
    whole[:3, 3] = affine[:3, :3] @ low + affine[:3, 3]
    return (int(size[0]), int(size[1]), int(size[2])), whole
