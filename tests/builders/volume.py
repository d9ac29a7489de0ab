"""Synthetic volumes: small, asymmetric, with a known answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def make_voxels(shape: tuple[int, int, int] = (24, 20, 12), *, seed: int = 0) -> NDArray[np.int16]:
    """A half-egg of soft tissue in air with a dense ball off centre, in HU, shape (X, Y, Z): no symmetry at all."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    voxels = np.full(shape, -1000.0)
    breast = (x / 0.8) ** 2 + ((y - 0.1) / 0.7) ** 2 + ((z + 0.6) / 1.3) ** 2 < 1
    voxels[breast] = -100
    voxels[((x - 0.3) ** 2 + (y + 0.2) ** 2 + (z + 0.1) ** 2) < 0.06] = 60
    voxels += np.random.default_rng(seed).normal(0, 8, shape)
    voxels[0, 0, :] = np.arange(shape[2])  # each slice tells its number
    return np.clip(voxels, -1024, 3000).astype(np.int16)


def make_affine(
    spacing: tuple[float, float, float] = (0.8, 0.9, 1.5),
    origin: tuple[float, float, float] = (10.0, -20.0, 30.0),
    *,
    axes: tuple[int, int, int] = (0, 1, 2),
    signs: tuple[int, int, int] = (1, 1, 1),
    turn_degrees: float = 0.0,
) -> NDArray[np.float64]:
    """Voxel index to RAS+ mm: voxel axis k runs along world axis axes[k], with a sign, turned about the x axis."""
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for axis, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[world, axis] = sign * spacing[axis]
    c, s = np.cos(np.radians(turn_degrees)), np.sin(np.radians(turn_degrees))
    affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ affine[:3, :3]
    affine[:3, 3] = origin
    return affine


def make_nifti(
    path: Path,
    voxels: NDArray[np.generic] | None = None,
    affine: NDArray[np.float64] | None = None,
    *,
    unit: str = "mm",
) -> Path:
    """Write a NIfTI file with equal qform and sform."""
    import nibabel as nib

    image = nib.Nifti1Image(
        make_voxels() if voxels is None else voxels, make_affine() if affine is None else affine, dtype=None
    )
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


def make_volume(
    path: Path, voxels: NDArray[np.generic] | None = None, affine: NDArray[np.float64] | None = None
) -> Path:
    """Write a volume to .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd, as the name says."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return make_nifti(path, voxels, affine)
    import SimpleITK

    voxels = make_voxels() if voxels is None else voxels
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ (make_affine() if affine is None else affine)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    SimpleITK.WriteImage(image, str(path))
    return path
