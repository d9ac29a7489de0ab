"""Stand-ins for the MRML and CTK widgets that the module uses, over the real scene."""

import qt
from PySide6 import QtCore, QtWidgets


class _MRMLWidget(QtWidgets.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)
    _sceneReceivers = ()

    def setMRMLScene(self, scene):
        self.mrmlSceneChanged.emit(scene)
        for receiver in self._sceneReceivers:
            receiver.setMRMLScene(scene)


class _NodeComboBox(QtWidgets.QWidget):
    currentNodeChanged = QtCore.Signal(object)
    _scene = None
    _tags = ()

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = QtWidgets.QComboBox()
        layout.addWidget(self._combo)
        self._nodes = []
        self._combo.currentIndexChanged.connect(lambda index: self.currentNodeChanged.emit(self.currentNode()))

    def setMRMLScene(self, scene):
        if self._scene is not None:
            for tag in self._tags:
                self._scene.RemoveObserver(tag)
        self._scene = scene
        events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent)
        self._tags = [scene.AddObserver(event, lambda caller, event: self._fill()) for event in events]
        self._fill()

    def mrmlScene(self):
        return self._scene

    def _types(self):
        types = self.property("nodeTypes")
        return list(types) if isinstance(types, (list, tuple)) else [types]

    def _fill(self):
        current = self.currentNode()
        hidden = self.property("hideChildNodeTypes") or []
        nodes = [None] if self.property("noneEnabled") else []
        for kind in self._types():
            for index in range(self._scene.GetNumberOfNodesByClass(kind)):
                node = self._scene.GetNthNodeByClass(index, kind)
                if not node.GetHideFromEditors() and not any(node.IsA(name) for name in hidden if name):
                    nodes.append(node)
        self._combo.blockSignals(True)
        self._combo.clear()
        for node in nodes:
            self._combo.addItem(node.GetName() if node else (self.property("noneDisplay") or "None"))
        self._nodes = nodes
        self._combo.setCurrentIndex(nodes.index(current) if current in nodes else 0)
        self._combo.blockSignals(False)
        if self.currentNode() is not current:
            self.currentNodeChanged.emit(self.currentNode())

    def currentNode(self):
        index = self._combo.currentIndex()
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def setCurrentNode(self, node):
        if self._scene is None:
            raise RuntimeError(f"{self.objectName()} has no scene: is its connection in the .ui file?")
        if node not in self._nodes:
            self._fill()
        self._combo.setCurrentIndex(
            self._nodes.index(node) if node in self._nodes else (0 if None in self._nodes else -1)
        )


class _CollapsibleButton(QtWidgets.QGroupBox):
    """As that of CTK, opening shows what closing hid, and nothing that was hidden before."""

    _isCollapsed = False
    _hidden = ()

    def _getText(self):
        return self.title()

    def _getCollapsed(self):
        return self._isCollapsed

    def _setCollapsed(self, value):
        self._isCollapsed = value
        self._apply()

    text = QtCore.Property(str, _getText, lambda self, value: self.setTitle(value))
    collapsed = QtCore.Property(bool, _getCollapsed, _setCollapsed)

    def showEvent(self, event):
        self._apply()
        super().showEvent(event)

    def _apply(self):
        children = self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly)
        if self._isCollapsed:
            self._hidden = (*self._hidden, *(child for child in children if not child.isHidden()))
        for child in self._hidden:
            child.setVisible(not self._isCollapsed)
        self._hidden = self._hidden if self._isCollapsed else ()
        self.setMaximumHeight(24 if self._isCollapsed else 16777215)


class _SliderWidget(QtWidgets.QWidget):
    valueChanged = QtCore.Signal(float)
    _steps = 1000

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal)
        self._slider.setRange(0, self._steps)
        self._box = QtWidgets.QDoubleSpinBox()
        layout.addWidget(self._slider)
        layout.addWidget(self._box)
        self._box.valueChanged.connect(self._onBox)
        self._slider.sliderMoved.connect(self._onSlider)

    def _onBox(self, value):
        span = self._box.maximum() - self._box.minimum() or 1
        self._slider.setValue(round(self._steps * (value - self._box.minimum()) / span))
        self.valueChanged.emit(value)

    def _onSlider(self, step):
        self._box.setValue(self._box.minimum() + step / self._steps * (self._box.maximum() - self._box.minimum()))

    value = QtCore.Property(float, lambda self: self._box.value(), lambda self, value: self._box.setValue(value))
    minimum = QtCore.Property(float, lambda self: self._box.minimum(), lambda self, value: self._box.setMinimum(value))
    maximum = QtCore.Property(float, lambda self: self._box.maximum(), lambda self, value: self._box.setMaximum(value))
    singleStep = QtCore.Property(
        float, lambda self: self._box.singleStep(), lambda self, value: self._box.setSingleStep(value)
    )
    decimals = QtCore.Property(int, lambda self: self._box.decimals(), lambda self, value: self._box.setDecimals(value))


class _PathLineEdit(QtWidgets.QWidget):
    currentPathChanged = QtCore.Signal(str)
    Files, Dirs = 1, 2
    _filters = 0

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._edit = QtWidgets.QLineEdit()
        layout.addWidget(self._edit)
        layout.addWidget(QtWidgets.QToolButton(text="..."))
        self._edit.textChanged.connect(self.currentPathChanged)

    def _setFilters(self, value):
        self._filters = value

    currentPath = QtCore.Property(str, lambda self: self._edit.text(), lambda self, value: self._edit.setText(value))
    filters = QtCore.Property(int, lambda self: self._filters, _setFilters)


def _named(name, base):
    return type(name, (qt.PythonQtStyle, base), {})


CLASSES = {
    "qMRMLWidget": _named("qMRMLWidget", _MRMLWidget),
    "qMRMLNodeComboBox": _named("qMRMLNodeComboBox", _NodeComboBox),
    "ctkCollapsibleButton": _named("ctkCollapsibleButton", _CollapsibleButton),
    "ctkSliderWidget": _named("ctkSliderWidget", _SliderWidget),
    "ctkPathLineEdit": _named("ctkPathLineEdit", _PathLineEdit),
}
