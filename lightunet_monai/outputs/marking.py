"""What every result says about itself: it is for research only, and who drew it."""

from collections.abc import Mapping
from types import MappingProxyType

from lightunet_monai.segmentation import AlgorithmType

RESEARCH_USE = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS"
"""Short form, ASCII, 37 characters: fits a DICOM LO (64) and a NIfTI description (80)."""

RESEARCH_STATEMENT = (
    "Research use only; not for diagnosis. The shipped weights were trained on simulated data; no weights have been "
    "validated on patients. Not a medical device."
)
"""Long form, for reports and for DICOM text values. True of weights that users have trained on cases of theirs, too."""

PICTURE_STATEMENT = (
    "Research use only; not for diagnosis. The model has not been validated on patients. Not a medical device."
)
"""The same for 2-D images, whose models may come from other data."""

NOTHING_FOUND = "The model found nothing. This does not mean that there is no lesion."
NOTHING_MARKED = "Nothing is marked. This does not mean that there is no lesion."

MADE_BY: Mapping[AlgorithmType, str] = MappingProxyType(
    {"AUTOMATIC": "AI", "SEMIAUTOMATIC": "edited AI", "MANUAL": "manual"}
)
"""Before the kind of an object in its description, as in "edited AI segmentation"."""


def statement(algorithm_type: AlgorithmType, *, is_empty: bool) -> str:
    """Give the long form, behind what an empty result means."""
    if not is_empty:
        return RESEARCH_STATEMENT
    return f"{NOTHING_FOUND if algorithm_type == 'AUTOMATIC' else NOTHING_MARKED} {RESEARCH_STATEMENT}"


def description(algorithm_type: AlgorithmType, kind: str) -> str:
    """Give the description of an object: its use, who drew it, and its kind; at most 64 characters."""
    return f"{RESEARCH_USE}: {MADE_BY[algorithm_type]} {kind}"
