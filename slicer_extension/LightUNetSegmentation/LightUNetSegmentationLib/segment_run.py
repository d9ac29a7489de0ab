"""One volume through the child process: out as a file, back as a segmentation."""

from __future__ import annotations

import dataclasses
import os

import slicer

from .errors import EditedSegmentationError, ModuleError
from .interpreter import childEnvironment, chooseInterpreter
from .job import CANCELLED, DONE, FAILED, RUNNING, Job
from .parameters import RunParameters
from .progress import describe, overallFraction
from .report import readReport
from .results import REFUSE, checkReplaceable, loadResult, replaceResult
from .temporary import makeTemporaryFolder
from .volumes import exportVolume, gridOf

DEVICE_MEMORY_ERROR = "DeviceMemoryError"
CPU = "cpu"


class SegmentRun:
    """The segmentation of one volume; polled like a `Job`.

    Parameters
    ----------
    volume : vtkMRMLScalarVolumeNode
        Hounsfield units.
    parameters : RunParameters
        What the user chose.
    interpreter : str
        Program that runs the package; empty for Slicer's own Python.
    roi : vtkMRMLMarkupsROINode or None
        Region to be segmented.
    target : vtkMRMLSegmentationNode or None
        Replaced by the result; None adds a new segmentation.
    whenEdited : str
        ``"refuse"`` or ``"replace"``, if `target` holds edits.
    history : EditHistory or None
        Takes a snapshot of `target` before it is replaced.
    """

    belongsToScene = True

    def __init__(
        self, volume, parameters=None, *, interpreter="", roi=None, target=None, whenEdited=REFUSE, history=None
    ):
        self.volume = volume
        self.parameters = parameters or RunParameters()
        self.interpreter = interpreter
        self.roi = roi
        self.target = target
        self.whenEdited = whenEdited
        self.history = history
        self.state = RUNNING
        self.error = None
        self.segmentation = None
        self.report = None
        self.warnings = []
        self.fraction = 0.0
        self.status = "Preparing"
        self.job = None
        self._isInScene = volume is not None and slicer.mrmlScene.IsNodePresent(volume)
        self._grid = None

    def start(self):
        """Write the volume and start the child.

        Raises
        ------
        ModuleError
            If the volume cannot be segmented or written, or the target holds edits; nothing was started then.
        """
        if self.target is not None:
            checkReplaceable(self.target, self.whenEdited, self.volume)
        folder = makeTemporaryFolder()
        self.job = Job([], folder)
        try:
            path = exportVolume(self.volume, folder, self.roi)
            self._grid = gridOf(self.volume)
        except BaseException:
            self.job.close()
            raise
        self._startJob(path, folder)
        return self

    @property
    def isRunning(self):
        """True until the run is done, failed or cancelled."""
        return self.state == RUNNING

    @property
    def log(self):
        """Last lines of the child."""
        return list(self.job.log) if self.job else []

    def poll(self):
        """Take in progress; when the child is done, bring its result into the scene. Never waits for the child."""
        if not self.isRunning:
            return
        for event in self.job.poll():
            self.fraction, self.status = overallFraction(event), describe(event)
        if self.job.isRunning:
            return
        if self.job.state == FAILED and self._canRetryOnCpu():
            self._retryOnCpu()
            return
        try:
            if self.job.state == FAILED:
                raise self.job.error
            self._takeResult()
            self.state, self.fraction, self.status = DONE, 1.0, "Done"
        except ModuleError as error:
            self.state, self.error, self.status = FAILED, error, error.message
        finally:
            self.job.close()

    def cancel(self):
        """Stop at once; no process and no file is left."""
        if self.isRunning:
            self.state, self.status = CANCELLED, "Cancelled"
            if self.job:
                self.job.close()

    def wait(self, timeoutSeconds=None):
        """Poll until the end; for scripts. Gives the segmentation.

        Raises
        ------
        ModuleError
            If the run failed.
        """
        import time

        end = None if timeoutSeconds is None else time.monotonic() + timeoutSeconds
        while self.isRunning and (end is None or time.monotonic() < end):
            self.poll()
            time.sleep(0.02)
        if self.error is not None:
            raise self.error
        return self.segmentation

    def _startJob(self, path, folder):
        output = os.path.join(folder, f"result-{self.parameters.device.replace(':', '')}")
        command = [chooseInterpreter(self.interpreter), *self.parameters.toArguments(path, output)]
        log = list(self.job.log)
        self.job = Job(command, folder, childEnvironment(self.interpreter))
        self.job.log.extend(log)
        self.job.start()

    def _canRetryOnCpu(self):
        return self.job.error.kind == DEVICE_MEMORY_ERROR and self.parameters.device != CPU

    def _retryOnCpu(self):
        self.warnings.append("The memory of the device did not suffice; the processor was used instead.")
        self.parameters = dataclasses.replace(self.parameters, device=CPU)
        self.fraction, self.status = 0.0, "Trying again on the processor"
        self._startJob(os.path.join(self.job.folder, "volume.nrrd"), self.job.folder)

    def _takeResult(self):
        if self._isInScene and not slicer.mrmlScene.IsNodePresent(self.volume):
            raise ModuleError("The volume was removed while it was segmented.", "Load it again.")
        if gridOf(self.volume) != self._grid:
            raise ModuleError(
                "The volume was moved, or cut, while it was segmented: the result would lie beside it.",
                "Segment it again.",
            )
        reportPath = self.job.result.get("report", "")
        self.report = readReport(reportPath)
        self.warnings += self.report.get("warnings", [])
        folder = os.path.dirname(reportPath)
        new = loadResult(self.report, folder, self.volume, f"{self.volume.GetName()} segmentation")
        self.segmentation = new
        if self.target is not None and slicer.mrmlScene.IsNodePresent(self.target):
            try:
                self.segmentation = replaceResult(self.target, new, self.history, self.whenEdited)
            except EditedSegmentationError as error:
                # Changed while the model ran: both are kept.
                self.warnings.append(f"{error.message} The result is a new segmentation.")
