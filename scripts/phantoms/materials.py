"""X-ray attenuation of what a phantom is made of, and two beams of five energies.

Mass attenuation coefficients (with coherent scattering) are those of NIST XCOM, as tabulated by Hubbell and Seltzer,
NISTIR 5632, table 3, at 30, 40, 50, 60 and 80 keV. Compositions by weight are those of ICRU Report 44 (adipose, muscle,
blood, skin) and of Hammerstein et al., Radiology 130:485 (1979) (gland). Calcifications are calcium oxalate, as in the
phantoms of the VICTRE trial (Badano et al., JAMA Netw Open 1:e185474, 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Spectrum = NDArray[np.float64]

# fmt: off
_ELEMENTS = {  # cm2/g at 30, 40, 50, 60, 80 keV
    "H": (0.3570, 0.3458, 0.3355, 0.3260, 0.3091),
    "C": (0.2562, 0.2076, 0.1871, 0.1753, 0.1610),
    "N": (0.3066, 0.2288, 0.1980, 0.1817, 0.1639),
    "O": (0.3779, 0.2585, 0.2132, 0.1907, 0.1678),
    "P": (1.700, 0.8096, 0.4916, 0.3494, 0.2324),
    "S": (2.113, 0.9872, 0.5849, 0.4053, 0.2585),
    "Ca": (4.080, 1.830, 1.019, 0.6578, 0.3656),
    "Ti": (4.972, 2.214, 1.213, 0.7661, 0.4052),
}
_COMPOSITIONS = {  # minor elements beside P are counted as S, whose coefficients are nearest
    "water": {"H": 0.1119, "O": 0.8881},
    "adipose": {"H": 0.114, "C": 0.598, "N": 0.007, "O": 0.278, "S": 0.003},
    "gland": {"H": 0.102, "C": 0.184, "N": 0.032, "O": 0.677, "P": 0.002, "S": 0.003},
    "skin": {"H": 0.100, "C": 0.204, "N": 0.042, "O": 0.645, "P": 0.001, "S": 0.008},
    "muscle": {"H": 0.102, "C": 0.143, "N": 0.034, "O": 0.710, "P": 0.002, "S": 0.009},
    "blood": {"H": 0.102, "C": 0.110, "N": 0.033, "O": 0.745, "P": 0.001, "S": 0.009},
    "oxalate": {"C": 0.1875, "O": 0.4996, "Ca": 0.3129},
    "titanium": {"Ti": 1.0},
}
# fmt: on


class Tissue(IntEnum):
    """Labels of the phantom."""

    AIR = 0
    ADIPOSE = 1
    SKIN = 2
    GLAND = 3
    LIGAMENT = 4
    DUCT = 5
    VESSEL = 6
    MUSCLE = 7
    CYST = 8
    NODE = 9
    CALCIFICATION = 10
    CLIP = 11
    MASS = 12  # and each further mass one more


@dataclass(frozen=True)
class Beam:
    """Share of the detected signal at 30, 40, 50, 60 and 80 keV without an object."""

    name: str
    weights: tuple[float, float, float, float, float]


BEAMS = (
    Beam("60 kV, 0.3 mm Cu", (0.14, 0.37, 0.34, 0.15, 0.0)),
    Beam("80 kV, 0.3 mm Cu", (0.06, 0.22, 0.29, 0.25, 0.18)),
)
"""Hand-made after spectra of tungsten behind copper, whose mean energies are near 45 and 55 keV."""

BEHIND_WATER = 120.0
"""mm: a breast's thickness, behind which the effective attenuation is taken."""


def attenuation(material: str, density: float = 1.0) -> Spectrum:
    """Linear attenuation at the five energies, 1/mm; density in g/cm3."""
    total = np.zeros(5)
    for element, share in _COMPOSITIONS[material].items():
        total += share * np.array(_ELEMENTS[element])
    return total * density / 10.0


def effective(values: Spectrum, beam: Beam) -> float:
    """Attenuation that the beam sees behind a breast's thickness of water, 1/mm."""
    signal = np.array(beam.weights) * np.exp(-attenuation("water") * BEHIND_WATER)
    return float((signal * values).sum() / signal.sum())


def hounsfield(values: Spectrum, beam: Beam) -> float:
    """HU of a linear attenuation, water at 0."""
    return 1000.0 * (effective(values, beam) / effective(attenuation("water"), beam) - 1.0)


def sample_tissues(random: np.random.Generator) -> dict[Tissue, Spectrum]:
    """Linear attenuation of each tissue of one woman; densities vary a little from one to the next."""
    gland_density = random.uniform(1.040, 1.065)
    gland = attenuation("gland", gland_density)
    return {
        Tissue.AIR: np.zeros(5),
        Tissue.ADIPOSE: attenuation("adipose", random.uniform(0.945, 0.965)),
        Tissue.SKIN: attenuation("skin", random.uniform(1.065, 1.09)),
        Tissue.GLAND: gland,
        Tissue.LIGAMENT: attenuation("skin", random.uniform(1.05, 1.09)),
        Tissue.DUCT: attenuation("muscle", random.uniform(1.04, 1.05)),
        Tissue.VESSEL: attenuation("blood", random.uniform(1.04, 1.06)),
        Tissue.MUSCLE: attenuation("muscle", 1.05),
        Tissue.CYST: gland * random.uniform(0.985, 0.997),
        Tissue.NODE: gland * random.uniform(1.0, 1.012),
        Tissue.CALCIFICATION: attenuation("oxalate", 1.781),
        Tissue.CLIP: attenuation("titanium", 4.506),
    }


def as_bases(values: Spectrum) -> tuple[float, float]:
    """Amounts of water and calcium oxalate (1 g/cm3) that attenuate alike at all energies, to a few thousandths."""
    bases = np.stack([attenuation("water"), attenuation("oxalate")], axis=1)
    scale = 1.0 / np.maximum(values, 1e-3)  # relative errors
    found = np.linalg.lstsq(bases * scale[:, None], values * scale, rcond=None)[0]
    return float(found[0]), float(found[1])
