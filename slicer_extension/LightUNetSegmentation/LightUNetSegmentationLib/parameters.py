"""What the user chose, as the command line of the child process."""

from __future__ import annotations

from dataclasses import dataclass

PACKAGE = "lightunet_monai"
AUTOMATIC = "auto"
FORMATS = ("segnrrd", "probability")
"""Of every run: a segmentation with names, colours and codes, and the map that the threshold slider needs."""
DICOM_FORMATS = ("seg", "sr")
SHIPPED, TISSUES = "", "tissues"
SHIPPED_MODELS = {SHIPPED: "shipped with the package", TISSUES: "shipped, with tissue labels"}
"""Models of the installed package, as its ``--model`` names them, and what people read."""


@dataclass(frozen=True)
class RunParameters:
    """Options of one segmentation.

    >>> RunParameters(device="cpu").toArguments("volume.nrrd", "out")

    Parameters
    ----------
    device, engine : str
        As the command line spells them; ``"auto"`` leaves the choice to the package.
    threshold : float or None
        None takes the model's.
    model : str
        As `modelOption` takes it.
    formats : tuple of str
        Of the result.
    threads : int
        CPU threads; 0 for all.
    """

    device: str = AUTOMATIC
    engine: str = AUTOMATIC
    threshold: float | None = None
    model: str = ""
    formats: tuple = FORMATS
    threads: int = 0

    def toArguments(self, volumePath, outputFolder):
        """Give the arguments after the interpreter: ``["-m", "lightunet_monai", "segment", ...]``."""
        arguments = ["-m", PACKAGE, "segment", str(volumePath), "-o", str(outputFolder)]
        arguments += ["--formats", ",".join(self.formats), "--progress", "json"]
        options = {
            "--device": "" if self.device == AUTOMATIC else self.device,
            "--engine": "" if self.engine == AUTOMATIC else self.engine,
            "--threshold": "" if self.threshold is None else f"{self.threshold:.4f}",
            **modelOption(self.model),
            "--threads": str(self.threads) if self.threads else "",
        }
        return arguments + _given(options)


@dataclass(frozen=True)
class TrainParameters:
    """Options of one fine-tuning.

    Parameters
    ----------
    datalist : str
        File that lists the training cases.
    outputFolder : str
        Where the new model goes; the same folder goes on with a training that was stopped.
    model : str
        The one to start from, as `modelOption` takes it.
    epochs : int
        Passes over the cases; 0 for the model's own number.
    device : str
        As in `RunParameters`.
    """

    datalist: str
    outputFolder: str
    model: str = ""
    epochs: int = 0
    device: str = AUTOMATIC

    def toArguments(self):
        """Give the arguments after the interpreter."""
        arguments = ["-m", PACKAGE, "train", "--data", str(self.datalist), "-o", str(self.outputFolder)]
        arguments += ["--progress", "json"]
        options = {
            **modelOption(self.model),
            "--max-epochs": str(self.epochs) if self.epochs else "",
            # Each epoch gives a point of the curve.
            "--val-interval": "1" if self.epochs else "",
            "--device": "" if self.device == AUTOMATIC else self.device,
        }
        return arguments + _given(options)


@dataclass(frozen=True)
class ExportParameters:
    """Options of one DICOM export of a label map.

    Parameters
    ----------
    labelMap, series, outputFolder : str
        The file, the folder of the DICOM series, and where the result goes.
    isEdited : bool
        People changed what the model drew.
    runReport : str
        File that names the model and its settings; empty for those of the bundle.
    model : str
        The one whose labels the values are, as `modelOption` takes it.
    """

    labelMap: str
    series: str
    outputFolder: str
    isEdited: bool
    runReport: str = ""
    model: str = ""

    def toArguments(self):
        """Give the arguments after the interpreter."""
        arguments = ["-m", PACKAGE, "export", self.labelMap, "--source", self.series, "-o", self.outputFolder]
        arguments += ["--formats", ",".join(DICOM_FORMATS), "--progress", "json"]
        arguments.append("--edited" if self.isEdited else "--unedited")
        return arguments + _given({"--report": self.runReport, **modelOption(self.model)})


def inspectArguments(model=""):
    """Give the arguments that describe a model, as `modelOption` takes it, as JSON."""
    return ["-m", PACKAGE, "inspect", "--json", *_given(modelOption(model))]


def modelOption(model):
    """Give the option that chooses a model: one of `SHIPPED_MODELS`, or the folder of a bundle."""
    return {"--model" if model in SHIPPED_MODELS else "--bundle": model}


def _given(options):
    return [word for flag, value in options.items() if value for word in (flag, value)]
