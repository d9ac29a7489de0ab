"""Predictions and references become voxel and lesion figures."""

from .cases import CaseEvaluation, Evaluation, evaluate_case
from .lesions import CaseScore, LesionScore, score_case
from .masks import lesion_masks
from .structures import StructureCase, StructureEvaluation, count_structures
from .summary import LesionGroup, Summary, summarize

__all__ = [
    "CaseEvaluation",
    "CaseScore",
    "Evaluation",
    "LesionGroup",
    "LesionScore",
    "StructureCase",
    "StructureEvaluation",
    "Summary",
    "count_structures",
    "evaluate_case",
    "lesion_masks",
    "score_case",
    "summarize",
]
