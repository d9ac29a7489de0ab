"""Stand-in for Slicer's ``qt`` (PythonQt) over PySide6: properties are attributes, signals connect by their text.

PySide's own names (`Signal`, `Slot`, `Property`) are not offered: a module that used them would fail in Slicer.
"""

import ctypes
import xml.etree.ElementTree as ElementTree
from typing import ClassVar

from PySide6 import QtCore as _core
from PySide6 import QtUiTools as _tools
from PySide6 import QtWidgets as _widgets

# PySide6 6.12 drops a reference of None with each call that gives nothing, and before Python 3.12 Python ends when none
# is left. A list that is never freed holds enough of them.
ctypes.pythonapi.Py_IncRef(ctypes.py_object([None] * 1_000_000))

_PROPERTIES = frozenset(
    [
        "enabled",
        "visible",
        "text",
        "toolTip",
        "value",
        "checked",
        "currentText",
        "currentIndex",
        "collapsed",
        "currentPath",
        "filters",
        "minimum",
        "maximum",
        "placeholderText",
        "plainText",
        "count",
        "title",
        "readOnly",
    ]
)


class PythonQtStyle:
    """Attribute access as in PythonQt."""

    def __getattribute__(self, key):
        if key in _PROPERTIES:
            return _core.QObject.property(self, key)
        if key == "name":
            return _core.QObject.objectName(self)
        if key == "connect":  # PySide would give its own static function
            return lambda signal, slot: _connect(self, signal, slot)
        return super().__getattribute__(key)

    def __setattr__(self, key, value):
        if key in _PROPERTIES:
            _core.QObject.setProperty(self, key, value)
        elif key == "name":
            self.setObjectName(value)
        elif hasattr(type(self), key) or key.startswith("_") or isinstance(value, _core.QObject):
            super().__setattr__(key, value)  # PySide's loader names the children of the window this way
        else:
            raise AttributeError(f"{type(self).__name__} has no property {key}")


def _connect(sender, signal, slot):
    """Connect a signal given by its signature; an unknown one raises."""
    bound = getattr(sender, signal.split("(")[0], None)
    if bound is None or not hasattr(bound, "emit"):
        raise AttributeError(f"{type(sender).__name__} has no signal {signal}")
    bound.connect(slot)
    return True


def styled(base):
    """Give a class that behaves as in PythonQt."""
    return type(base.__name__, (PythonQtStyle, base), {})


WIDGETS = {
    name: styled(getattr(_widgets, name))
    for name in [
        "QWidget",
        "QLabel",
        "QPushButton",
        "QComboBox",
        "QCheckBox",
        "QSpinBox",
        "QDoubleSpinBox",
        "QProgressBar",
        "QTableWidget",
        "QLineEdit",
        "QPlainTextEdit",
        "QFrame",
        "QGroupBox",
    ]
}
globals().update(WIDGETS)
QTimer = styled(_core.QTimer)
QFile = _core.QFile
QTableWidgetItem = _widgets.QTableWidgetItem
QApplication = _widgets.QApplication
QVBoxLayout = _widgets.QVBoxLayout
QMessageBox = _widgets.QMessageBox


class QSettings:
    """Settings of the test, in memory."""

    values: ClassVar = {}

    def value(self, key, default=None):
        return self.values.get(key, default)

    def setValue(self, key, value):
        self.values[key] = value


class QFileDialog:
    """Gives the answers that a test has put down."""

    answers: ClassVar = []

    @classmethod
    def getSaveFileName(cls, *_):
        return cls.answers.pop(0)

    @classmethod
    def getExistingDirectory(cls, *_):
        return cls.answers.pop(0)


class QUiLoader:
    """Loads a ``.ui`` file; the scene is passed on only along connections that the file really holds."""

    def load(self, file):
        import standin_widgets

        file.close()
        tree = ElementTree.parse(file.fileName())
        connections = tree.getroot().find("connections")
        scenes = [] if connections is None else [_connection(one) for one in connections]
        if connections is not None:
            tree.getroot().remove(connections)
        data = _core.QByteArray(ElementTree.tostring(tree.getroot()))
        buffer = _core.QBuffer(data)
        loader = _Loader(standin_widgets.CLASSES)
        widget = loader.load(buffer)
        if loader.unknown:
            raise RuntimeError(f"unknown widget classes: {sorted(loader.unknown)}")
        widget._sceneReceivers = [
            _child(widget, receiver)
            for sender, signal, receiver, slot in scenes
            if sender == widget.name and signal.startswith("mrmlSceneChanged") and slot.startswith("setMRMLScene")
        ]
        return widget


def _connection(element):
    return tuple(element.find(tag).text for tag in ("sender", "signal", "receiver", "slot"))


def _child(widget, name):
    found = widget.findChild(_widgets.QWidget, name)
    if found is None:
        raise RuntimeError(f"connection to {name}, which is not in the file")
    return found


class _Loader(_tools.QUiLoader):
    def __init__(self, classes):
        super().__init__()
        self.classes = {**WIDGETS, **classes}
        self.unknown = set()
        self.kept = []

    def createWidget(self, className, parent=None, name=""):
        if className not in self.classes:
            self.unknown.add(className)
            return super().createWidget("QWidget", parent, name)
        widget = self.classes[className](parent)
        widget.setObjectName(name)
        self.kept.append(widget)
        return widget
