"""Brings the package into Slicer's Python: online, behind a proxy, or from a folder of wheels; torch never by pip.

Torch comes from Slicer's PyTorch extension, which knows the graphics card. Here pip is bound to the torch, NumPy and
SimpleITK that are there, so that nothing of Slicer's own is replaced.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass

from .errors import ModuleError, cannotWrite
from .interpreter import childEnvironment, chooseInterpreter, isOwnInterpreter
from .job import Job, runBriefly
from .parameters import inspectArguments
from .temporary import makeTemporaryFolder

READY, MISSING, BROKEN = "ready", "missing", "broken"
INSPECT_SECONDS = 120
TORCH_REQUIREMENT = ">=2.8,!=2.9.*"
"""As the package has it."""
OWN_HINT = "Press Install or repair."
OTHER_HINT = "Install it there: python -m pip install lightunet_monai"
TORCH_HINT = "Press Install or repair again, or see the module PyTorch Utils."
KEPT = ("torch", "torchvision", "numpy", "SimpleITK", "requests")
"""Distributions that pip must leave as they are."""
INSTALL_ERRORS = (subprocess.CalledProcessError, RuntimeError, OSError, ValueError, ImportError)
"""What Slicer's own installers raise: pip failed or was declined, no disk or network, no build for this computer, or
what was installed cannot be imported."""


@dataclass(frozen=True)
class Installation:
    """What is installed for one Python.

    Parameters
    ----------
    state : str
        ``"ready"``, ``"missing"`` or ``"broken"``.
    summary : str
        One line for people.
    hint : str
        What to do.
    model : dict
        As ``inspect`` describes it: name, version, labels, intended use, path.
    """

    state: str
    summary: str
    hint: str = ""
    model: dict = None

    @property
    def isReady(self):
        """True if volumes can be segmented."""
        return self.state == READY


def requirementsPath():
    """Give the path of ``requirements.txt``."""
    return os.path.join(os.path.dirname(os.path.dirname(__file__)), "Resources", "requirements.txt")


def readRequirements():
    """Give the requirements, a list of str."""
    with open(requirementsPath(), encoding="utf-8") as stream:
        lines = [line.split("#")[0].strip() for line in stream]
    return [line for line in lines if line]


def checkInstallation(interpreter="", model="", timeoutSeconds=INSPECT_SECONDS):
    """Ask the package itself whether it can run; no exception leaves this function.

    Returns
    -------
    Installation
    """
    command = [chooseInterpreter(interpreter), *inspectArguments(model)]
    try:
        code, output, log = runBriefly(command, timeoutSeconds, childEnvironment(interpreter))
    except ModuleError as error:
        return Installation(BROKEN, error.message, error.hint)
    return describeInstallation(code, output, log, interpreter)


def describeInstallation(code, output, log, interpreter=""):
    """Turn the answer of ``inspect --json`` in this Python into an `Installation`."""
    hint = OWN_HINT if isOwnInterpreter(interpreter) else OTHER_HINT
    if any("No module named lightunet_monai" in line for line in log):
        return Installation(MISSING, "The package is not installed.", hint)
    model = _describedModel(output)
    if model is None:
        last = log[-1] if log else f"exit code {code}"
        return Installation(BROKEN, f"The package does not run: {last}", hint)
    if "error" in model:
        return Installation(BROKEN, model["error"]["message"], model["error"]["hint"])
    return Installation(READY, f"Model {model['name']} {model['version']}", model=model)


def _describedModel(output):
    """The part ``model`` of the JSON document between lines of other programs, or None."""
    for brace in re.finditer("{", output):
        try:
            document = json.JSONDecoder().raw_decode(output, brace.start())[0]
        except ValueError:
            continue
        if isinstance(document.get("model"), dict):
            return document["model"]
    return None


def installTorch(logic=None, version=None):
    """Install torch through Slicer's PyTorch extension, if it is not there.

    Parameters
    ----------
    logic : object or None
        ``PyTorchUtilsLogic``; None takes that of the extension.
    version : str or None
        Of the torch that is there; None looks.

    Raises
    ------
    ModuleError
        If the extension is missing, the user declined, the installation failed, or another torch is there than the
        package needs: other extensions may use it, so it is not replaced from here.
    """
    if logic is None:
        try:
            import PyTorchUtils
        except ImportError as error:
            raise ModuleError(
                "Slicer's PyTorch extension is not installed.",
                "Install the extension PyTorch in the Extensions Manager and restart Slicer, or choose another Python "
                "program in Setup.",
            ) from error
        logic = PyTorchUtils.PyTorchUtilsLogic()
    try:
        if logic.torchInstalled():
            version = version or installedVersions(["torch"]).get("torch")
        elif logic.installTorch(askConfirmation=True, torchVersionRequirement=TORCH_REQUIREMENT) is None:
            raise ModuleError("PyTorch was not installed.", TORCH_HINT)
        else:
            return
    except INSTALL_ERRORS as error:
        raise ModuleError(f"PyTorch was not installed: {str(error).rstrip('.')}.", TORCH_HINT) from error
    if version and not meetsRequirement(version):
        raise ModuleError(
            f"PyTorch {version} is installed, the package needs {TORCH_REQUIREMENT}.",
            "Uninstall PyTorch in the module PyTorch Utils, restart Slicer, and press Install or repair.",
        )


def meetsRequirement(version, requirement=TORCH_REQUIREMENT):
    """Tell whether a version meets clauses of the forms ``>=2.8`` and ``!=2.9.*``.

    The numbers count; what follows them, as in ``2.8.0+cu128``, does not.
    """
    numbers = _numbers(version)
    for clause in requirement.split(","):
        sign, bound = clause[:2], _numbers(clause[2:])
        isExcluded = numbers < bound if sign == ">=" else numbers[: len(bound)] == bound
        if isExcluded:
            return False
    return True


def _numbers(version):
    return [int(number) for number in re.match(r"[\d.]*", version).group().split(".") if number]


def installedVersions(names=KEPT):
    """Give the versions of those of these distributions that are installed, a dict."""
    from importlib import metadata

    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def pipArguments(wheelFolder="", proxy="", constraints="", upgrade=False):
    """Give the arguments of pip after ``-m pip``.

    Parameters
    ----------
    wheelFolder : str
        Folder of wheels; no network is used then. Empty for the package index.
    proxy : str
        ``http://host:port``.
    constraints : str
        File that binds what is installed already.
    upgrade : bool
        Replace a package that is there: repair.
    """
    arguments = ["install", "--disable-pip-version-check", "--no-input", "--prefer-binary"]
    if wheelFolder:
        arguments += ["--no-index", "--find-links", wheelFolder]
    if proxy:
        arguments += ["--proxy", proxy]
    if constraints:
        arguments += ["--constraint", constraints]
    if upgrade:
        arguments += ["--upgrade", "--upgrade-strategy", "only-if-needed"]
    return [*arguments, "--requirement", requirementsPath()]


def startInstall(interpreter="", wheelFolder="", proxy="", upgrade=True, versions=None):
    """Start pip as a job, which can be watched and cancelled; for repair, a folder of wheels and a proxy.

    Raises
    ------
    ModuleError
        If the package runs in another Python than Slicer's: that one is not changed from here; or if there is no room
        for temporary files.
    """
    if not isOwnInterpreter(interpreter):
        raise ModuleError(
            "The package runs in another Python program, which is not changed from here.", OTHER_HINT
        )
    if wheelFolder and not os.path.isdir(wheelFolder):
        raise ModuleError(f"{wheelFolder} is not a folder.", "Choose the folder that holds the wheels.")
    folder = makeTemporaryFolder()
    constraints = os.path.join(folder, "constraints.txt")
    command = [chooseInterpreter(interpreter), "-m", "pip", *pipArguments(wheelFolder, proxy, constraints, upgrade)]
    job = Job(command, folder, childEnvironment(interpreter))
    try:
        with open(constraints, "w", encoding="utf-8") as stream:
            for name, version in (installedVersions() if versions is None else versions).items():
                stream.write(f"{name}=={version}\n")
    except OSError as error:
        job.close()
        raise cannotWrite(constraints, error) from error
    return job.start()


def ensureInstalled(packaging=None):
    """Install by Slicer's own ``pip_ensure`` where it is there (Slicer 5.12 and later).

    Parameters
    ----------
    packaging : module or None
        ``slicer.packaging``; None takes that of Slicer.

    Returns
    -------
    bool
        False where Slicer has no ``pip_ensure``: then `startInstall` does it.

    Raises
    ------
    ModuleError
        If the user declined, or pip failed.
    """
    packaging = packaging if packaging is not None else _slicerPackaging()
    if packaging is None:
        return False
    try:
        packaging.pip_ensure(readRequirements(), skip_packages=list(KEPT), requester="LightUNet Segmentation")
    except INSTALL_ERRORS as error:
        raise ModuleError(
            f"The package was not installed: {str(error).rstrip('.')}.",
            "Press Install or repair again, or choose a wheel folder.",
        ) from error
    return True


def _slicerPackaging():
    try:
        import slicer.packaging as packaging
    except ImportError:
        return None
    return packaging if hasattr(packaging, "pip_ensure") else None
