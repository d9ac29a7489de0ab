"""Draws the module's window on the stand-ins for Qt, for the guide: ``docs/images/slicer_panel_*.png``.

    .venv-slicer/bin/python scripts/draw_slicer_panel.py PYTHON VOLUME [FOLDER]

PYTHON has the package and VOLUME is a CT volume, NIfTI or NRRD. The widgets are PySide6, so the look differs from that
of Slicer; texts, order and states are those of the module.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[1]
STANDINS = ROOT / "tests" / "slicer" / "standins"
MODULE = ROOT / "slicer_extension" / "LightUNetSegmentation"
WIDTH = 560


def main() -> int:
    """Open the module, segment, and draw each state."""
    parser = argparse.ArgumentParser(description="Draw the states of the Slicer module's panel.")
    parser.add_argument("interpreter", help="Python in which the package is installed")
    parser.add_argument("volume", help="what is segmented")
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs" / "images", help="for the pictures")
    arguments = parser.parse_args()
    interpreter, path, folder = arguments.interpreter, arguments.volume, arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    sys.path[:0] = [str(STANDINS), str(MODULE)]
    import slicer
    import slicer.util
    from PySide6 import QtWidgets

    slicer.__path__.append(str(STANDINS / "slicer_parts"))
    application = QtWidgets.QApplication([])
    application.setStyle("Fusion")
    prepare_slicer(slicer, tempfile.gettempdir())

    import qt
    import slicer.ScriptedLoadableModule as base

    base.FOLDER = str(MODULE)
    load_volume(slicer, path)
    qt.QSettings().setValue("LightUNetSegmentation/interpreter", interpreter)
    qt.QSettings().setValue("LightUNetSegmentation/casesFolder", "Documents/LightUNetSegmentation")
    spec = importlib.util.spec_from_file_location("LightUNetSegmentation", MODULE / "LightUNetSegmentation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    widget = module.LightUNetSegmentationWidget()
    widget.setup()
    widget.enter()

    def wait(condition, seconds=300):
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            application.processEvents()
            time.sleep(0.01)

    wait(lambda: widget.setupPanel.installation.state != "checking")
    widget.ui.interpreterEdit.blockSignals(True)
    widget.ui.interpreterEdit.currentPath = ""  # a path of this machine does not belong into a picture
    widget.ui.casesFolderEdit.blockSignals(True)
    widget.parent.resize(WIDTH, 900)
    widget.parent.show()
    widget.setupPanel.__class__.interpreter = property(lambda self: interpreter)
    widget.ui.segmentButton.click()
    wait(lambda: widget.task is None or (widget.task.fraction > 0.3 and "left" in widget.task.status), 120)
    draw(widget, application, folder / "slicer_panel_running.png")
    wait(lambda: widget.task is None)
    draw(widget, application, folder / "slicer_panel_findings.png")
    widget.ui.inputsCollapsible.collapsed = True
    widget.ui.findingsCollapsible.collapsed = True
    widget.ui.learningCollapsible.collapsed = False
    widget.ui.setupCollapsible.collapsed = False
    draw(widget, application, folder / "slicer_panel_setup.png")
    widget.cleanup()
    return 0


def prepare_slicer(slicer, temporary: str) -> None:
    """Make the scene and the logics that Slicer has when a module opens."""
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    slicer.mrmlScene = scene
    segmentations = slicer.vtkSlicerSegmentationsModuleLogic()
    segmentations.SetMRMLApplicationLogic(logic)
    segmentations.SetMRMLScene(scene)
    slicer.modules = SimpleNamespace(segmentations=SimpleNamespace(logic=lambda: segmentations))
    slicer.app = SimpleNamespace(temporaryPath=temporary, applicationVersion="", applicationName="Slicer")
    slicer.util.errorDisplay = lambda text, **_: print(text)


def load_volume(slicer, path: str) -> None:
    """Load the volume into the scene."""
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Breast CT")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(path)
    if not storage.ReadData(volume):
        raise SystemExit(f"{path} cannot be read")


def draw(widget, application, path: Path) -> None:
    """Write the window as PNG."""
    for _ in range(5):
        application.processEvents()
    widget.parent.resize(WIDTH, widget.parent.sizeHint().height())
    application.processEvents()
    widget.parent.grab().save(str(path))
    print(path.name)


if __name__ == "__main__":
    sys.exit(main())
