"""What the bundle's training needs beyond MONAI: a start, a way to go on after a kill, the best model kept."""

from .batch_norm import FixBatchNorm
from .checkpoints import KeepBest, ResumeState, start_from

__all__ = ["FixBatchNorm", "KeepBest", "ResumeState", "start_from"]
