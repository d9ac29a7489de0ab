"""Predictions and references become voxel and lesion figures."""

from .lesions import CaseScore, LesionScore, score_case
from .summary import LesionGroup, Summary, summarize

__all__ = ["CaseScore", "LesionGroup", "LesionScore", "Summary", "score_case", "summarize"]
