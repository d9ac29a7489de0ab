"""Learning: training cases, fine-tuning with live curves, models to choose, compare and take back."""

from __future__ import annotations

import os

import slicer
from slicer.i18n import tr as _

from .batch import Batch
from .errors import ModuleError
from .fine_tuning import FineTuning, TrainingCurves, datalistPath, newOutputFolder
from .models import ModelList, overlap
from .parameters import RunParameters, TrainParameters
from .segment_run import SegmentRun
from .settings import casesFolder, writeSetting
from .training_cases import canTrain, countCases, saveCase


class LearningPanel:
    """The controls of the section *Learning*.

    Parameters
    ----------
    host : LightUNetSegmentationWidget
        Its controls and parameters.
    """

    def __init__(self, host):
        self.host = host
        self.ui = host.ui
        self.training = None
        self.curves = None
        self._isFilling = False
        self.ui.casesFolderEdit.currentPath = casesFolder()
        self.ui.casesFolderEdit.connect("currentPathChanged(QString)", self.onFolderChanged)
        self.ui.saveCaseButton.connect("clicked(bool)", self.onSaveCase)
        self.ui.fineTuneButton.connect("clicked(bool)", self.onFineTune)
        self.ui.stopTrainingButton.connect("clicked(bool)", self.onStopTraining)
        self.ui.curvesButton.connect("clicked(bool)", self.onShowCurves)
        self.ui.compareButton.connect("clicked(bool)", self.onCompare)
        self.ui.rollBackButton.connect("clicked(bool)", self.onRollBack)
        self.ui.modelCombo.connect("currentIndexChanged(int)", self.onModelChosen)
        self.fillModels()

    @property
    def folder(self):
        """Folder of the cases."""
        return self.ui.casesFolderEdit.currentPath

    @property
    def models(self):
        """The models of the folder; an empty list where its register is damaged."""
        try:
            return ModelList(self.folder)
        except ModuleError as error:
            self.ui.trainingLabel.text = f"{error.message} {error.hint}"
            return ModelList(os.path.join(self.folder, "models"))

    @property
    def model(self):
        """The model in use, as `modelOption` takes it."""
        return self.models.current

    def fillModels(self):
        """Show the models in the list, the one in use chosen."""
        self._isFilling = True
        models = self.models
        self.ui.modelCombo.clear()
        for model, title in models.choices():
            self.ui.modelCombo.addItem(title, model)
        self.ui.modelCombo.setCurrentIndex([model for model, _title in models.choices()].index(models.current))
        self._isFilling = False

    def onParametersChanged(self):
        """Nothing here depends on the parameters but `refresh`."""

    def refresh(self):
        """Set which controls can be used."""
        isTraining = self.training is not None and self.training.isRunning
        hasResult = self.host.findingsPanel.segmentation is not None if self.host.panels else False
        hasVolume = self.host.parameters is not None and self.host.parameters.inputVolume is not None
        isReady = self.host.setupPanel.isReady
        self.ui.saveCaseButton.enabled = hasResult and isReady and self.host.task is None
        self.ui.fineTuneButton.enabled = isReady and not isTraining and canTrain(self.folder)
        self.ui.stopTrainingButton.enabled = isTraining
        self.ui.curvesButton.enabled = self.curves is not None
        self.ui.compareButton.enabled = isReady and hasVolume and self.host.task is None
        self.ui.rollBackButton.enabled = self.models.canRollBack
        self.ui.casesLabel.text = self._casesText()

    def _casesText(self):
        try:
            training, validation = countCases(self.folder)
        except ModuleError as error:
            return error.message
        return _("{training} cases for training, {validation} for validation").format(
            training=training, validation=validation
        )

    def tick(self):
        """Poll the training; True while it runs."""
        if self.training is None or not self.training.isRunning:
            return False
        self.training.poll()
        self.ui.trainingBar.setValue(round(100 * self.training.fraction))
        self.ui.trainingLabel.text = self.training.status
        if not self.training.isRunning:
            self._endTraining()
        return True

    def cleanup(self):
        """Stop the training; its folder goes on with it later."""
        if self.training is not None:
            self.training.cancel()

    def onFolderChanged(self, path):
        """Keep the folder as a setting."""
        writeSetting("casesFolder", path)
        self.fillModels()
        self._useModel()

    def onSaveCase(self, checked=False):
        """Save the shown segmentation as it is."""
        panel = self.host.findingsPanel
        try:
            if panel.volume is None:
                raise ModuleError("The volume of the segmentation is not in the scene.", "Load it again.")
            case = saveCase(panel.volume, panel.segmentation, self.folder, self.host.setupPanel.labels)
        except ModuleError as error:
            self.host.report(error)
            return
        self.ui.trainingLabel.text = _("Saved as {name}.").format(name=os.path.basename(case))
        self.host.refresh()

    def onFineTune(self, checked=False):
        """Start the training in the background."""
        parameters = TrainParameters(
            datalist=datalistPath(self.folder),
            outputFolder=newOutputFolder(self.folder),
            model=self.model,
            epochs=self.host.parameters.epochs,
            device=self.host.parameters.device,
        )
        self.curves = TrainingCurves()
        training = FineTuning(parameters, interpreter=self.host.setupPanel.interpreter, curves=self.curves)
        try:
            self.training = training.start()
        except ModuleError as error:
            self.host.report(error)
            return
        self.host.ensureTicking()
        self.host.refresh()

    def _endTraining(self):
        if self.training.error is not None:
            self.host.report(self.training.error)
        elif self.training.modelFolder:
            name = os.path.basename(os.path.dirname(self.training.modelFolder))
            self._addModel(name)
        self.host.refresh()

    def _addModel(self, name):
        try:
            self.models.add(self.training.modelFolder, name, self.training.bestDice)
        except ModuleError as error:
            text = _("The new model is not in the list; it lies in {folder}.")
            self.ui.trainingLabel.text = text.format(folder=self.training.modelFolder)
            self.host.report(error)
            return
        self.fillModels()
        self.ui.trainingLabel.text = _("New model {name}: choose it above, or compare first.").format(name=name)

    def onStopTraining(self, checked=False):
        """Stop the training."""
        self.training.cancel()
        self.ui.trainingLabel.text = self.training.status
        self.host.refresh()

    def onShowCurves(self, checked=False):
        """Show the curves in the plot view, also those of a training that outlived the scene."""
        if not self.curves.isInScene:
            self.curves = self.curves.drawnAgain()
            if self.training is not None:
                self.training.curves = self.curves
        selection = slicer.app.applicationLogic().GetSelectionNode()
        selection.SetActivePlotChartID(self.curves.chart.GetID())
        slicer.app.applicationLogic().PropagatePlotChartSelection()
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalPlotView)

    def onModelChosen(self, index):
        """Use another model from now on."""
        if self._isFilling or index < 0:
            return
        try:
            self.models.choose(self.ui.modelCombo.itemData(index))
        except ModuleError as error:
            self.fillModels()  # shows the one that is used still
            self.host.report(error)
        self._useModel()

    def onRollBack(self, checked=False):
        """Use the model that was in use before."""
        try:
            self.models.rollBack()
        except ModuleError as error:
            self.host.report(error)
        self.fillModels()
        self._useModel()

    def _useModel(self):
        """Its labels are asked for; the answer refreshes the window."""
        self.host.setupPanel.check()
        self.host.refresh()

    def onCompare(self, checked=False):
        """Segment the volume with the model in use and with the other newest one; the results stand side by side."""
        volume = self.host.parameters.inputVolume
        reference = self.host.findingsPanel.segmentation
        compared = self._comparedModels()
        titles = dict(self.models.choices())
        remaining = list(compared)

        def makeRun(volume):
            options = RunParameters(
                device=self.host.parameters.device,
                engine=self.host.parameters.engine,
                model=remaining.pop(0),
            )
            return SegmentRun(volume, options, interpreter=self.host.setupPanel.interpreter)

        batch = Batch([volume, volume], makeRun)
        try:
            batch.start()
        except ModuleError as error:
            self.host.report(error)
            return
        names = [titles[model] for model in compared]
        self.host.startTask(batch, lambda task: self._showComparison(task, reference, names))

    def _comparedModels(self):
        """The model in use, and the newest of the others."""
        current = self.model
        others = [model for model, _title in self.models.choices() if model != current]
        return [current, others[-1]]

    def _showComparison(self, batch, reference, titles):
        runs = [run for run in batch.outcomes if run.segmentation is not None]
        if len(runs) < 2:
            self.ui.trainingLabel.text = batch.summary()
            return
        volume = runs[0].volume
        lines = []
        for run, title in zip(runs, titles):
            run.segmentation.SetName(f"{volume.GetName()} segmentation ({title})")
            text = f"{title}: {len(run.report['findings']['lesions'])} lesions"
            if reference is not None and slicer.mrmlScene.IsNodePresent(reference):
                text += f", Dice with {reference.GetName()} {overlap(run.segmentation, reference, volume):.3f}"
            lines.append(text)
        lines.append(f"Dice of both {overlap(runs[0].segmentation, runs[1].segmentation, volume):.3f}")
        self.ui.trainingLabel.text = "\n".join(lines)
