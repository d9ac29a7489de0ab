"""Do these numbers look like Hounsfield units of a breast in air?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedImageError
from .rescale import AIR_HU

_SAMPLES = 2_000_000
_AIR_HU, _TISSUE_HU = -500.0, (-250.0, 250.0)
_LOWEST_HU, _HIGHEST_HU = -4096.0, 32767.0
_MIN_AIR_FRACTION = 0.02
"""A breast hangs in air: even a tightly cropped volume has some."""

_LARGEST_ATTENUATION = 20.0
"""Of bone per cm at 30 keV and more."""

_MIN_TISSUE_FRACTION = 0.01
_MIN_BORDER_AIR = 0.1

_TAKE_AWAY = "Air is -1000 HU, fat about -100: take away what was added (1000 or 1024), or calibrate the volume."

_RAISED_TISSUE_HU, _BRIGHT_HU = (700.0, 1300.0), 300.0
_MAX_AIR_OF_RAISED = 0.001
_MIN_TISSUE_OF_RAISED = 0.05
"""Of the voxels of a volume that 1000 or 1024 was added to, however noisy its air is.

It holds no air: noise of 100 HU takes 3e-7 of what was raised to 0 below -500 HU, and of 150 HU still 0.04 %. In
Hounsfield units any air around the breast, in lungs or bowel is far more than 0.1 %. A volume that is cropped inside
the breast holds none, either; but there nearly all is fat (-100 HU), gland (40 HU), skin, silicone or saline, and next
to nothing has the 700 to 1300 HU that these get with 1000 added. Calcifications and bone do, and metal with its
streaks: less than a twentieth of the voxels, and most voxels that are brighter than tissue (above 300 HU) then lie
below that range (bone) or above it (metal). So both are asked for: at least a twentieth in that range, and most of
the bright ones. A breast that fills less than a twentieth of the volume, and padding that was raised to look like air,
are let through: `ct_warnings` has its say.
"""


def refuse_other_units(voxels: NDArray[Any], *, what: str) -> None:
    """Refuse a volume without a single negative value, or with 1000 added: no breast is such in Hounsfield units.

    Attenuation coefficients, grey levels from 0 on and values stored with 1024 or 1000 added are such volumes; the
    model would take their air for tissue and find nothing. Noise may bring some of that air below 0. What padding
    became, or is below it, was not measured and proves nothing.

    Parameters
    ----------
    voxels : ndarray, shape (X, Y, Z)
        What should be Hounsfield units.
    what : str
        Begins the message.

    Raises
    ------
    UnsupportedImageError
        If it is one; flat volumes are left to `ct_warnings`.
    """
    sample = _sample(voxels)
    measured = sample[sample > AIR_HU]
    if not (measured < 0).any():  # there nearly always are; spares a look at all of a large volume
        _refuse_positive(voxels, what)
    if measured.size:
        _refuse_raised(measured, what)


def _refuse_positive(voxels: NDArray[Any], what: str) -> None:
    is_measured = voxels > AIR_HU
    low = float(voxels.min(where=is_measured, initial=np.inf))
    high = float(voxels.max(where=is_measured, initial=-np.inf))
    if low < 0 or low >= high:
        return
    if high <= _LARGEST_ATTENUATION:
        hint = "If these are attenuation coefficients mu, convert them: HU = 1000 (mu / mu_water - 1)."
    else:
        hint = _TAKE_AWAY
    padded = "" if is_measured.all() else " beside padding"
    raise UnsupportedImageError(
        f"{what}: values from {low:g} to {high:g}{padded}, expected Hounsfield units.", hint=hint, reason="units"
    )


def _refuse_raised(measured: NDArray[Any], what: str) -> None:
    air = float((measured < _AIR_HU).mean())
    if air >= _MAX_AIR_OF_RAISED:
        return
    low, high = _RAISED_TISSUE_HU
    raised = np.count_nonzero((measured > low) & (measured < high))
    bright = np.count_nonzero(measured > _BRIGHT_HU)
    if raised < _MIN_TISSUE_OF_RAISED * measured.size or raised <= bright / 2:
        return
    raise UnsupportedImageError(
        f"{what}: {air:.2%} of the voxels lie below {_AIR_HU:g} and {raised / measured.size:.0%} from {low:g} to "
        f"{high:g}, expected Hounsfield units.",
        hint=_TAKE_AWAY,
        reason="units",
    )


def ct_warnings(voxels: NDArray[Any], *, what: str) -> list[str]:
    """Say what speaks against a CT volume of a breast.

    Parameters
    ----------
    voxels : ndarray, shape (X, Y, Z)
        Hounsfield units.
    what : str
        Begins every warning.

    Returns
    -------
    list of str
        Empty if nothing does.
    """
    sample = _sample(voxels)
    low, high = float(sample.min()), float(sample.max())
    air = float((sample < _AIR_HU).mean())
    tissue = float(((sample > _TISSUE_HU[0]) & (sample < _TISSUE_HU[1])).mean())
    border = float(np.mean([(_sample(face) < _AIR_HU).mean() for face in _side_faces(voxels)]))
    checks = (
        (low == high, f"all voxels have the value {low:g} HU"),
        (low < _LOWEST_HU or high > _HIGHEST_HU, f"values from {low:g} to {high:g} HU, expected -1024 to some 3000"),
        (
            air < _MIN_AIR_FRACTION,
            f"{air:.1%} of the voxels are air (below {_AIR_HU:g} HU), expected air around the breast",
        ),
        (tissue < _MIN_TISSUE_FRACTION, f"{tissue:.1%} of the voxels are soft tissue, expected a breast"),
        (
            air >= _MIN_AIR_FRACTION and border < _MIN_BORDER_AIR,
            f"{border:.1%} of the sides of the volume are air, expected air around the breast",
        ),
    )
    return [f"{what}: {text}." for applies, text in checks if applies]


def _sample(voxels: NDArray[Any]) -> NDArray[Any]:
    """Every n-th voxel along each axis, enough for fractions."""
    step = max(1, int(np.ceil((voxels.size / _SAMPLES) ** (1 / voxels.ndim))))
    return voxels[(slice(None, None, step),) * voxels.ndim]


def _side_faces(voxels: NDArray[Any]) -> list[NDArray[Any]]:
    """The four faces that slices end at."""
    return [voxels[0], voxels[-1], voxels[:, 0], voxels[:, -1]]
