"""The tissues of the full tissue map, and their Hounsfield units."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Tissue(IntEnum):
    """Values of ``SimulatedCase.tissue_map``."""

    OUTSIDE = 0
    ADIPOSE = 1
    FIBROGLANDULAR = 2
    SKIN = 3
    MUSCLE = 4
    VESSEL_OR_DUCT = 5
    CALCIFICATION = 6
    IMPLANT = 7
    BENIGN = 8
    TUMOUR = 9
    METAL = 10
    LIGAMENT = 11
    BONE = 12
    LUNG = 13


DENSE = (Tissue.FIBROGLANDULAR, Tissue.LIGAMENT, Tissue.VESSEL_OR_DUCT)
"""What a CT shows brighter than fat; skin, lesions and mineral are not counted."""


def breast_density(tissue_map: NDArray[np.integer]) -> float | None:
    """Share of dense tissue by volume: dense / (dense + fat) (Yaffe et al. 2009, doi:10.1118/1.3250863).

    Parameters
    ----------
    tissue_map : ndarray, shape (X, Y, Z)
        Values of `Tissue`.

    Returns
    -------
    float or None
        0 to 1; None if there is neither dense tissue nor fat.
    """
    counts = np.bincount(tissue_map.reshape(-1), minlength=len(Tissue))
    dense = int(sum(counts[tissue] for tissue in DENSE))
    both = dense + int(counts[Tissue.ADIPOSE])
    return dense / both if both else None


@dataclass(frozen=True)
class TissueHu:
    """Mean Hounsfield units of one case before the scanner, at 30-45 keV effective energy."""

    air: float
    adipose: float
    fibroglandular: float
    skin: float
    muscle: float
    ligament: float
    duct: float
    vessel: float

    def as_dict(self) -> dict[str, float]:
        """Return the values by name, for the record of the case."""
        return asdict(self)


def sample_tissue_hu(random: np.random.Generator, *, with_contrast: bool) -> TissueHu:
    """Draw the tissue values of one case.

    Measured breast CT gives adipose -150...-80 and fibroglandular 10...60 HU; the attenuation tables of `xray`
    give -229...-154 and -3...13 HU at 33 to 45 keV, so both are covered: -220...-80 and -10...60. An iodine
    agent raises vessels to 180...300 HU and normal gland by a few HU (background enhancement).
    """
    gland = random.uniform(-10.0, 60.0)
    skin = random.uniform(20.0, 80.0)
    muscle = random.uniform(40.0, 70.0)
    ligament = random.uniform(-10.0, 1.0) + gland
    duct = gland + random.uniform(-15.0, 5.0)
    vessel = random.uniform(30.0, 50.0)
    enhancement = random.uniform(0.0, 20.0)
    enhanced_vessel = random.uniform(180.0, 300.0)
    adipose = random.uniform(-220.0, -80.0)
    if with_contrast:
        gland, muscle, vessel = gland + enhancement, muscle + enhancement, enhanced_vessel
    return TissueHu(
        air=-1000.0,
        adipose=adipose,
        fibroglandular=gland,
        skin=skin,
        muscle=muscle,
        ligament=ligament,
        duct=duct,
        vessel=vessel,
    )
