"""What a simulated case may be: every range that a recipe opens or closes.

settings = SimulationSettings()
settings = SimulationSettings(spacing=(0.5, 0.8), max_voxels=224)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from ..errors import UsageError

SIMULATOR_VERSION = 7
"""Raised whenever a seed of a recipe no longer gives the same volume."""

MAX_SPACING_MM = 20.0
"""The coarsest voxels that this package reads back."""

MIN_VOXELS = 32
"""Of the longest axis: below, a breast of 160 mm has voxels of more than 5 mm."""

MAX_VOXELS = 2048
"""Of an axis: more than any dedicated scanner delivers, and a cube of it is 34 GB of numbers."""

Span = tuple[float, float]


@dataclass(frozen=True)
class SimulationSettings:
    """Ranges that the cases of one data set are drawn from.

    Parameters
    ----------
    name : str
        Recorded with every case.
    spacing : (float, float)
        Voxel edge in mm, drawn log-uniformly, slices 0.8 to 1.4 times as thick; raised where the breast would not fit
        `max_voxels`.
    max_voxels : int
        Most voxels along an axis.
    glandular_fraction : (float, float)
        Share of the breast volume without skin: log-normal around 0.16 where that falls within, else uniform.
    lesion_diameter : (float, float)
        Equivalent diameter in mm, clips the log-normal around 12 mm.
    lesion_contrast_hu : (float, float)
        Tumour above the case's fibroglandular value, without contrast agent.
    lesion_kinds : tuple of str
        Of ``oval``, ``lobulated``, ``irregular``, ``spiculated``, ``ring``, ``dumbbell``, ``plaque``.
    styles : tuple of str
        Glandular looks: ``clumps`` (power law), ``compartments`` (lobules with walls), ``mixed``; and the
        forms of `gland_forms`: ``lobes``, ``carved``, ``strands``.
    families : tuple of str
        ``pendant`` (prone, dedicated scanner), ``supine``, ``chest`` (thorax with both breasts).
    family_weights : tuple of float
        Their shares; they add to 1.
    noise_hu : (float, float)
        Standard deviation near the skin for 0.3 mm voxels, log-uniform; larger voxels have less. What a volume gets is
        kept within 2 and 90 HU (`scanner.NOISE_LIMITS`): in 0.3 mm voxels all from 90 HU on is 90 HU.
    photons : (float, float)
        Of a detector pixel of 0.388 mm and a view without the breast, log-uniform; projection domain.
    blur_mm : (float, float)
        Full width at half maximum of the system blur.
    cupping : (float, float)
        Relative drop of the attenuation at the centre.
    gain, offset_hu : (float, float)
        Scale errors of the vendor: HU -> gain * HU + offset.
    noise_cuts : tuple of (float, float)
        Bands of the reconstruction filter's cut, in units of the Nyquist frequency.
    with_lesion : float
        Share of cases that hold at least one lesion.
    with_contrast, with_implant : float
        Shares of cases with an iodine agent, with an implant.
    odd_scale : float
        Share of cases stored shifted by 1000 or as attenuation x 1000 instead of HU.
    acquisition : str
        ``image`` (fast) or ``projection`` (cone-beam projections and FDK, a quarter of a minute a volume, needs numba).
    """

    name: str = "train"
    spacing: Span = (0.5, 0.8)
    max_voxels: int = 256
    glandular_fraction: Span = (0.02, 0.60)
    lesion_diameter: Span = (3.0, 40.0)
    lesion_contrast_hu: Span = (10.0, 65.0)
    lesion_kinds: tuple[str, ...] = ("oval", "lobulated", "irregular", "spiculated")
    styles: tuple[str, ...] = ("clumps", "compartments", "mixed")
    families: tuple[str, ...] = ("pendant", "supine", "chest")
    family_weights: tuple[float, ...] = (0.72, 0.22, 0.06)
    noise_hu: Span = (15.0, 60.0)
    photons: Span = (1.0e4, 1.0e5)
    blur_mm: Span = (0.3, 1.4)
    cupping: Span = (-0.05, 0.15)
    gain: Span = (0.85, 1.15)
    offset_hu: Span = (-40.0, 40.0)
    noise_cuts: tuple[Span, ...] = ((0.45, 0.85), (1.0, 1.3))
    with_lesion: float = 0.75
    with_contrast: float = 0.15
    with_implant: float = 0.03
    odd_scale: float = 0.0
    acquisition: str = "image"

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if (
                name.endswith(("spacing", "_fraction", "_diameter", "_hu", "_mm", "cupping", "gain", "photons"))
                and value[0] > value[1]
            ):
                raise UsageError(f"{name}: the lower end {value[0]:g} is above the upper end {value[1]:g}.")
        for value in self.spacing:
            if not 0 < value <= MAX_SPACING_MM:  # nor a value that is no number
                raise UsageError(f"spacing: {value:g} mm found, above 0 and at most {MAX_SPACING_MM:g} mm expected.")
        if len(self.families) != len(self.family_weights) or abs(sum(self.family_weights) - 1.0) > 1e-6:
            raise UsageError("family_weights: one share per family expected, adding to 1.")
        if self.acquisition not in ("image", "projection"):
            raise UsageError(f"acquisition: {self.acquisition!r} found, image or projection expected.")
        if self.acquisition == "projection" and "chest" in self.families:
            raise UsageError("acquisition: the projection domain scans single breasts, not the chest.")
        if not MIN_VOXELS <= self.max_voxels <= MAX_VOXELS:
            raise UsageError(f"max_voxels: {self.max_voxels} found, {MIN_VOXELS} to {MAX_VOXELS} expected.")

    def as_dict(self) -> dict[str, object]:
        """Return the ranges by name."""
        return asdict(self)

    def changed(self, **changes: object) -> SimulationSettings:
        """Return a copy with some ranges replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]
