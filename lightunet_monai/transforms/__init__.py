"""The bundle's voxel work that MONAI does not have, and MONAI's way into the inputs."""

from .cases import list_cases, list_images, list_labelled_cases
from .doubtful_pieces import CapDoubtfulPiecesd
from .load_image2d import LoadImage2Dd
from .load_volume import LoadImageVolumed
from .merge_tissues import MergeTissuesd
from .model_grid import ToModelGridd
from .model_size import ToModelSized
from .rank_brightness import RankBrightnessd
from .remove_small import RemoveSmallPiecesd
from .restore import RestoreLabelMapd, RestoreProbabilityd
from .sample_slices import RandSampleSlicesd
from .save_label_map import SaveImageLabelMapd
from .save_mask2d import SaveImageMask2Dd

__all__ = [
    "CapDoubtfulPiecesd",
    "LoadImage2Dd",
    "LoadImageVolumed",
    "MergeTissuesd",
    "RandSampleSlicesd",
    "RankBrightnessd",
    "RemoveSmallPiecesd",
    "RestoreLabelMapd",
    "RestoreProbabilityd",
    "SaveImageLabelMapd",
    "SaveImageMask2Dd",
    "ToModelGridd",
    "ToModelSized",
    "list_cases",
    "list_images",
    "list_labelled_cases",
]
