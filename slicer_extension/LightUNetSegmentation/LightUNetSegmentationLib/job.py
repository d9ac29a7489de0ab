"""A child process with progress events, its log and a cancel that leaves nothing behind.

A job is polled (by a timer of the window or by a loop), so nothing here needs Qt, and the window never waits.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import os
import queue
import shutil
import signal
import subprocess
import threading
import time

from .errors import ModuleError
from .progress import isKnownSchema, parseLine

RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"
GRACE_SECONDS = 0.3
"""Time a child gets between the request to end and being killed."""
WINDOWS_SECONDS = 5
"""Longest wait for the end of a child on Windows, where files of a running process cannot be removed."""
NEW_GROUP, NO_WINDOW = 0x00000200, 0x08000000
"""Of Windows: a group of its own, and no console that flashes up."""
READ_SECONDS = 0.02
"""Time that the readers get in each poll once the child has ended; the window may not let them run otherwise."""
LOG_LINES = 400
OUTPUT_LINES = 2000
"""Lines of standard output that are no event: the JSON document of ``inspect``."""
SHOWN_LINES = 12
"""Last lines of the log that an error carries."""


class Job:
    """One run of a command.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell.
    folder : str or None
        Temporary folder that the job owns: removed however the job ends, once `close` is called.
    environment : dict or None
        Of the child; None inherits.
    """

    def __init__(self, command, folder=None, environment=None):
        self.command = [str(word) for word in command]
        self.folder = folder
        self.environment = environment
        self.state = RUNNING
        self.error = None
        self.result = {}
        self.log = collections.deque(maxlen=LOG_LINES)
        self._lastError = ""
        self.output = collections.deque(maxlen=OUTPUT_LINES)
        self.lastProgress = None
        self.startedAt = time.monotonic()
        self._lines = queue.Queue()
        self._failure = None
        self._process = None
        self._readers = []
        self._endSeenAt = None

    def start(self):
        """Start the child; a program that cannot be started fails the job, it does not raise."""
        kwargs = {"creationflags": NEW_GROUP | NO_WINDOW} if os.name == "nt" else {"start_new_session": True}
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self.environment,
                cwd=self.folder,
                text=True,
                encoding="utf-8",
                errors="replace",
                **kwargs,
            )
        except OSError as error:
            self._end(FAILED, ModuleError(f"{self.command[0]} cannot be started: {error.strerror}.", START_HINT))
            return self
        atexit.register(self.kill)
        for stream, isOutput in ((self._process.stdout, True), (self._process.stderr, False)):
            reader = threading.Thread(target=self._read, args=(stream, isOutput), daemon=True)
            reader.start()
            self._readers.append(reader)
        return self

    @property
    def isRunning(self):
        """True until the job is done, failed or cancelled."""
        return self.state == RUNNING

    @property
    def processId(self):
        """Process identifier of the child, None before the start."""
        return self._process.pid if self._process else None

    def poll(self):
        """Take in what the child wrote and give the new progress events; never waits for the child.

        Returns
        -------
        list of dict
        """
        if not self.isRunning:
            return []
        hasEnded = self._process.poll() is not None and self._isSettled()
        events = self._takeLines()
        if hasEnded:
            self._conclude(self._process.returncode)
        return events

    def wait(self, timeoutSeconds=None, interval=0.02):
        """Poll until the job ends; for scripts and tests. Gives the final state."""
        end = None if timeoutSeconds is None else time.monotonic() + timeoutSeconds
        while self.isRunning and (end is None or time.monotonic() < end):
            self.poll()
            time.sleep(interval)
        return self.state

    def cancel(self):
        """End the child and all that it started, within a second."""
        if self.isRunning:
            self.kill()
            self._end(CANCELLED, None)

    def kill(self):
        """End the child and its descendants: first asked, then forced."""
        if self._process is None:
            return
        atexit.unregister(self.kill)
        if os.name == "nt":
            if self._process.poll() is None:
                subprocess.run(
                    ["taskkill", "/F", "/T", "/PID", str(self._process.pid)],
                    capture_output=True,
                    check=False,
                    creationflags=NO_WINDOW,
                )
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(WINDOWS_SECONDS)
            return
        if self._signalGroup(signal.SIGTERM):
            end = time.monotonic() + GRACE_SECONDS
            while self._process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            # Descendants share the group, which outlives its first process.
            self._signalGroup(signal.SIGKILL)
            self._process.wait()
            end = time.monotonic() + GRACE_SECONDS
            while self._signalGroup(0) and time.monotonic() < end:
                time.sleep(0.01)
        self._process.wait()

    def close(self):
        """End a running child and remove the temporary folder; never waits for a stream."""
        self.cancel()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _isSettled(self):
        """Tell whether all is read and no descendant is left, after the child has ended by itself.

        Descendants are asked to end when this is seen, and forced after the grace. One that left the group and holds
        the streams open is not waited for any longer either.
        """
        if self._endSeenAt is None:
            self._endSeenAt = time.monotonic()
            self._signalGroup(signal.SIGTERM)
        for reader in self._readers:
            reader.join(timeout=READ_SECONDS)
        hasDescendants = self._signalGroup(0)
        if not hasDescendants and not any(reader.is_alive() for reader in self._readers):
            return True
        duration = time.monotonic() - self._endSeenAt
        if duration < GRACE_SECONDS:
            return False
        if hasDescendants and duration < 2 * GRACE_SECONDS:
            self._signalGroup(signal.SIGKILL)
            return False
        return True

    def _signalGroup(self, number):
        """Send a signal to the group of the child, 0 to ask only; False if nothing is left of it."""
        if os.name == "nt":  # a process that has ended does not tell what it started
            return False
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _read(self, stream, isOutput):
        # Closed here and nowhere else: closing waits for the reader, which waits for whoever holds the other end.
        with stream:
            for line in stream:
                self._lines.put((isOutput, line.rstrip("\n")))

    def _takeLines(self):
        events = []
        while True:
            try:
                isOutput, line = self._lines.get_nowait()
            except queue.Empty:
                return events
            event = parseLine(line) if isOutput else None
            if event is None:
                if line.strip():
                    self.log.append(line)
                    if isOutput:
                        self.output.append(line)
                    else:
                        self._lastError = line
            elif not isKnownSchema(event):
                self._failure = ModuleError(
                    f"The package speaks version {event['schema']} of the progress lines, this module another.",
                    "Update the package or the extension: Setup, Install or repair.",
                )
            elif event["event"] == "progress":
                self.lastProgress = event
                events.append(event)
            elif event["event"] == "error":
                hint = _inSlicer(event.get("hint", ""))
                self._failure = ModuleError(event.get("message", ""), hint, kind=event.get("kind", ""))
            elif event["event"] == "done":
                self.result = event

    def _conclude(self, code):
        atexit.unregister(self.kill)
        if code == 0 and self._failure is None:
            self._end(DONE, None)
            return
        error = self._failure or ModuleError(_plainCause(code, self.log, self._lastError), _hint(code, self.log))
        error.log = tuple(list(self.log)[-SHOWN_LINES:])
        self._end(FAILED, error)

    def _end(self, state, error):
        self.state, self.error = state, error


ERROR_PREFIX = "error: "
"""Starts the line in which the command line tells an error, with its hint, to people."""
START_HINT = "Choose the Python program in Setup, or install the package there."

REGULAR_HINT = (
    "Resample it onto a regular grid first, with the module Resample Scalar/Vector/DWI Volume, or load the DICOM series "
    "anew with acquisition geometry regularization."
)

_OPTIONS = (("--regularize", REGULAR_HINT),)
"""Options of the command line that this module does not give, in a hint, and what to do here in their place."""

_CAUSES = (
    ("No module named lightunet_monai", "The package is not installed for this Python.", "Setup: Install or repair."),
    ("No module named", "A part of the package is missing.", "Setup: Install or repair."),
    ("out of memory", "The memory of the device did not suffice.", "Choose the device cpu, or a region of interest."),
    ("MemoryError", "The memory of the computer did not suffice.", "Choose a region of interest."),
    (
        "No matching distribution found",
        "pip found no version of the package, or of something that it needs, for this Python.",
        "Look at the network and the proxy, or choose a wheel folder or another Python program in Setup.",
    ),
    ("No space left", "The disk is full.", "Make room in the folder for temporary files."),
)
"""Text in the log, what it means, and what to do."""


def _inSlicer(hint):
    return next((here for option, here in _OPTIONS if option in hint), hint)


def _plainCause(code, log, lastError):
    for text, cause, _ in _CAUSES:
        if any(text in line for line in log):
            return cause
    told = [line for line in log if line.startswith(ERROR_PREFIX)]
    if told:
        return told[-1][len(ERROR_PREFIX) :]
    if code < 0 or code == 137:
        return f"The process was ended by the system (signal {-code if code < 0 else 9}), as when memory runs out."
    # The two streams are read side by side: what was printed before an error may come after it.
    last = lastError or (log[-1] if log else "")
    last = f": {last.strip().rstrip('.')}" if last else " and said nothing"
    return f"The process stopped with exit code {code}{last}."


def _hint(code, log):
    for text, _, hint in _CAUSES:
        if any(text in line for line in log):
            return hint
    if code < 0 or code == 137:
        return "Choose a region of interest, or close other programs."
    return "Copy the diagnostics and report the problem."


def runBriefly(command, timeoutSeconds, environment=None):
    """Run a short command to its end and give (exit code, standard output, log lines).

    Raises
    ------
    ModuleError
        If it cannot be started or takes longer.
    """
    try:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeoutSeconds,
            env=environment,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ModuleError(f"{command[0]} cannot be started: {error.strerror}.", START_HINT) from error
    except subprocess.TimeoutExpired as error:
        raise ModuleError(f"{command[0]} did not answer within {timeoutSeconds} s.", START_HINT) from error
    return done.returncode, done.stdout, done.stderr.splitlines()[-SHOWN_LINES:]
