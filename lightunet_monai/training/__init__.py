"""What the bundle's training needs beyond MONAI: a start, a way to go on after a kill, the best model kept."""

from .checkpoints import KeepBest, ResumeState, start_from

__all__ = ["KeepBest", "ResumeState", "start_from"]
