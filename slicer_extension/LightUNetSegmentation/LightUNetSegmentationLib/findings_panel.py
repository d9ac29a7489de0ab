"""Findings: the table of lesions, jumping to one, the threshold, copies, DICOM export."""

from __future__ import annotations

import os

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from .dicom_export import startExport, takeExport
from .edits import MEASURED, isAsMeasured, isEdited, ownSegmentIds, referenceVolume
from .errors import ModuleError, cannotWrite
from .measure import measureLesions
from .report import COLUMNS, densityText, doubtfulText, lesionCsv, lesionRows, lesionText
from .results import FINDINGS, STATEMENT, recordedDensity, recordedDoubtful, recordedLesions, recordLesions
from .tasks import JobTask
from .threshold import canReapply, modelThreshold, reapplyThreshold, recordedThreshold, whyNotReapply
from .views import jumpTo, showVolume

SETTLE_MILLISECONDS = 250
"""Wait after the last move of the slider before the threshold is applied."""
EVENTS = (
    vtk.vtkCommand.ModifiedEvent,
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SourceRepresentationModified,
)
"""Of a segmentation: another frame of a sequence tells of segments alone, a script may write attributes alone."""


class FindingsPanel:
    """The controls of the section *Findings*.

    Parameters
    ----------
    host : LightUNetSegmentationWidget
        Its controls and parameters.
    """

    def __init__(self, host):
        self.host = host
        self.ui = host.ui
        self.lesions = []
        self._nextDoubtful = 0
        self._shown = None
        self._shownAccount = None
        self._observed = []
        self._mayBeEdited = False
        self._isShowing = False
        self._changed = qt.QTimer()
        self._changed.setSingleShot(True)  # an event may come before the attributes that belong to it
        self._changed.setInterval(0)
        self._changed.connect("timeout()", self.onSegmentationChanged)
        self._settle = qt.QTimer()
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MILLISECONDS)
        self._settle.connect("timeout()", self.applyThreshold)
        self.ui.findingsTable.setColumnCount(len(COLUMNS))
        self.ui.findingsTable.setHorizontalHeaderLabels([_(title) for _key, title, _form in COLUMNS])
        self.ui.findingsTable.connect("cellClicked(int,int)", self.onLesionClicked)
        self.ui.nextDoubtfulButton.connect("clicked(bool)", self.onNextDoubtful)
        self.ui.thresholdSlider.connect("valueChanged(double)", self.onThresholdMoved)
        self.ui.modelThresholdButton.connect("clicked(bool)", self.onModelThreshold)
        self.ui.undoButton.connect("clicked(bool)", self.onUndo)
        self.ui.measureButton.connect("clicked(bool)", self.onMeasure)
        self.ui.copyTextButton.connect("clicked(bool)", self.onCopyText)
        self.ui.saveCsvButton.connect("clicked(bool)", self.onSaveCsv)
        self.ui.exportDicomButton.connect("clicked(bool)", self.onExportDicom)
        self.ui.show3DCheckBox.connect("toggled(bool)", self.onShow3D)

    @property
    def segmentation(self):
        """The segmentation whose findings are shown, or None."""
        return self.host.parameters.resultSegmentation if self.host.parameters is not None else None

    @property
    def volume(self):
        """The volume that belongs to it, or None."""
        return None if self.segmentation is None else referenceVolume(self.segmentation)

    def showResult(self, segmentation):
        """Show a result in this panel and in the views, at its largest lesion."""
        self.host.parameters.resultSegmentation = segmentation
        self._shown = None
        self.onParametersChanged()
        if self.volume is not None:
            showVolume(self.volume)
        if self.lesions:
            jumpTo(self.lesions[0]["centroid_ras_mm"], segmentation)

    def onParametersChanged(self):
        """Another segmentation may have been chosen, or the user comes back from the Segment Editor."""
        if self.segmentation is not self._shown:
            self._shown = self.segmentation
            self._nextDoubtful = 0
            self._observe(self._shown)
            self.showFindings()
            self._mayBeEdited = self._shown is not None
        if self._mayBeEdited:
            self._mayBeEdited = False
            self._tellOfEdits()

    def showFindings(self):
        """Show lesions and threshold as the segmentation records them."""
        segmentation = self.segmentation
        self.lesions = recordedLesions(segmentation)
        self._shownAccount = _accountOf(segmentation)
        self._mayBeEdited = False
        self.ui.editedLabel.text, self.ui.editedLabel.visible = "", False
        self.fillTable()
        self._showThreshold()
        if segmentation is not None:
            display = segmentation.GetDisplayNode()
            self.ui.show3DCheckBox.checked = display is not None and bool(display.GetVisibility3D())

    def _observe(self, segmentation):
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._changed.stop()
        self._observed = []
        if segmentation is not None:
            for event in EVENTS:
                self._observed.append((segmentation, segmentation.AddObserver(event, self.onSegmentationEvent)))

    def onSegmentationEvent(self, caller=None, event=None):
        """Voxels or attributes have changed; looking at the voxels waits until somebody looks at the numbers."""
        self._mayBeEdited = True
        self._changed.start()

    def onSegmentationChanged(self):
        """Other findings may have been recorded: by a script, or for another frame of a sequence."""
        segmentation = self.segmentation
        if segmentation is not None and segmentation is self._shown and _accountOf(segmentation) != self._shownAccount:
            self.showFindings()
            self.host.refresh()

    def _tellOfEdits(self):
        """Say whether the numbers are those of the lesions as they are now."""
        isOld = bool(ownSegmentIds(self.segmentation)) and not isAsMeasured(self.segmentation)
        text = _("The lesions are not as they were when they were measured. Press Measure again.") if isOld else ""
        self.ui.editedLabel.text, self.ui.editedLabel.visible = text, isOld
        self._showBeside()

    def _measureIfEdited(self):
        """Measure again if the lesions are not as they were measured; tell whether they were not."""
        segmentation = self.segmentation
        if not ownSegmentIds(segmentation) or isAsMeasured(segmentation):
            self._tellOfEdits()
            return False
        recordLesions(segmentation, measureLesions(segmentation, self.volume))
        self.showFindings()
        return True

    def fillTable(self):
        """Write the lesions into the table."""
        rows = lesionRows(self.lesions)
        self.ui.findingsTable.setRowCount(len(rows))
        for row, cells in enumerate(rows):
            for column, text in enumerate(cells):
                self.ui.findingsTable.setItem(row, column, qt.QTableWidgetItem(text))
        self.ui.findingsTable.resizeColumnsToContents()
        self._showBeside()

    def _showBeside(self):
        """Say what the model found beside lesions: density, and places of which it was not sure."""
        density = densityText(recordedDensity(self.segmentation))
        self.ui.densityLabel.text = density
        self.ui.densityLabel.visible = bool(density)
        doubtful = doubtfulText(recordedDoubtful(self.segmentation))
        self.ui.doubtfulLabel.text = doubtful
        for control in (self.ui.doubtfulLabel, self.ui.nextDoubtfulButton):
            control.visible = bool(doubtful)

    def refresh(self):
        """Set which controls can be used."""
        segmentation = self.segmentation
        hasResult = segmentation is not None
        isIdle = self.host.task is None
        canMove = isIdle and canReapply(segmentation)
        self.ui.thresholdSlider.enabled = canMove
        self.ui.modelThresholdButton.enabled = canMove and not _isAtModelThreshold(segmentation)
        self.ui.thresholdSlider.toolTip = whyNotReapply(segmentation) if hasResult else ""
        self.ui.undoButton.enabled = isIdle and hasResult and self.host.logic.history.canRestore(segmentation)
        isReady = self.host.setupPanel.isReady  # the package writes the files, and tells the labels
        self.ui.exportDicomButton.enabled = isIdle and isReady and hasResult and self.volume is not None
        purpose = _("Write DICOM SEG and SR to a folder")
        self.ui.exportDicomButton.toolTip = purpose if isReady else self.host.setupPanel.summary
        for button in (self.ui.measureButton, self.ui.copyTextButton, self.ui.saveCsvButton, self.ui.show3DCheckBox):
            button.enabled = hasResult

    def tick(self):
        """Nothing runs beside the foreground here."""
        return False

    def cleanup(self):
        """Stop the timers and let the segmentation go."""
        self._settle.stop()
        self._observe(None)

    def onLesionClicked(self, row, column):
        """Bring the views to a lesion."""
        if 0 <= row < len(self.lesions):
            jumpTo(self.lesions[row]["centroid_ras_mm"], self.segmentation)
            if self._measureIfEdited():
                self.ui.statusLabel.text = _("Measured again: the lesions were edited.")

    def onNextDoubtful(self, checked=False):
        """Bring the views to the next place of which the model was not sure, the surest first."""
        places = recordedDoubtful(self.segmentation)
        if not places:
            self._showBeside()
            return
        number = self._nextDoubtful % len(places)
        jumpTo(places[number]["place_ras_mm"], self.segmentation)
        self.ui.statusLabel.text = _("Doubtful place {number} of {count}: probability {value:.2f}.").format(
            number=number + 1, count=len(places), value=places[number]["probability"]
        )
        self._nextDoubtful = number + 1

    def onThresholdMoved(self, value):
        """The slider moves: apply it when it rests."""
        if not self._isShowing and canReapply(self.segmentation):
            self._settle.start()

    def applyThreshold(self):
        """Redraw the structure at the threshold of the slider."""
        segmentation = self.segmentation
        if segmentation is None or not canReapply(segmentation):
            return
        value, own = float(self.ui.thresholdSlider.value), modelThreshold(segmentation)
        if self.host.task is not None or self._isShownAs(recordedThreshold(segmentation), value):
            self._showThreshold()
            return
        self._redraw(own if self._isShownAs(own, value) else value)

    def onModelThreshold(self, checked=False):
        """Go back to the threshold of the model."""
        self._redraw(modelThreshold(self.segmentation))

    def _redraw(self, threshold):
        segmentation = self.segmentation
        # A series of moves is one step back, so that it does not push out snapshots of what a person drew.
        history = self.host.logic.history if _isAtModelThreshold(segmentation) else None
        try:
            reapplyThreshold(segmentation, threshold, self.volume, history)
        except ModuleError as error:
            self._showThreshold()
            self.ui.statusLabel.text = f"{error.message} {error.hint}"
            return
        self.showFindings()
        self.ui.statusLabel.text = _("Threshold {value:.3f}.").format(value=threshold)
        self.host.refresh()

    def _showThreshold(self):
        """Move the slider to the threshold of the segmentation, which nobody asked to be redrawn."""
        self._isShowing = True
        if self.segmentation is not None:
            self.ui.thresholdSlider.value = recordedThreshold(self.segmentation)
        self._isShowing = False
        self._settle.stop()

    def _isShownAs(self, threshold, value):
        """Tell whether the slider, which has few decimals and ends, shows a threshold as this value."""
        slider = self.ui.thresholdSlider
        nearest = min(max(threshold, slider.minimum), slider.maximum)
        return abs(nearest - value) <= 0.5 * 10**-slider.decimals + 1e-9

    def onUndo(self, checked=False):
        """Bring back what was replaced last."""
        question = _("{name} was edited since. Undo all the same? The edits would be lost.")
        if isEdited(self.segmentation) and not slicer.util.confirmYesNoDisplay(
            question.format(name=self.segmentation.GetName()), windowTitle="LightUNet"
        ):
            return
        if self.host.logic.history.restore(self.segmentation):
            self.showFindings()
            self._tellOfEdits()
            self.ui.statusLabel.text = _("The replaced segmentation is back.")
        self.host.refresh()

    def onMeasure(self, checked=False):
        """Measure the segmentation as it is now."""
        recordLesions(self.segmentation, measureLesions(self.segmentation, self.volume))
        self.showFindings()
        edited = _(" as edited") if isEdited(self.segmentation) else ""
        self.ui.statusLabel.text = _("{count} lesions measured{edited}.").format(count=len(self.lesions), edited=edited)

    def onCopyText(self, checked=False):
        """Put the table on the clipboard, measured again if the lesions were edited."""
        isNew = self._measureIfEdited()
        statement = self.segmentation.GetAttribute(STATEMENT) or ""
        qt.QApplication.clipboard().setText(lesionText(self.lesions, statement, recordedDensity(self.segmentation)))
        self.ui.statusLabel.text = _("Measured again, as edited, and copied.") if isNew else _("Copied.")

    def onSaveCsv(self, checked=False):
        """Save the table, measured again if the lesions were edited."""
        path = qt.QFileDialog.getSaveFileName(None, _("Save findings"), "findings.csv", "CSV (*.csv)")
        if not path:
            return
        isNew = self._measureIfEdited()
        try:
            with open(path, "w", encoding="utf-8", newline="") as stream:
                stream.write(lesionCsv(self.lesions))
        except OSError as error:
            self.host.report(cannotWrite(path, error))
            return
        text = _("Measured again, as edited, and saved {name}.") if isNew else _("Saved {name}.")
        self.ui.statusLabel.text = text.format(name=os.path.basename(path))

    def onExportDicom(self, checked=False):
        """Write DICOM SEG and SR to a folder."""
        folder = qt.QFileDialog.getExistingDirectory(None, _("Folder for DICOM SEG and SR"))
        if not folder:
            return
        try:
            job = startExport(
                self.segmentation,
                self.volume,
                self.host.setupPanel.labels,
                interpreter=self.host.setupPanel.interpreter,
                model=self.host.learningPanel.model,
            )
        except ModuleError as error:
            self.host.report(error)
            return

        def finish(job):
            paths = takeExport(job, folder)
            return _("Written: {names}").format(names=", ".join(os.path.basename(path) for path in paths))

        self.host.startTask(JobTask(job, _("Writing DICOM"), finish))

    def onShow3D(self, isShown):
        """Show or hide the surface."""
        display = self.segmentation.GetDisplayNode() if self.segmentation is not None else None
        if display is not None:
            if isShown:
                self.segmentation.CreateClosedSurfaceRepresentation()
            display.SetVisibility3D(isShown)


def _isAtModelThreshold(segmentation):
    return recordedThreshold(segmentation) == modelThreshold(segmentation)


def _accountOf(segmentation):
    """What a segmentation records of its lesions, to see that it records something else."""
    return segmentation and (segmentation.GetAttribute(FINDINGS), segmentation.GetAttribute(MEASURED))
