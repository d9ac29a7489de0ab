"""Several volumes, one after the other; a failed one is recorded and the next one goes on."""

from __future__ import annotations

import slicer

from .errors import ModuleError
from .job import CANCELLED, DONE, RUNNING
from .segment_run import SegmentRun
from .volumes import isEligible


def eligibleVolumes():
    """Give the volumes of the scene that a batch segments, in the order of the scene."""
    return [volume for volume in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if isEligible(volume)]


class Batch:
    """A queue of runs with the same options; polled like a `Job`.

    Parameters
    ----------
    volumes : sequence of vtkMRMLScalarVolumeNode
        What to segment.
    makeRun : callable
        Takes a volume and gives a `SegmentRun` that was not started.
    onResult : callable or None
        Takes (index, run) after each volume that was segmented.
    """

    belongsToScene = True

    def __init__(self, volumes, makeRun=SegmentRun, onResult=None):
        self.volumes = list(volumes)
        self._isInScene = [slicer.mrmlScene.IsNodePresent(volume) for volume in self.volumes]
        self.makeRun = makeRun
        self.onResult = onResult
        self.state = RUNNING
        self.error = None
        self.outcomes = []
        self.run = None

    def start(self):
        """Start the first volume."""
        if not self.volumes:
            raise ModuleError("There is no volume to segment.", "Load a CT volume.")
        self._startNext()
        return self

    @property
    def isRunning(self):
        """True until every volume has an outcome, or the batch was cancelled."""
        return self.state == RUNNING

    @property
    def fraction(self):
        """Share of the batch that is done."""
        current = self.run.fraction if self.run is not None and self.run.isRunning else 0.0
        return min(1.0, (len(self.outcomes) + current) / len(self.volumes))

    @property
    def status(self):
        """One line for people."""
        if not self.isRunning:
            return self.summary()
        return f"{len(self.outcomes) + 1} of {len(self.volumes)}: {self.run.status}"

    @property
    def log(self):
        """Last lines of the present child."""
        return self.run.log if self.run else []

    @property
    def warnings(self):
        """Of all runs."""
        return [text for run in self.outcomes for text in run.warnings]

    @property
    def segmentation(self):
        """The last segmentation that was made."""
        made = [run.segmentation for run in self.outcomes if run.segmentation is not None]
        return made[-1] if made else None

    def summary(self):
        """Give how it went: ``"2 of 3 volumes segmented; CT 2: ..."``."""
        done = [run for run in self.outcomes if run.error is None]
        failed = [
            f"{run.volume.GetName()}: {run.error.message} {run.error.hint}".strip()
            for run in self.outcomes
            if run.error is not None
        ]
        return "; ".join([f"{len(done)} of {len(self.volumes)} volumes segmented", *failed])

    def poll(self):
        """Take in progress and start the next volume when one is finished."""
        if not self.isRunning:
            return
        self.run.poll()
        if self.run.isRunning:
            return
        self._record()
        if len(self.outcomes) == len(self.volumes):
            self.state = DONE
        else:
            self._startNext()

    def cancel(self):
        """Stop the present volume and leave out the others; what was made stays."""
        if self.isRunning:
            self.state = CANCELLED
            self.run.cancel()

    def wait(self):
        """Poll until the end; for scripts. Gives the outcomes."""
        import time

        while self.isRunning:
            self.poll()
            time.sleep(0.02)
        return self.outcomes

    def _record(self):
        self.outcomes.append(self.run)
        if self.run.segmentation is not None and self.onResult is not None:
            self.onResult(len(self.outcomes) - 1, self.run)

    def _startNext(self):
        while len(self.outcomes) < len(self.volumes):
            index = len(self.outcomes)
            self.run = self.makeRun(self.volumes[index])
            try:
                if self._isInScene[index] and not slicer.mrmlScene.IsNodePresent(self.volumes[index]):
                    raise ModuleError("The volume was removed before its turn.", "Load it again.")
                self.run.start()
                return
            except ModuleError as error:
                self.run.state, self.run.error = "failed", error
                self._record()
        self.state = DONE
