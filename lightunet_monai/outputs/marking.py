"""What every result says about itself: it is for research only."""

RESEARCH_USE = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS"
"""Short form, ASCII, 37 characters: fits a DICOM LO (64) and a NIfTI description (80)."""

RESEARCH_STATEMENT = (
    "Research use only; not for diagnosis. The model was trained on simulated data and has not been "
    "validated on patients. Not a medical device."
)
"""Long form, for reports and for DICOM text values."""

NOTHING_FOUND = "The model found nothing. This does not mean that there is no lesion."
