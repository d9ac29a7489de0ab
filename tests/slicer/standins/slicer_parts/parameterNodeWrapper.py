"""Stand-in for ``slicer.parameterNodeWrapper``: nodes, str, bool, int and float, bound both ways to widgets."""

from typing import get_args

import slicer
import vtk


class Choice:
    def __init__(self, choices):
        self.choices = list(choices)


class WithinRange:
    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum


class _Parameter:
    def __init__(self, name, annotation, default):
        self.name = name
        self.type, *self.validators = get_args(annotation) if get_args(annotation) else [annotation]
        self.isNode = isinstance(self.type, type) and issubclass(self.type, slicer.vtkMRMLNode)
        self.default = default

    def __get__(self, instance, owner=None):
        node = instance.parameterNode
        if self.isNode:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if text == "" and self.name not in node.GetParameterNames():
            return self.default
        return text == "True" if self.type is bool else self.type(text)

    def __set__(self, instance, value):
        if self.isNode:
            if value is not None and not isinstance(value, self.type):
                raise TypeError(f"{self.name}: {type(value)}")
            instance.parameterNode.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        for validator in self.validators:
            if isinstance(validator, Choice) and value not in validator.choices:
                raise ValueError(f"{self.name}: {value} is not one of {validator.choices}")
            if isinstance(validator, WithinRange) and not validator.minimum <= value <= validator.maximum:
                raise ValueError(f"{self.name}: {value} is out of range")
        instance.parameterNode.SetParameter(self.name, repr(value) if self.type is float else str(value))


def parameterNodeWrapper(cls):
    names = {}
    for name, annotation in cls.__annotations__.items():
        names[name] = _Parameter(name, annotation, getattr(cls, name, None))
        setattr(cls, name, names[name])

    def construct(self, parameterNode):
        self.parameterNode = parameterNode
        self._bindings = {}

    cls.__init__ = construct
    cls._parameters = names
    for method in (connectGui, disconnectGui, AddObserver, RemoveObserver):
        setattr(cls, method.__name__, method)
    return cls


def AddObserver(self, event, callback, priority=0.0):
    return self.parameterNode.AddObserver(event, callback, priority)


def RemoveObserver(self, tag):
    self.parameterNode.RemoveObserver(tag)


def connectGui(self, gui):
    bindings = []
    for widget in vars(gui).values():
        name = widget.property("SlicerParameterName")
        if not name:
            continue
        if name not in self._parameters:
            raise ValueError(f"{widget.name}: there is no parameter {name}")
        bindings.append(_Binding(self, self._parameters[name], widget))
    tag = self.parameterNode.AddObserver(
        vtk.vtkCommand.ModifiedEvent, lambda caller, event: [binding.toWidget() for binding in bindings]
    )
    self._bindings[tag] = bindings
    return tag


def disconnectGui(self, tag):
    self.parameterNode.RemoveObserver(tag)
    for binding in self._bindings.pop(tag):
        binding.isActive = False


_SIGNALS = {
    "qMRMLNodeComboBox": "currentNodeChanged(vtkMRMLNode*)",
    "QComboBox": "currentIndexChanged(int)",
    "ctkSliderWidget": "valueChanged(double)",
    "QSpinBox": "valueChanged(int)",
    "QCheckBox": "toggled(bool)",
}


class _Binding:
    def __init__(self, wrapper, parameter, widget):
        self.wrapper, self.parameter, self.widget, self.isActive = wrapper, parameter, widget, True
        self.kind = type(widget).__name__
        for validator in parameter.validators:
            if isinstance(validator, Choice):
                widget.blockSignals(True)
                widget.clear()
                widget.addItems(validator.choices)
                widget.blockSignals(False)
            elif isinstance(validator, WithinRange):
                widget.minimum, widget.maximum = validator.minimum, validator.maximum
        self.toWidget()
        widget.connect(_SIGNALS[self.kind], self.toParameter)

    def toWidget(self):
        value = getattr(self.wrapper, self.parameter.name)
        if not self.isActive or value == self.read():
            return
        if self.parameter.isNode:
            self.widget.setCurrentNode(value)
        elif self.kind == "QComboBox":
            self.widget.currentText = value
        elif self.kind == "QCheckBox":
            self.widget.checked = value
        else:
            self.widget.value = value

    def toParameter(self, *_):
        if self.isActive and self.read() != getattr(self.wrapper, self.parameter.name):
            setattr(self.wrapper, self.parameter.name, self.read())

    def read(self):
        if self.parameter.isNode:
            return self.widget.currentNode()
        if self.kind == "QComboBox":
            return self.widget.currentText
        return self.widget.checked if self.kind == "QCheckBox" else self.widget.value
