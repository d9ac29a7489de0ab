"""Findings: the table of lesions, jumping to one, the threshold, copies, DICOM export."""

from __future__ import annotations

import os

import qt
from slicer.i18n import tr as _

from .dicom_export import startExport, takeExport
from .edits import isEdited, referenceVolume
from .errors import ModuleError, cannotWrite
from .measure import measureLesions
from .report import COLUMNS, densityText, lesionCsv, lesionRows, lesionText
from .results import FINDINGS, STATEMENT, recordedDensity, recordedLesions
from .tasks import JobTask
from .threshold import canReapply, reapplyThreshold, recordedThreshold, whyNotReapply
from .views import jumpTo, showVolume

SETTLE_MILLISECONDS = 250
"""Wait after the last move of the slider before the threshold is applied."""


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
        self._shown = None
        self._isShowing = False
        self._settle = qt.QTimer()
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MILLISECONDS)
        self._settle.connect("timeout()", self.applyThreshold)
        self.ui.findingsTable.setColumnCount(len(COLUMNS))
        self.ui.findingsTable.setHorizontalHeaderLabels([_(title) for _key, title, _form in COLUMNS])
        self.ui.findingsTable.connect("cellClicked(int,int)", self.onLesionClicked)
        self.ui.thresholdSlider.connect("valueChanged(double)", self.onThresholdMoved)
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
        """Another segmentation may have been chosen."""
        if self.segmentation is self._shown:
            return
        self._shown = self.segmentation
        self.lesions = recordedLesions(self.segmentation)
        self.fillTable()
        if self.segmentation is not None:
            self._isShowing = True
            self.host.parameters.threshold = recordedThreshold(self.segmentation)
            self._isShowing = False
            display = self.segmentation.GetDisplayNode()
            self.ui.show3DCheckBox.checked = display is not None and bool(display.GetVisibility3D())

    def fillTable(self):
        """Write the lesions into the table."""
        rows = lesionRows(self.lesions)
        self.ui.findingsTable.setRowCount(len(rows))
        for row, cells in enumerate(rows):
            for column, text in enumerate(cells):
                self.ui.findingsTable.setItem(row, column, qt.QTableWidgetItem(text))
        self.ui.findingsTable.resizeColumnsToContents()
        density = densityText(recordedDensity(self.segmentation))
        self.ui.densityLabel.text = density
        self.ui.densityLabel.visible = bool(density)

    def refresh(self):
        """Set which controls can be used."""
        segmentation = self.segmentation
        hasResult = segmentation is not None
        isIdle = self.host.task is None
        self.ui.thresholdSlider.enabled = isIdle and canReapply(segmentation)
        self.ui.thresholdSlider.toolTip = whyNotReapply(segmentation) if hasResult else ""
        self.ui.undoButton.enabled = isIdle and hasResult and self.host.logic.history.canRestore(segmentation)
        self.ui.exportDicomButton.enabled = isIdle and hasResult and self.volume is not None
        for button in (self.ui.measureButton, self.ui.copyTextButton, self.ui.saveCsvButton, self.ui.show3DCheckBox):
            button.enabled = hasResult

    def tick(self):
        """Nothing runs beside the foreground here."""
        return False

    def cleanup(self):
        """Stop the timer."""
        self._settle.stop()

    def onLesionClicked(self, row, column):
        """Bring the views to a lesion."""
        if 0 <= row < len(self.lesions):
            jumpTo(self.lesions[row]["centroid_ras_mm"], self.segmentation)

    def onThresholdMoved(self, value):
        """The slider moves: apply it when it rests."""
        if not self._isShowing and canReapply(self.segmentation):
            self._settle.start()

    def applyThreshold(self):
        """Redraw the structure at the threshold of the slider."""
        segmentation = self.segmentation
        if segmentation is None or not canReapply(segmentation) or self.host.task is not None:
            return
        value = float(self.ui.thresholdSlider.value)
        if abs(value - recordedThreshold(segmentation)) < 1e-6:
            return
        try:
            self.lesions = reapplyThreshold(segmentation, value, self.volume)
        except ModuleError as error:
            self._isShowing = True
            self.host.parameters.threshold = recordedThreshold(segmentation)
            self._isShowing = False
            self.ui.statusLabel.text = f"{error.message} {error.hint}"
            return
        self.fillTable()
        self.ui.statusLabel.text = _("Threshold {value:.2f}.").format(value=value)

    def onUndo(self, checked=False):
        """Bring back what was replaced last."""
        if self.host.logic.history.restore(self.segmentation):
            self._shown = None
            self.onParametersChanged()
            self.ui.statusLabel.text = _("The replaced segmentation is back.")
        self.host.refresh()

    def onMeasure(self, checked=False):
        """Measure the segmentation as it is now."""
        import json

        self.lesions = measureLesions(self.segmentation, self.volume)
        self.segmentation.SetAttribute(FINDINGS, json.dumps(self.lesions))
        self.fillTable()
        edited = _(" as edited") if isEdited(self.segmentation) else ""
        self.ui.statusLabel.text = _("{count} lesions measured{edited}.").format(count=len(self.lesions), edited=edited)

    def onCopyText(self, checked=False):
        """Put the table on the clipboard."""
        statement = self.segmentation.GetAttribute(STATEMENT) or ""
        qt.QApplication.clipboard().setText(lesionText(self.lesions, statement, recordedDensity(self.segmentation)))
        self.ui.statusLabel.text = _("Copied.")

    def onSaveCsv(self, checked=False):
        """Save the table."""
        path = qt.QFileDialog.getSaveFileName(None, _("Save findings"), "findings.csv", "CSV (*.csv)")
        if not path:
            return
        try:
            with open(path, "w", encoding="utf-8", newline="") as stream:
                stream.write(lesionCsv(self.lesions))
        except OSError as error:
            self.host.report(cannotWrite(path, error))
            return
        self.ui.statusLabel.text = _("Saved {name}.").format(name=os.path.basename(path))

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
