"""The module without its window, for scripts and for the widget."""

from __future__ import annotations

from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .batch import Batch, eligibleVolumes
from .edits import EditHistory
from .errors import ModuleError
from .parameter_node import ALL_FRAMES, ALL_VOLUMES, LightUNetSegmentationParameterNode
from .parameters import RunParameters
from .results import REFUSE, REPLACE
from .segment_run import SegmentRun
from .sequences import segmentSequence


class LightUNetSegmentationLogic(ScriptedLoadableModuleLogic):
    """Makes runs from parameters and keeps the snapshots.

    >>> logic = slicer.util.getModuleLogic("LightUNetSegmentation")
    >>> segmentation = logic.process(volume)
    """

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self.history = EditHistory()

    def getParameterNode(self):
        """Give the parameter node of the scene."""
        return LightUNetSegmentationParameterNode(super().getParameterNode())

    def makeTask(self, parameters, *, interpreter="", model="", whenEdited=REFUSE, asNew=False):
        """Make the run, or the batch of runs, that the parameters ask for; it was not started.

        Parameters
        ----------
        parameters : LightUNetSegmentationParameterNode
            What the user chose.
        interpreter, model : str
            As in `SegmentRun` and `RunParameters`.
        whenEdited : str
            ``"refuse"`` or ``"replace"`` a target that holds edits.
        asNew : bool
            Add a new segmentation although a target is chosen.

        Returns
        -------
        SegmentRun or Batch
        """
        options = RunParameters(device=parameters.device, engine=parameters.engine, model=model)

        def makeRun(volume, target=None, roi=None):
            return SegmentRun(
                volume,
                options,
                interpreter=interpreter,
                roi=roi,
                target=target,
                whenEdited=whenEdited,
                history=self.history,
            )

        if parameters.scope == ALL_VOLUMES:
            return Batch(eligibleVolumes(), makeRun)
        if parameters.scope == ALL_FRAMES:
            return segmentSequence(parameters.inputVolume, makeRun)
        target = None if asNew else parameters.outputSegmentation
        return makeRun(parameters.inputVolume, target, parameters.roi)

    def process(
        self, volume, *, parameters=None, interpreter="", roi=None, target=None, replaceEdits=False, timeoutSeconds=None
    ):
        """Segment a volume and wait for it; for scripts.

        Returns
        -------
        vtkMRMLSegmentationNode

        Raises
        ------
        ModuleError
            If it failed, or took longer than `timeoutSeconds`.
        """
        run = SegmentRun(
            volume,
            parameters,
            interpreter=interpreter,
            roi=roi,
            target=target,
            whenEdited=REPLACE if replaceEdits else REFUSE,
            history=self.history,
        ).start()
        try:
            segmentation = run.wait(timeoutSeconds)
            if run.isRunning:
                raise ModuleError(
                    f"{volume.GetName()} was not segmented within {timeoutSeconds} s.",
                    "Allow more time, or choose a region of interest.",
                )
            return segmentation
        finally:
            run.cancel()
