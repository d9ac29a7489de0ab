"""What the user last chose; saved with the scene.

Programs and folders (the interpreter, models, wheels) are settings of the application instead, so that opening the
scene of somebody else can never choose what runs here.
"""

from typing import Annotated

import slicer
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

ONE_VOLUME, ALL_VOLUMES, ALL_FRAMES = "this volume", "all volumes of the scene", "all frames of the sequence"


@parameterNodeWrapper
class LightUNetSegmentationParameterNode:
    """The parameters.

    Parameters
    ----------
    inputVolume : vtkMRMLScalarVolumeNode
        To be segmented.
    roi : vtkMRMLMarkupsROINode
        Region to be segmented; none for the whole volume.
    outputSegmentation : vtkMRMLSegmentationNode
        To be replaced; none adds a new one.
    resultSegmentation : vtkMRMLSegmentationNode
        The one whose findings are shown.
    scope : str
        This volume, all volumes or all frames.
    device, engine : str
        As the command line spells them.
    epochs : int
        Of a fine-tuning; 0 for the model's own number.
    """

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    roi: slicer.vtkMRMLMarkupsROINode
    outputSegmentation: slicer.vtkMRMLSegmentationNode
    resultSegmentation: slicer.vtkMRMLSegmentationNode
    scope: Annotated[str, Choice([ONE_VOLUME, ALL_VOLUMES, ALL_FRAMES])] = ONE_VOLUME
    device: Annotated[str, Choice(["auto", "cuda", "mps", "cpu"])] = "auto"
    engine: Annotated[
        str, Choice(["auto", "torch", "torch-tuned", "torch-compiled", "openvino", "onnxruntime", "tensorrt"])
    ] = "auto"
    epochs: Annotated[int, WithinRange(0, 1000)] = 10
