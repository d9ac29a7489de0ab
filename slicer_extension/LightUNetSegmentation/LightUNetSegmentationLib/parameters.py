"""What the user chose, as the command line of the child process."""

from __future__ import annotations

from dataclasses import dataclass

PACKAGE = "lightunet_monai"
AUTOMATIC = "auto"
FORMATS = ("segnrrd", "probability")
"""Of every run: a segmentation with names, colours and codes, and the map that the threshold slider needs."""
DICOM_FORMATS = ("seg", "sr")


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
    modelFolder : str
        Bundle of a fine-tuned model; empty for the shipped one.
    formats : tuple of str
        Of the result.
    threads : int
        CPU threads; 0 for all.
    """

    device: str = AUTOMATIC
    engine: str = AUTOMATIC
    threshold: float | None = None
    modelFolder: str = ""
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
            "--bundle": self.modelFolder,
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
    modelFolder : str
        Bundle to start from; empty for the shipped one.
    epochs : int
        Passes over the cases; 0 for the model's own number.
    device : str
        As in `RunParameters`.
    volumesPerBatch : int
        0 for the model's own number; not more than there are training cases, or there would be no batch.
    """

    datalist: str
    outputFolder: str
    modelFolder: str = ""
    epochs: int = 0
    device: str = AUTOMATIC
    volumesPerBatch: int = 0

    def toArguments(self):
        """Give the arguments after the interpreter."""
        arguments = ["-m", PACKAGE, "train", "--data", str(self.datalist), "-o", str(self.outputFolder)]
        arguments += ["--progress", "json"]
        options = {
            "--bundle": self.modelFolder,
            "--max-epochs": str(self.epochs) if self.epochs else "",
            # Few epochs could end before the model's own interval; and each one gives a point of the curve.
            "--val-interval": "1" if self.epochs else "",
            "--device": "" if self.device == AUTOMATIC else self.device,
            "--set": f"volumes_per_batch={self.volumesPerBatch}" if self.volumesPerBatch else "",
        }
        return arguments + _given(options)


def inspectArguments(modelFolder=""):
    """Give the arguments that describe the installed model as JSON."""
    return ["-m", PACKAGE, "inspect", "--json", *_given({"--bundle": modelFolder})]


def _given(options):
    return [word for flag, value in options.items() if value for word in (flag, value)]
