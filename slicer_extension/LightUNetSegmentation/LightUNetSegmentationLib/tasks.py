"""Work of the foreground that is one job: the same interface as a `SegmentRun`."""

from __future__ import annotations

from .errors import ModuleError
from .job import DONE
from .progress import describe, overallFraction


class JobTask:
    """A job and what is done with it in the end.

    Parameters
    ----------
    job : Job
        Was started.
    title : str
        What people read while it runs.
    finish : callable
        Takes the job once it is done or failed, and gives a line for people; closes the job. May raise `ModuleError`.
    afterwards : callable or None
        Called without arguments however it ended: done, failed or cancelled.
    """

    belongsToScene = False
    """An installation or an export goes on when the scene closes: stopped halfway it would leave half a package."""

    def __init__(self, job, title, finish, afterwards=None):
        self.job = job
        self.finish = finish
        self.afterwards = afterwards
        self.status = title
        self.fraction = 0.0
        self.error = None
        self.warnings = []
        self.segmentation = None
        self._isFinished = False

    @property
    def isRunning(self):
        """True until `finish` was called or the job was cancelled."""
        return not self._isFinished

    @property
    def state(self):
        """As that of the job."""
        return self.job.state

    @property
    def log(self):
        """Last lines of the child."""
        return list(self.job.log)

    def poll(self):
        """Take in progress, and finish when the job has ended."""
        if self._isFinished:
            return
        for event in self.job.poll():
            self.fraction, self.status = overallFraction(event), describe(event)
        if self.job.isRunning:
            return
        self._isFinished = True
        try:
            self.status = self.finish(self.job) or ""
            self.fraction = 1.0 if self.job.state == DONE else self.fraction
        except ModuleError as error:
            self.error, self.status = error, error.message
        finally:
            self._close()

    def cancel(self):
        """Stop at once; `finish` is not called."""
        self._isFinished = True
        self._close()
        self.status = "Cancelled"

    def _close(self):
        self.job.close()
        if self.afterwards is not None:
            self.afterwards()
