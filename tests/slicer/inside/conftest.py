"""A scene of real MRML nodes, the stand-ins for Qt, volumes of every orientation, and a fake package."""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
HERE = Path(__file__).resolve().parent
STANDINS = HERE.parent / "standins"
MODULE = Path(os.environ.get("LIGHTUNET_SLICER_MODULE", HERE.parents[2] / "slicer_extension" / "LightUNetSegmentation"))
sys.path[:0] = [str(STANDINS), str(MODULE), str(HERE)]

import qt
import slicer
import slicer.util
import vtk
from PySide6 import QtWidgets

slicer.__path__.append(str(STANDINS / "slicer_parts"))


@pytest.fixture(autouse=True)
def no_hidden_errors(monkeypatch):
    """Exceptions in slots and observers are only printed; here they fail the test."""
    caught = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, value, trace: caught.append(value))
    yield caught
    assert not caught, caught


@pytest.fixture(autouse=True)
def scene(tmp_path, monkeypatch):
    """An empty scene with the logics of Slicer."""
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    logics = {}
    kinds = {"segmentations": slicer.vtkSlicerSegmentationsModuleLogic, "sequences": slicer.vtkSlicerSequencesLogic}
    kinds["volumes"] = slicer.vtkSlicerVolumesLogic
    for name, kind in kinds.items():
        logics[name] = kind()
        logics[name].SetMRMLApplicationLogic(application)
        logics[name].SetMRMLScene(scene)
    cache, reader = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(str(tmp_path))
    reader.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(reader)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(
        slicer,
        "modules",
        SimpleNamespace(**{name: SimpleNamespace(logic=lambda one=one: one) for name, one in logics.items()}),
        raising=False,
    )
    app = SimpleNamespace(temporaryPath=str(temporary), applicationVersion="5.12.4", applicationName="Slicer")
    monkeypatch.setattr(slicer, "app", app, raising=False)
    yield scene
    scene.Clear(1)


@pytest.fixture
def temporary():
    """Files that are in the folder for temporary files."""
    return lambda: sorted(os.listdir(slicer.app.temporaryPath))


ORIENTATIONS = {
    "axial": np.diag([-0.8, -0.8, 2.0]),
    "sagittal": np.array([[0, 0, 1.5], [0.7, 0, 0], [0, -0.7, 0]]),
    "oblique": np.linalg.qr(np.array([[1.0, 0.2, -0.3], [-0.3, 1.0, 0.1], [0.25, -0.2, 1.0]]))[0]
    @ np.diag([0.8, 0.9, 1.7]),
    "left-handed": np.diag([-0.8, -0.8, -2.0]),
}
SHAPE = (28, 26, 14)
BALL_IJK, RADIUS_MM = (17.0, 9.0, 6.0), 6.0


@pytest.fixture
def make_volume(scene):
    """Makes a CT volume with a ball of 60 HU in fat, and says where the ball is in the world."""

    def make(orientation="axial", name="CT", origin=(12.0, -30.0, 50.0), hu=60):
        directions = ORIENTATIONS[orientation] if isinstance(orientation, str) else orientation
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = directions, origin
        ijk = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), axis=-1)
        centre = directions @ BALL_IJK + origin
        ball = np.linalg.norm(ijk @ directions.T + origin - centre, axis=-1) <= RADIUS_MM
        noise = np.random.default_rng(7).integers(-5, 6, SHAPE)
        array = (np.where(ball, hu, -90) + noise).astype(np.int16)
        volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        vtkMatrix = vtk.vtkMatrix4x4()
        vtkMatrix.DeepCopy(matrix.ravel().tolist())
        volume.SetIJKToRASMatrix(vtkMatrix)
        slicer.util.updateVolumeFromArray(volume, array.transpose(2, 1, 0).copy())
        volume.CreateDefaultDisplayNodes()
        return SimpleNamespace(node=volume, ball=ball, matrix=matrix, centre=centre, array=array)

    return make


@pytest.fixture
def make_interpreter(tmp_path):
    """Makes a program that behaves like a Python with the package, in one of the modes of the fake."""

    def make(mode="ok"):
        path = tmp_path / f"python-{mode}"
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "fake_package.py"}" {mode} "$@"\n')
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def real_interpreter():
    """A Python that has the package; the test is skipped without it."""
    path = os.environ.get("LIGHTUNET_CHILD_PYTHON", "")
    if not path:
        pytest.skip("LIGHTUNET_CHILD_PYTHON names no Python with the package")
    return path


def world_points(mask_kji, volume):
    """World positions, sorted, of the true voxels of an array (K, J, I) on the grid of a volume node."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    affine = slicer.util.arrayFromVTKMatrix(matrix)
    index = np.argwhere(mask_kji)[:, ::-1]
    points = np.round(index @ affine[:3, :3].T + affine[:3, 3], 3) + 0.0
    return points[np.lexsort(points.T)]


# The window


@pytest.fixture(scope="session")
def application():
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication([])


@pytest.fixture
def dialogs(monkeypatch):
    """What the user was shown, and what the user answers."""
    told = SimpleNamespace(errors=[], details=[], questions=[], answer=True)

    def error(text, **options):
        told.errors.append(text)
        told.details.append(options.get("detailedText", ""))

    def ask(text, **_):
        told.questions.append(text)
        return told.answer

    monkeypatch.setattr(slicer.util, "errorDisplay", error)
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", ask)
    return told


@pytest.fixture
def open_module(application, dialogs, scene, make_interpreter, tmp_path, monkeypatch):
    """Opens the module as Slicer does, with a Python of a given mode; closes it in the end."""
    import slicer.ScriptedLoadableModule as base

    base.FOLDER = str(MODULE)
    opened = []

    def open_(mode="ok", cases=None):
        monkeypatch.setattr(qt.QSettings, "values", {})
        settings = qt.QSettings()
        settings.setValue("LightUNetSegmentation/interpreter", make_interpreter(mode))
        settings.setValue("LightUNetSegmentation/casesFolder", str(cases or tmp_path / "cases"))
        import LightUNetSegmentation as module

        registered = SimpleNamespace()
        module.LightUNetSegmentation(registered)
        assert registered.title
        widget = module.LightUNetSegmentationWidget()
        opened.append(widget)
        widget.setup()
        widget.enter()
        wait(lambda: widget.setupPanel.installation.state != "checking")
        return widget

    yield open_
    for widget in opened:
        widget.cleanup()
        widget.parent.deleteLater()
    QtWidgets.QApplication.processEvents()


def wait(condition, seconds=30):
    """Let the window work until the condition holds."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        QtWidgets.QApplication.processEvents()
        time.sleep(0.005)
    assert condition()


def idle(widget):
    """Wait until no task runs."""
    wait(lambda: widget.task is None)


def segment(widget):
    """Press the button, wait, and give the segmentation that is shown."""
    widget.ui.segmentButton.click()
    idle(widget)
    return widget.findingsPanel.segmentation


def cut(segmentation, volume):
    """Edit the lesion as an eraser would: half of the slices."""
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "tumor", volume)
    array[: array.shape[0] // 2] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, "tumor", volume)


@pytest.fixture
def through_file(scene, tmp_path):
    """Writes a segmentation to a .seg.nrrd file and reads it into a new node, as a saved scene does."""

    def write_and_read(segmentation):
        out, back = (slicer.vtkMRMLSegmentationStorageNode() for _ in range(2))
        for storage in (out, back):
            storage.SetFileName(str(tmp_path / "result.seg.nrrd"))
        assert out.WriteData(segmentation)
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "again")
        assert back.ReadData(node)
        return node

    return write_and_read
