"""Stand-in for ``slicer.ScriptedLoadableModule``, from its documentation."""

import os

import qt
import slicer

FOLDER = None
"""Folder of the module under test; set by the tests."""


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None):
        self.parent = parent if parent is not None else qt.QWidget()
        if self.parent.layout() is None:
            qt.QVBoxLayout(self.parent)
        self.layout = self.parent.layout()
        self.moduleName = type(self).__name__.removesuffix("Widget")

    def setup(self):
        pass

    def resourcePath(self, filename):
        return os.path.join(FOLDER, "Resources", filename)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetAttribute("ModuleName", self.moduleName)
            node.SetName(self.moduleName)
            node = scene.AddNode(node)
        return node


class ScriptedLoadableModuleTest:
    pass
