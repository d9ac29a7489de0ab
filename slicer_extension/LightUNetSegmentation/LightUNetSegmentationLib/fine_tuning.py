"""Fine-tuning in the background, with its curves as a plot of the scene."""

from __future__ import annotations

import math
import os
import time

import slicer
import vtk

from .errors import ModuleError
from .interpreter import childEnvironment, chooseInterpreter
from .job import DONE, FAILED, Job
from .progress import describe, overallFraction
from .training_cases import DATALIST, canTrain

COLUMNS = ("epoch", "loss", "validation Dice")
COLORS = ((0.85, 0.33, 0.10), (0.00, 0.45, 0.74))


class FineTuning:
    """One training of the model on the saved cases; polled like a `Job`.

    Parameters
    ----------
    parameters : TrainParameters
        What the user chose.
    interpreter : str
        Program that runs the package; empty for Slicer's own Python.
    curves : TrainingCurves or None
        Drawn while the training goes on.
    """

    def __init__(self, parameters, *, interpreter="", curves=None):
        self.parameters = parameters
        self.curves = curves
        self.interpreter = interpreter
        self.fraction, self.status = 0.0, "Starting the training"
        self.bestDice = None
        self.warnings = []
        self.segmentation = None
        self.job = None

    def start(self):
        """Start the child.

        Raises
        ------
        ModuleError
            If there are too few cases.
        """
        if not canTrain(os.path.dirname(self.parameters.datalist)):
            raise ModuleError("At least two training cases are needed.", "Save another corrected segmentation.")
        command = [chooseInterpreter(self.interpreter), *self.parameters.toArguments()]
        self.job = Job(command, None, childEnvironment(self.interpreter)).start()
        return self

    @property
    def isRunning(self):
        """True until the training is done, failed or cancelled."""
        return self.job is not None and self.job.isRunning

    @property
    def state(self):
        """As that of the job."""
        return self.job.state

    @property
    def error(self):
        """Why it failed, or None."""
        return self.job.error

    @property
    def log(self):
        """Last lines of the child."""
        return list(self.job.log) if self.job else []

    @property
    def modelFolder(self):
        """Bundle of the new model once the training is done, else ``""``."""
        return self.job.result.get("bundle", "") if self.job and self.job.state == DONE else ""

    def poll(self):
        """Take in progress and draw it."""
        for event in self.job.poll():
            self.fraction = overallFraction(event)
            if event.get("epoch") is None:
                continue
            self.status = describe(event)
            if event.get("best_dice") is not None:
                self.bestDice = event["best_dice"]
            elif event.get("val_dice") is not None:  # an older package, which does not tell the best
                self.bestDice = max(event["val_dice"], self.bestDice or 0.0)
            if self.curves is not None:
                self.curves.add(event["epoch"], event.get("loss"), event.get("val_dice"))
        if self.job.state == DONE:
            self.fraction, self.status = 1.0, "Trained"
        elif self.job.state == FAILED:
            self.status = self.job.error.message

    def cancel(self):
        """Stop; the same output folder goes on with it later."""
        if self.job is not None:
            self.job.close()
            self.status = "Training stopped"


class TrainingCurves:
    """Loss and validation Dice over the epochs: a table, two series and a chart of the scene."""

    def __init__(self, scene=None):
        scene = scene or slicer.mrmlScene
        self.table = scene.AddNewNodeByClass("vtkMRMLTableNode", "Fine-tuning")
        self.table.SetSaveWithScene(False)
        self.table.SetLocked(True)
        for name in COLUMNS:
            column = vtk.vtkDoubleArray()
            column.SetName(name)
            self.table.AddColumn(column)
        self.chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", "Fine-tuning")
        self.chart.SetSaveWithScene(False)
        self.chart.SetTitle("Fine-tuning")
        self.chart.SetXAxisTitle(COLUMNS[0])
        for name, color in zip(COLUMNS[1:], COLORS):
            series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", name)
            series.SetSaveWithScene(False)
            series.SetAndObserveTableNodeID(self.table.GetID())
            series.SetXColumnName(COLUMNS[0])
            series.SetYColumnName(name)
            series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
            series.SetColor(*color)
            self.chart.AddAndObservePlotSeriesNodeID(series.GetID())

    def add(self, epoch, loss, valDice):
        """Add the point of one epoch; a value that is not there is not a number, which VTK does not draw."""
        row = self.table.AddEmptyRow()
        for column, value in enumerate((epoch, loss, valDice)):
            self.table.GetTable().GetColumn(column).SetValue(row, math.nan if value is None else float(value))
        self.table.GetTable().Modified()
        self.table.Modified()

    @property
    def isInScene(self):
        """False once the scene was closed, which leaves the points but no plot."""
        return self.table.GetScene() is not None and self.chart.GetScene() is not None

    def drawnAgain(self):
        """Give the same curves in the present scene."""
        curves = TrainingCurves()
        for point in self.rows():
            curves.add(*point)
        return curves

    def rows(self):
        """Give the points, a list of tuples (epoch, loss, Dice)."""
        table = self.table.GetTable()
        return [
            tuple(table.GetValue(row, column).ToDouble() for column in range(len(COLUMNS)))
            for row in range(table.GetNumberOfRows())
        ]


def newOutputFolder(casesFolder):
    """Give the path of a folder for a new model, named by the time; it need not exist."""
    return os.path.join(casesFolder, "models", time.strftime("%Y%m%d-%H%M%S"))


def datalistPath(casesFolder):
    """Give the path of the datalist of a folder of cases."""
    return os.path.join(casesFolder, DATALIST)
