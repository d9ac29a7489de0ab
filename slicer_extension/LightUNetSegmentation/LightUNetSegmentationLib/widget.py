"""The window of the module: choosing, starting, watching and stopping. What it starts stands in other files."""

from __future__ import annotations

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from .batch import eligibleVolumes
from .errors import EditedSegmentationError, ModuleError
from .findings_panel import FindingsPanel
from .learning_panel import LearningPanel
from .logic import LightUNetSegmentationLogic
from .parameter_node import ALL_VOLUMES, ONE_VOLUME
from .results import REFUSE, REPLACE
from .setup_panel import SetupPanel

TICK_MILLISECONDS = 100


class LightUNetSegmentationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Binds the controls of the ``.ui`` file to the logic.

    One task runs in the foreground at a time (a segmentation, an export, an installation), and a fine-tuning may run
    beside it. A timer polls both, so the window stays alive.
    """

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.ui = None
        self.panels = []
        self.task = None
        self.lastTask = None
        self.lastError = None
        self._onTaskDone = None
        self._parameterNode = None
        self._guiTag = None
        self._timer = None

    # Life cycle

    def setup(self):
        """Load the controls; called when the module is first shown."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/LightUNetSegmentation.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = LightUNetSegmentationLogic()
        self._timer = qt.QTimer()
        self._timer.setInterval(TICK_MILLISECONDS)
        self._timer.connect("timeout()", self.onTick)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.segmentButton.connect("clicked(bool)", self.onSegment)
        self.ui.cancelButton.connect("clicked(bool)", self.onCancel)
        self.ui.loadDicomButton.connect("clicked(bool)", self.onLoadDicom)
        self.setupPanel = SetupPanel(self)
        self.findingsPanel = FindingsPanel(self)
        self.learningPanel = LearningPanel(self)
        self.panels = [self.setupPanel, self.findingsPanel, self.learningPanel]
        self.initializeParameterNode()
        self.setupPanel.check()
        self.refresh()

    def cleanup(self):
        """Stop everything; called when Slicer closes or the module is reloaded."""
        self.cancelTask()
        for panel in self.panels:
            panel.cleanup()
        if self._timer is not None:
            self._timer.stop()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        """Called when the user opens the module."""
        self.initializeParameterNode()

    def exit(self):
        """Called when the user opens another module; running work goes on."""
        self._disconnectGui()

    def onSceneStartClose(self, caller=None, event=None):
        """The scene closes: what works for its nodes ends; an installation or an export goes on."""
        if self.task is not None and self.task.belongsToScene:
            self.cancelTask()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller=None, event=None):
        """The scene is empty: start afresh."""
        self.logic.history.clear()
        self.initializeParameterNode()
        self.refresh()

    def initializeParameterNode(self):
        """Take the parameter node of the scene, and the first volume that can be segmented if none was chosen."""
        self.setParameterNode(self.logic.getParameterNode())
        if self._parameterNode.inputVolume is None:
            volumes = eligibleVolumes()
            if volumes:
                self._parameterNode.inputVolume = volumes[0]

    def setParameterNode(self, parameterNode):
        """Bind the controls to a parameter node, or to none."""
        self._disconnectGui()
        if self._parameterNode is not None:
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
            self.onParametersChanged()

    def _disconnectGui(self):
        if self._parameterNode is not None and self._guiTag is not None:
            self._parameterNode.disconnectGui(self._guiTag)
        self._guiTag = None

    @property
    def parameters(self):
        """The parameter node; None while the scene closes."""
        return self._parameterNode

    def onParametersChanged(self, caller=None, event=None):
        """A choice was changed, here or by a script."""
        for panel in self.panels:
            panel.onParametersChanged()
        self.refresh()

    def refresh(self):
        """Set which controls can be used, and why not."""
        isIdle = self.task is None
        reason = self._whyNot()
        self.ui.segmentButton.enabled = isIdle and not reason
        self.ui.segmentButton.toolTip = reason or _("Find and draw the lesions of the volume.")
        self.ui.cancelButton.enabled = not isIdle
        self.ui.progressBar.visible = not isIdle
        isOne = self._parameterNode is not None and self._parameterNode.scope == ONE_VOLUME
        for selector in (self.ui.roiSelector, self.ui.outputSegmentationSelector):
            selector.enabled = isOne
        for panel in self.panels:
            panel.refresh()

    def _whyNot(self):
        if self._parameterNode is None:
            return _("The scene is closing.")
        if not self.setupPanel.isReady:
            return self.setupPanel.summary
        if self._parameterNode.inputVolume is None and self._parameterNode.scope != ALL_VOLUMES:
            return _("Choose a volume.")
        return ""

    # Tasks

    def startTask(self, task, onDone=None):
        """Watch a task that was started; `onDone` takes it when it has ended without an error."""
        self.task, self._onTaskDone, self.lastError = task, onDone, None
        self._timer.start()
        self._showProgress(task)
        self.refresh()

    def ensureTicking(self):
        """Start the timer for work beside the foreground."""
        self._timer.start()

    def cancelTask(self):
        """Stop the foreground task, if there is one."""
        if self.task is not None:
            task, self.task = self.task, None
            task.cancel()
            self.lastTask = task
            self.ui.statusLabel.text = _("Cancelled.")

    def onTick(self):
        """Poll what runs."""
        if self.task is not None:
            self.task.poll()
            self._showProgress(self.task)
            if not self.task.isRunning:
                self._endTask()
        isBusy = [panel.tick() for panel in self.panels]
        if self.task is None and not any(isBusy):
            self._timer.stop()

    def _showProgress(self, task):
        self.ui.progressBar.setRange(0, 100 if task.fraction > 0 else 0)  # 0 to 0 shows "busy"
        self.ui.progressBar.setValue(round(100 * task.fraction))
        self.ui.statusLabel.text = task.status

    def _endTask(self):
        task, onDone = self.task, self._onTaskDone
        self.task, self._onTaskDone, self.lastTask = None, None, task
        try:
            if task.error is not None:
                self.report(task.error)
            elif onDone is not None:
                onDone(task)
            if task.warnings:
                self.ui.statusLabel.text = "\n".join([task.status, *task.warnings])
        finally:
            self.refresh()

    def report(self, error):
        """Tell the user about an error: in the panel, and in a dialog that holds the last lines of the child."""
        self.lastError = error
        self.ui.statusLabel.text = f"{error.message} {error.hint}".strip()
        slicer.util.errorDisplay(
            f"{error.message}\n\n{error.hint}".strip(), windowTitle="LightUNet", detailedText="\n".join(error.log)
        )

    # Buttons

    def onSegment(self, checked=False):
        """Start what the parameters ask for; ask first where edits would be lost."""
        try:
            self._startSegmentation()
        except EditedSegmentationError as error:
            question = _("{message}\n\nReplace them? No keeps them and adds a new segmentation.")
            if slicer.util.confirmYesNoDisplay(question.format(message=error.message), windowTitle="LightUNet"):
                self._tryToStart(whenEdited=REPLACE)
            else:
                self._tryToStart(asNew=True)
        except ModuleError as error:
            self.report(error)

    def _tryToStart(self, **choices):
        try:
            self._startSegmentation(**choices)
        except ModuleError as error:
            self.report(error)

    def _startSegmentation(self, whenEdited=REFUSE, asNew=False):
        task = self.logic.makeTask(
            self._parameterNode,
            interpreter=self.setupPanel.interpreter,
            model=self.learningPanel.model,
            whenEdited=whenEdited,
            asNew=asNew,
        )
        task.start()
        self.startTask(task, self.onSegmented)

    def onSegmented(self, task):
        """Show the result."""
        if task.segmentation is not None:
            self.findingsPanel.showResult(task.segmentation)

    def onCancel(self, checked=False):
        """Stop the task."""
        self.cancelTask()
        self.refresh()

    def onLoadDicom(self, checked=False):
        """Open the DICOM browser."""
        slicer.util.selectModule("DICOM")
