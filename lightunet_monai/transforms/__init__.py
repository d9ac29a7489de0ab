"""The bundle's voxel work that MONAI does not have, and MONAI's way into the inputs."""

from .cases import list_cases, list_labelled_cases
from .doubtful_pieces import CapDoubtfulPiecesd
from .load_volume import LoadImageVolumed
from .model_grid import ToModelGridd
from .rank_brightness import RankBrightnessd
from .remove_small import RemoveSmallPiecesd
from .restore import RestoreLabelMapd, RestoreProbabilityd
from .sample_slices import RandSampleSlicesd
from .save_label_map import SaveImageLabelMapd

__all__ = [
    "CapDoubtfulPiecesd",
    "LoadImageVolumed",
    "RandSampleSlicesd",
    "RankBrightnessd",
    "RemoveSmallPiecesd",
    "RestoreLabelMapd",
    "RestoreProbabilityd",
    "SaveImageLabelMapd",
    "ToModelGridd",
    "list_cases",
    "list_labelled_cases",
]
