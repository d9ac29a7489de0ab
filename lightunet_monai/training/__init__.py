"""What the bundle's training needs beyond MONAI: a start, a way to go on after a kill, the best model kept."""

from .augmentation import AugmentBatch
from .autocast import AutocastInferer
from .batch_norm import PreciseBatchNorm
from .channels import lesion_channels
from .checkpoints import KeepBest, ResumeState, start_from
from .gradients import ClipGradients
from .losses import LesionWeightedLoss
from .optimizers import MuonAdamW

__all__ = [
    "AugmentBatch",
    "AutocastInferer",
    "ClipGradients",
    "KeepBest",
    "LesionWeightedLoss",
    "MuonAdamW",
    "PreciseBatchNorm",
    "ResumeState",
    "lesion_channels",
    "start_from",
]
