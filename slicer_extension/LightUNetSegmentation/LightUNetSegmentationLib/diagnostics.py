"""What to send with a report of a problem: versions, options, last lines; nothing of the patient."""

from __future__ import annotations

import os
import platform
import re
import tempfile

import slicer
import vtk

_UID = re.compile(r"\b\d+(?:\.\d+){4,}\b")
_APOSTROPHE = r"(?<=\w)'(?=\w)"
_MORE_OF_THE_PATH = rf"""(?=
    (?:[^'"\n:]|{_APOSTROPHE})*[\\/]                         # a separator follows
    | (?:[^\s'":]+[ ]){{0,3}}[^\s'":]*\.(?:nrrd|nii|gz|dcm|ima|mha|mhd|mrb|mrml|json|csv|txt|pt|zip|whl)\b
    | [^\s'",;:]*\.\w                                       # the next word has an ending
    | \S[^'"\n:]*[ ](?:cannot[ ]be|is[ ]damaged|is[ ]not[ ]a)\b  # as in messages of this module
)"""
_PATH = re.compile(
    rf"""
    (?<=['"])(?:[A-Za-z]:[\\/]|[\\/])(?:[^'"\n]|{_APOSTROPHE})*(?=['"])    # to the closing quote
    | (?:[A-Za-z]:[\\/]|\\\\|(?<![\w.])/)(?:[^\s'",;:]|{_APOSTROPHE}|[ \t,;]{_MORE_OF_THE_PATH})*
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Blanks and commas belong to a path as long as more of it follows: rather too much is taken out than a name left."""
_COMMON_PART = re.compile(
    r"\w:|\.?v?envs?|bin|cases|data|desktop|documents|downloads|home|https?:|lib|lightunet(?:_monai|segmentation)?|local|"
    r"media|mnt|models|opt|private|program files|python(?:slicer|[\d.]*)(?:\.exe)?|root|scripts|slicer|srv|te?mp|"
    r"users?|usr|var|volumes|wheels",
    re.IGNORECASE,
)
"""Parts of a path that identify nobody; they stay, or the text could not be read."""
_DATE = re.compile(r"\b(?:19|20)\d{2}[-/.]?[01]\d[-/.]?[0-3]\d\b")
_DICOM_NAME = re.compile(r"\b\w+\^\w[\w^]*")


def describeSystem():
    """Give the lines that describe Slicer and the system."""
    application = getattr(slicer, "app", None)
    version = getattr(application, "applicationVersion", "") or "without the application"
    return [
        f"Slicer: {version}",
        f"System: {platform.system()} {platform.release()}, {platform.machine()}",
        f"Python: {platform.python_version()}",
        f"Processors: {os.cpu_count()}",
    ]


def diagnosticsText(installation=None, run=None, error=None, names=()):
    """Give the text of *Copy diagnostics*.

    Parameters
    ----------
    installation : Installation or None
        As `checkInstallation` gives it.
    run : SegmentRun, FineTuning or None
        Its log is included.
    error : ModuleError or None
        What the user was told.
    names : sequence of str
        Texts that may be a patient's, such as the names of nodes; they are taken out wherever they occur.
    """
    lines = describeSystem()
    if installation is not None:
        lines += [f"Package: {installation.summary}"]
    parameters = getattr(run, "parameters", None)
    if parameters is not None:
        lines.append(f"Options: {parameters}")
    if error is not None:
        lines += ["", f"Error: {error.message}", f"Hint: {error.hint}", *error.log]
    if run is not None and run.log:
        lines += ["", "Log:", *run.log]
    return "\n".join(redact(line, names) for line in lines)


def redact(text, names=()):
    """Replace names, paths, UIDs, dates and DICOM person names."""
    for name in sorted({name for name in names if len(name) > 2}, key=len, reverse=True):
        text = re.sub(re.escape(name), "<name>", text, flags=re.IGNORECASE)
    for folder in (tempfile.gettempdir(), os.path.expanduser("~")):
        if len(folder) > 1:
            text = text.replace(folder, "<folder>")
    text = _PATH.sub(lambda found: _keepModule(found.group()), text)
    text = _UID.sub("<uid>", text)
    text = _DICOM_NAME.sub("<name>", text)
    return _DATE.sub("<date>", text)


def pathTexts(paths):
    """Give the paths and their parts but common ones: texts that may identify a person, for `redact`.

    Parameters
    ----------
    paths : sequence of str
        Folders and programs that the user has set, and addresses; empty ones are left out.
    """
    parts = {part for path in paths for part in re.split(r"[\\/]", path)}
    return [text for text in sorted({*paths, *parts}) if text and not _COMMON_PART.fullmatch(text)]


def patientTexts():
    """Give the names of all nodes and patients of the scene: texts that may identify a person."""
    names = []
    for node in slicer.util.getNodesByClass("vtkMRMLStorableNode"):
        names.append(node.GetName() or "")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is not None:
        items = vtk.vtkIdList()
        hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
        names += [hierarchy.GetItemName(items.GetId(index)) for index in range(items.GetNumberOfIds())]
    generic = {"tumor", "volume", "segmentation", "table", "fine-tuning"}
    return [name for name in names if name and name.lower() not in generic]


def _keepModule(path):
    """The last part of a path of a program file says where it failed; any other path may name a patient."""
    last = re.split(r"[\\/]", path)[-1]
    return f"<path>/{last}" if last.endswith(".py") else "<path>"
