"""Named recipes: the ranges of the training, validation, test and hard sets.

    settings = RECIPES["hard"]

Noisy volumes come from few photons: 14 to 90 HU in voxels of 0.9 mm, where those of training have 4 to 14. Those of
`forms` have gland of other forms than all others: lobes along ducts, a body with carved fat, strands.

What keeps the sets apart is written here as data: validation and test volumes come from reconstruction filters
that lie in a gap of the training range; hard volumes are denser, noisier, blurrier and more cupped than any training
volume, and their lesions are of kinds that training never shows.
"""

from __future__ import annotations

from .settings import SimulationSettings, Span

TRAIN = SimulationSettings()

UNSEEN_FILTERS: tuple[Span, ...] = ((0.85, 1.0),)
"""Cut of the reconstruction filter, relative to Nyquist: the gap between the two training bands."""

FEW_PHOTONS: Span = (5.0e2, 1.0e4)

VALIDATION = TRAIN.changed(name="validation", noise_cuts=UNSEEN_FILTERS)

TEST = TRAIN.changed(name="test", noise_cuts=UNSEEN_FILTERS, noise_hu=(10.0, 70.0), blur_mm=(0.3, 1.5))

NOISY = TRAIN.changed(name="noisy", noise_hu=(60.0, 400.0), photons=FEW_PHOTONS)

FORMS = TRAIN.changed(name="forms", styles=("lobes", "carved", "strands"))

NOISY_TEST = TEST.changed(name="noisy_test", noise_hu=(70.0, 400.0), photons=FEW_PHOTONS)

HARD = TRAIN.changed(
    name="hard",
    glandular_fraction=(0.60, 0.80),
    lesion_kinds=("ring", "dumbbell", "plaque"),
    noise_cuts=UNSEEN_FILTERS,
    noise_hu=(60.0, 90.0),
    blur_mm=(1.4, 1.8),
    cupping=(0.15, 0.22),
    families=("pendant",),
    family_weights=(1.0,),
)

RECIPES: dict[str, SimulationSettings] = {
    recipe.name: recipe for recipe in (TRAIN, VALIDATION, TEST, NOISY, NOISY_TEST, HARD, FORMS)
}

SPLITS = {
    "train": "training",
    "validation": "validation",
    "test": "testing",
    "noisy": "training",
    "forms": "training",
    "noisy_test": "testing",
    "hard": "testing",
}
"""Key of the datalist that the cases of a recipe are listed under."""
