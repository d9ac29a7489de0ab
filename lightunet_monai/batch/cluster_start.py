"""Starts dask clusters: worker processes on this machine, jobs of SLURM, pods of Kubernetes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import LightUNetError, UsageError

KINDS = ("local", "slurm", "kubernetes")

CASE = "case"
"""The dask resource of which a worker started here has one: it does one case at a time."""

_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)"
"""Run by each worker before it is given a case: the process that was started decides what a signal to all means."""


@dataclass(frozen=True)
class ClusterSettings:
    """How a cluster is started and how patient its pool is.

    Parameters
    ----------
    workers : int
        Worker processes to start; each does one case at a time.
    threads : int
        CPU threads of each.
    memory_bytes : int
        Memory of each; 0 leaves it to dask or to the cluster's own settings.
    specification : Path or None
        YAML file of a DaskCluster resource, for Kubernetes: image and shared volumes are named there.
    reconnect_seconds : float
        How long a scheduler may be away, or be without workers.

    Raises
    ------
    UsageError
        If a number is out of range.
    """

    workers: int = 1
    threads: int = 1
    memory_bytes: int = 0
    specification: Path | None = None
    reconnect_seconds: float = 120.0

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            if getattr(self, name) < 1:
                raise UsageError(f"option {name}: found {getattr(self, name)}, expected 1 or more.")


def start_cluster(kind: str, settings: ClusterSettings) -> Any:
    """Start a cluster of one of `KINDS`.

    Raises
    ------
    UsageError
        If its extra is missing or it cannot be started.
    """
    starters: dict[str, Callable[[ClusterSettings], Any]] = {
        "local": _start_local,
        "slurm": _start_slurm,
        "kubernetes": _start_kubernetes,
    }
    import_dask("distributed", "cluster")  # before the setting: what it adds to the configuration would go with it
    # What dask and Python start themselves imports nothing from the folder that the user is in (Python 3.11 and later).
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        # The marker of an attempt counts deaths; dask need not try again by itself.
        with import_dask("dask", "cluster").config.set({"distributed.scheduler.allowed-failures": 0}):
            return starters[kind](settings)
    except LightUNetError:
        raise
    except Exception as error:  # a site's queue or API: their errors have no common class
        raise UsageError(
            f"cluster {kind}: cannot be started: {type(error).__name__}: {error}.",
            hint="Check the settings of dask for this cluster.",
        ) from error


def quieten() -> None:
    """Keep dask's chatter off the terminal; warnings stay."""
    import_dask("distributed", "cluster")
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "distributed":
            logger = logging.getLogger(name)
            logger.setLevel(max(logger.level, logging.WARNING))


def _start_local(settings: ClusterSettings) -> Any:
    return import_dask("distributed", "cluster").LocalCluster(
        n_workers=settings.workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=settings.memory_bytes or "auto",
        resources={CASE: 1},
        preload=_DEAF,
        env={"OMP_NUM_THREADS": str(settings.threads)},
    )


def _start_slurm(settings: ClusterSettings) -> Any:
    """Queue, walltime, GPUs and the rest are the site's, in dask's own file ``jobqueue.yaml``."""
    given: dict[str, Any] = {"memory": f"{settings.memory_bytes} B"} if settings.memory_bytes else {}
    cluster = import_dask("dask_jobqueue", "cluster").SLURMCluster(
        cores=settings.threads, processes=1, worker_extra_args=["--resources", f"{CASE}=1"], **given
    )
    cluster.scale(jobs=settings.workers)
    return cluster


def _start_kubernetes(settings: ClusterSettings) -> Any:
    operator = import_dask("dask_kubernetes.operator", "kubernetes")
    if settings.specification is None:
        raise UsageError(
            "cluster kubernetes: no specification, expected a YAML file of a DaskCluster resource.",
            hint="It names the image and mounts the volume that holds input and output.",
        )
    cluster = operator.KubeCluster(custom_cluster_spec=str(settings.specification))
    cluster.scale(settings.workers)
    return cluster


def import_dask(module: str, extra: str) -> Any:
    """Import an optional module.

    Raises
    ------
    UsageError
        If it is missing; names the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"a cluster needs the package {module.partition('.')[0]}, which is not installed.",
            hint=f"pip install 'lightunet_monai[{extra}]'",
        ) from error
