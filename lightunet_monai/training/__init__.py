"""What the bundle's training needs beyond MONAI: a start, a way to go on after a kill, the best model kept."""

from .augmentation import AugmentBatch
from .autocast import AutocastInferer
from .batch_norm import PreciseBatchNorm
from .case_cache import CaseCache
from .channels import lesion_channels
from .checkpoints import EarlyStop, KeepBest, ResumeState, start_from
from .divergence import CheckLoss
from .gradients import ClipGradients
from .imitation import ImitatingInferer, ImitationLoss
from .losses import LesionAndTissueLoss, LesionWeightedLoss
from .optimizers import MuonAdamW
from .randomness import RandomStates
from .sampling import CaseHash, fingerprint_cases, momentum_for, repeated
from .validation import Validation

__all__ = [
    "AugmentBatch",
    "AutocastInferer",
    "CaseCache",
    "CaseHash",
    "CheckLoss",
    "ClipGradients",
    "EarlyStop",
    "ImitatingInferer",
    "ImitationLoss",
    "KeepBest",
    "LesionAndTissueLoss",
    "LesionWeightedLoss",
    "MuonAdamW",
    "PreciseBatchNorm",
    "RandomStates",
    "ResumeState",
    "Validation",
    "fingerprint_cases",
    "lesion_channels",
    "momentum_for",
    "repeated",
    "start_from",
]
