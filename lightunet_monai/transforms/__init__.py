"""The bundle's voxel work that MONAI does not have, and MONAI's way into the inputs.

Names are imported when they are first used: a volume needs nothing of what reads pictures and labels.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .cases import list_cases, list_images, list_labelled_cases
    from .correct_shading import CorrectShadingd
    from .doubtful_pieces import CapDoubtfulPiecesd
    from .load_image2d import LoadImage2Dd
    from .load_volume import LoadImageVolumed
    from .merge_tissues import MergeTissuesd
    from .model_grid import ToModelGridd
    from .model_size import ToModelSized
    from .piece_judge import PieceJudge
    from .piece_outline import PieceOutline
    from .predict_logits import PredictLogitsd
    from .prefetch import PrefetchDataLoader
    from .rank_brightness import RankBrightnessd
    from .remove_small import RemoveSmallPiecesd
    from .restore import RestoreLabelMapd, RestoreProbabilityd
    from .sample_slices import RandSampleSlicesd
    from .save_label_map import SaveImageLabelMapd
    from .save_mask2d import SaveImageMask2Dd
    from .smooth_noise import SmoothNoised

_HOMES = {
    "CapDoubtfulPiecesd": "doubtful_pieces",
    "CorrectShadingd": "correct_shading",
    "LoadImage2Dd": "load_image2d",
    "LoadImageVolumed": "load_volume",
    "MergeTissuesd": "merge_tissues",
    "PieceJudge": "piece_judge",
    "PieceOutline": "piece_outline",
    "PredictLogitsd": "predict_logits",
    "PrefetchDataLoader": "prefetch",
    "RandSampleSlicesd": "sample_slices",
    "RankBrightnessd": "rank_brightness",
    "RemoveSmallPiecesd": "remove_small",
    "RestoreLabelMapd": "restore",
    "RestoreProbabilityd": "restore",
    "SaveImageLabelMapd": "save_label_map",
    "SaveImageMask2Dd": "save_mask2d",
    "SmoothNoised": "smooth_noise",
    "ToModelGridd": "model_grid",
    "ToModelSized": "model_size",
    "list_cases": "cases",
    "list_images": "cases",
    "list_labelled_cases": "cases",
}

__all__ = [
    "CapDoubtfulPiecesd",
    "CorrectShadingd",
    "LoadImage2Dd",
    "LoadImageVolumed",
    "MergeTissuesd",
    "PieceJudge",
    "PieceOutline",
    "PredictLogitsd",
    "PrefetchDataLoader",
    "RandSampleSlicesd",
    "RankBrightnessd",
    "RemoveSmallPiecesd",
    "RestoreLabelMapd",
    "RestoreProbabilityd",
    "SaveImageLabelMapd",
    "SaveImageMask2Dd",
    "SmoothNoised",
    "ToModelGridd",
    "ToModelSized",
    "list_cases",
    "list_images",
    "list_labelled_cases",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
