"""X-ray beams and the attenuation of breast tissue, for the projection domain.

Attenuation coefficients were computed with xraydb 4.5 (Elam tables) from the compositions of Hammerstein et al.,
Radiology 130:485 (1979) for adipose and glandular tissue; spectra follow Kramers' law behind the anode's own
filtration, the beam filter and 1 mm of polycarbonate-like housing left out. Tungsten shows no K lines below 69.5 kV.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Spectrum = NDArray[np.float64]

ENERGIES_KEV = np.array([12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45, 48, 51, 54, 57, 60], dtype=np.float64)

# fmt: off
_TABLE = {
    "adipose": (0.1729, 0.09636, 0.06318, 0.04651, 0.0372, 0.03157, 0.02793, 0.02545, 0.02369, 0.02239, 0.02139,
                0.0206, 0.01996, 0.01944, 0.01899, 0.0186, 0.01826),
    "fibroglandular": (0.2958, 0.1593, 0.09996, 0.07019, 0.0536, 0.04361, 0.0372, 0.03289, 0.02985, 0.02763, 0.02596,
                       0.02467, 0.02364, 0.02281, 0.02212, 0.02153, 0.02103),
    "water": (0.3126, 0.1672, 0.1042, 0.07253, 0.05493, 0.04434, 0.03756, 0.033, 0.0298, 0.02746, 0.02571, 0.02436,
              0.02329, 0.02242, 0.02171, 0.0211, 0.02059),
    "hydroxyapatite": (8.968, 4.75, 2.819, 1.815, 1.242, 0.8926, 0.6675, 0.516, 0.4104, 0.3345, 0.2786, 0.2365,
                       0.2041, 0.1788, 0.1587, 0.1425, 0.1293),
    "aluminium": (4.14, 2.147, 1.26, 0.8079, 0.5546, 0.4019, 0.3045, 0.2395, 0.1944, 0.1621, 0.1384, 0.1205, 0.1068,
                  0.09606, 0.08752, 0.08062, 0.07498),
    "copper": (121.6, 66.35, 40.39, 26.48, 18.28, 13.15, 9.779, 7.479, 5.855, 4.676, 3.8, 3.134, 2.62, 2.217, 1.896,
               1.638, 1.427),
    "tungsten": (406.6, 268.1, 166.7, 111.6, 78.56, 57.73, 43.87, 34.11, 27.13, 22.0, 18.11, 15.11, 12.77, 10.91, 9.4,
                 8.175, 7.165),
    "caesium iodide": (47.44, 26.23, 16.06, 10.61, 7.405, 5.4, 4.08, 3.164, 13.64, 11.06, 9.13, 7.638, 6.46, 5.51,
                       4.735, 4.098, 3.572),
}
# fmt: on

ANODE_SELF_FILTER = 0.005
"""mm of tungsten that the beam crosses on its way out of the anode."""

SCINTILLATOR = 0.6
"""mm of caesium iodide, as in the flat panels of dedicated breast CT."""


@dataclass(frozen=True)
class Beam:
    """Tube voltage, filter and detector.

    Parameters
    ----------
    kvp : float
        Tube voltage, up to 60.
    filter_material : str
        ``aluminium`` or ``copper``.
    filter_thickness : float
        mm.
    counting : bool
        Photon counting (each photon weighs the same) instead of energy integrating.
    """

    kvp: float
    filter_material: str
    filter_thickness: float
    counting: bool = False


BEAMS = (
    Beam(49.0, "aluminium", 1.5),
    Beam(60.0, "copper", 0.2),
    Beam(60.0, "copper", 0.25, counting=True),
)
"""The beams of the three families of dedicated scanners."""


def attenuation(material: str) -> Spectrum:
    """Return linear attenuation coefficients at `ENERGIES_KEV`, 1/mm."""
    return np.array(_TABLE[material])


def detected_spectrum(beam: Beam) -> Spectrum:
    """Return the share of the unattenuated signal that each energy brings; adds to 1."""
    photons = np.clip(beam.kvp / ENERGIES_KEV - 1.0, 0.0, None)
    photons *= np.exp(-attenuation("tungsten") * ANODE_SELF_FILTER)
    photons *= np.exp(-attenuation(beam.filter_material) * beam.filter_thickness)
    absorbed = photons * (1.0 - np.exp(-attenuation("caesium iodide") * SCINTILLATOR))
    weight = np.ones_like(ENERGIES_KEV) if beam.counting else ENERGIES_KEV
    signal: Spectrum = absorbed * weight
    normalised: Spectrum = signal / signal.sum()
    return normalised


def effective(material: str, beam: Beam, *, water: float = 120.0) -> float:
    """Return the attenuation in 1/mm that the beam sees behind `water` mm of water, a breast's thickness."""
    signal = detected_spectrum(beam) * np.exp(-attenuation("water") * water)
    return float((signal * attenuation(material)).sum() / signal.sum())
