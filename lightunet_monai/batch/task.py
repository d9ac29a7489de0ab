"""What a worker is told and what it answers: values that travel between processes and machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..options import RunOptions
from ..sources import DicomSeries, ImageSource
from .causes import Cause
from .settings import CaseSettings

IN_FLIGHT = 3
"""Cases at once in a process: one in each of the three stages."""

BYTES_PER_VOXEL = 40
"""Peak memory of one case in flight over its number of voxels: the float32 volume, the model's grid, logits of two
channels and their restored copies; `scripts/benchmark_batch.py` prints what was measured."""


@dataclass(frozen=True)
class WorkerPlan:
    """What is the same for every case of a run.

    Parameters
    ----------
    out : Path
        Output folder, absolute.
    run : str
        Name of the run; staging folders are named by it.
    settings : CaseSettings
    bundle : Path or None
    options : RunOptions
    threshold : float or None
    deidentify : str
        Secret of the UID mapping; empty writes results with their patients.
    timeout : float
        Seconds; workers of a cluster end themselves when a case takes longer. 0 for none.
    model : str or None
        Which model of the bundle; None for the one it means.
    """

    out: Path
    run: str
    settings: CaseSettings
    bundle: Path | None = None
    options: RunOptions = field(default_factory=RunOptions)
    threshold: float | None = None
    deidentify: str = ""
    timeout: float = 0.0
    model: str | None = None

    def __repr__(self) -> str:  # dask shows arguments in its logs
        return f"WorkerPlan({self.run})"


@dataclass(frozen=True)
class CaseTask:
    """One case to do.

    Parameters
    ----------
    key, place, series : str
        Hashes that name case, unit and series.
    source : ImageSource
    alone : bool
        Nothing else may run in the same process: a worker died, and this case may be why.
    """

    key: str
    place: str
    series: str
    source: ImageSource
    alone: bool = False

    def __repr__(self) -> str:
        return f"CaseTask({self.key})"

    @property
    def memory_bytes(self) -> int:
        """Estimate of the peak memory."""
        shape = self.source.shape if isinstance(self.source, DicomSeries) else None
        if shape:
            return shape[0] * shape[1] * shape[2] * BYTES_PER_VOXEL
        try:
            size = self.source.path.stat().st_size if not isinstance(self.source, DicomSeries) else 0
        except OSError:
            size = 0
        # A compressed file of int16 holds about half its bytes' number of voxels, times the rate of compression.
        return size * BYTES_PER_VOXEL


@dataclass(frozen=True)
class Outcome:
    """What became of a case in a worker: facts if it is done, else a cause.

    Parameters
    ----------
    key : str
    facts : dict or None
    cause : Cause or None
    kept : str
        Folder that an earlier result was moved to, because somebody had changed it; empty if there was none.
    """

    key: str
    facts: dict[str, Any] | None = None
    cause: Cause | None = None
    kept: str = ""


@dataclass(frozen=True)
class Lost:
    """A case whose worker is gone.

    Parameters
    ----------
    key : str
    how : str
        ``"died"``, ``"timeout"``, ``"memory"`` or ``"cluster"`` (the connection is gone).
    is_sure : bool
        The case was alone, so it is to blame; else it is a suspect, or a bystander.
    is_suspect : bool
        It may have been the one.
    """

    key: str
    how: str
    is_sure: bool
    is_suspect: bool = True


Event = Outcome | Lost
