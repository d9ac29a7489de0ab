"""Setup: is the package there, bringing it in, which Python runs it, the model card, diagnostics."""

from __future__ import annotations

import ctk
import qt
from slicer.i18n import tr as _

from .diagnostics import diagnosticsText, pathTexts, patientTexts
from .errors import ModuleError
from .install import Installation, describeInstallation, ensureInstalled, installTorch, startInstall
from .interpreter import childEnvironment, chooseInterpreter, isOwnInterpreter
from .job import Job
from .model_card import cardText
from .parameters import inspectArguments
from .settings import casesFolder, readSetting, writeSetting
from .tasks import JobTask

CHECKING = Installation("checking", "Looking for the package")


class SetupPanel:
    """The controls of the section *Setup*.

    Parameters
    ----------
    host : LightUNetSegmentationWidget
        Its controls and parameters.
    """

    def __init__(self, host):
        self.host = host
        self.ui = host.ui
        self.installation = CHECKING
        self._check = None
        self._checked = ""
        for name, edit in self._edits().items():
            edit.currentPath = readSetting(name)
            edit.connect("currentPathChanged(QString)", self._keeper(name))
        self.ui.wheelFolderEdit.filters = ctk.ctkPathLineEdit.Dirs
        self.ui.casesFolderEdit.filters = ctk.ctkPathLineEdit.Dirs
        self.ui.proxyEdit.text = readSetting("proxy")
        self.ui.proxyEdit.connect("textChanged(QString)", self._keeper("proxy"))
        self.ui.checkButton.connect("clicked(bool)", self.onCheck)
        self.ui.installButton.connect("clicked(bool)", self.onInstall)
        self.ui.diagnosticsButton.connect("clicked(bool)", self.onCopyDiagnostics)

    def _edits(self):
        return {"interpreter": self.ui.interpreterEdit, "wheelFolder": self.ui.wheelFolderEdit}

    def _keeper(self, name):
        def keep(value):
            writeSetting(name, value)
            if name == "interpreter":
                self.check()

        return keep

    @property
    def interpreter(self):
        """Program that runs the package; ``""`` for Slicer's own Python."""
        return self.ui.interpreterEdit.currentPath

    @property
    def isReady(self):
        """True if the package and the model are there."""
        return self.installation.isReady

    @property
    def summary(self):
        """One line: what is installed, or what is missing and what to do."""
        return f"{self.installation.summary} {self.installation.hint}".strip()

    @property
    def labels(self):
        """The label table of the model in use, a list of dict."""
        return (self.installation.model or {}).get("labels", [])

    def check(self):
        """Ask the package whether it can run the model in use; the answer comes by the timer."""
        if self._check is not None:
            self._check.close()
        self.installation = CHECKING
        self._checked = self.interpreter
        command = [chooseInterpreter(self._checked), *inspectArguments(self.host.learningPanel.model)]
        self._check = Job(command, None, childEnvironment(self._checked)).start()
        self.host.ensureTicking()
        self._show()

    def tick(self):
        """Take in the answer; True while it is awaited."""
        if self._check is None:
            return False
        self._check.poll()
        if self._check.isRunning:
            return True
        job, self._check = self._check, None
        if job.error is not None and not job.log:
            self.installation = Installation("broken", job.error.message, job.error.hint)
        else:
            code = 0 if job.error is None else 1
            self.installation = describeInstallation(code, "\n".join(job.output), list(job.log), self._checked)
        job.close()
        self._show()
        self.host.refresh()
        return False

    def cleanup(self):
        """Stop asking."""
        if self._check is not None:
            self._check.close()
            self._check = None

    def onParametersChanged(self):
        """Nothing here depends on the parameters."""

    def refresh(self):
        """Set which controls can be used."""
        isIdle = self.host.task is None
        isOwn = isOwnInterpreter(self.interpreter)
        self.ui.installButton.enabled = isIdle and isOwn
        self.ui.installButton.toolTip = "" if isOwn else _("The package runs in another Python program.")
        self.ui.checkButton.enabled = isIdle

    def _show(self):
        self.ui.installationLabel.text = self.summary
        self.ui.modelCardText.setPlainText(cardText(self.installation.model) if self.installation.model else "")
        if not self.isReady and self._check is None:
            self.ui.setupCollapsible.collapsed = False

    def onCheck(self, checked=False):
        """Look again."""
        self.check()
        self.host.refresh()

    def onInstall(self, checked=False):
        """Install or repair: torch by the PyTorch extension, then the package."""
        wheelFolder, proxy = self.ui.wheelFolderEdit.currentPath, self.ui.proxyEdit.text
        try:
            installTorch()
            if not wheelFolder and not proxy and self.installation.state == "missing" and ensureInstalled():
                self.check()
                return
            job = startInstall(self.interpreter, wheelFolder, proxy)
        except ModuleError as error:
            self.host.report(error)
            return
        # A pip that was stopped or failed may have removed the old package: the answer is asked for in any case.
        self.host.startTask(JobTask(job, _("Installing the package"), self._finishInstall, afterwards=self.check))

    def _finishInstall(self, job):
        if job.error is not None:
            raise job.error
        return _("Installed.")

    def onCopyDiagnostics(self, checked=False):
        """Put what helps to find a problem on the clipboard, without anything of the patient."""
        run = self.host.task or self.host.lastTask
        settings = [casesFolder(), *(readSetting(name) for name in ("interpreter", "wheelFolder", "proxy"))]
        names = [*patientTexts(), *pathTexts(settings)]
        qt.QApplication.clipboard().setText(diagnosticsText(self.installation, run, self.host.lastError, names))
        self.ui.statusLabel.text = _(
            "Diagnostics copied. Names, paths, dates and identifiers that were recognised are taken out; read the text "
            "before you send it."
        )
