"""Cases in one process: the model opened once; one case is read while another is segmented and a third is written."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import LightUNetError, UnreadableFileError
from ..inference import Predictor
from ..outputs import check_output
from .case import load_case, predict_case, write_case_files
from .causes import cause_of, unexpected
from .keys import case_key
from .publish import facts_of, publish, staging_folder
from .scrub import redact_report, secrets_of
from .task import CaseTask, Outcome, WorkerPlan

Tell = Callable[[str, str], None]
"""Told (key of the case, stage); stage ``"wait"`` is no work."""


class CaseRunner:
    """Runs cases of one plan in this process; its methods may be called from several threads.

    Parameters
    ----------
    plan : WorkerPlan
    finish : callable, optional
        Called with (staging folder, report) before a result is published; may change its files.
    """

    def __init__(self, plan: WorkerPlan, finish: Callable[[Path, CaseTask], None] | None = None) -> None:
        self.plan = plan
        self._finish = finish
        self._read, self._write = threading.Lock(), threading.Lock()
        # One thread for the network: each thread that computes gets a team of its own from OpenMP.
        self._infer = ThreadPoolExecutor(1, thread_name_prefix="infer")
        self._predictor: Future[Predictor] = self._infer.submit(self._open)

    def _open(self) -> Predictor:
        plan = self.plan
        return Predictor(plan.bundle, plan.options, threshold=plan.threshold, model=plan.model)

    def model(self) -> dict[str, str]:
        """Wait for the model; give name, version and weights for the audit log.

        Raises
        ------
        LightUNetError
            If it cannot be opened.
        """
        parts = self._predictor.result().parts
        return {
            "model": str(parts.metadata["name"]),
            "model_version": str(parts.metadata["version"]),
            "weights_sha256": parts.weights_sha256,
        }

    def run(self, task: CaseTask, tell: Tell = lambda key, stage: None) -> Outcome:
        """Do one case; errors become a cause.

        Returns
        -------
        Outcome
        """
        try:
            return self._run(task, tell)
        except LightUNetError as error:
            return Outcome(task.key, cause=cause_of(error, secrets_of(task.source)))
        except Exception as error:  # whatever a case does, the next one has its turn
            return Outcome(task.key, cause=unexpected(error))

    def _run(self, task: CaseTask, tell: Tell) -> Outcome:
        plan, key = self.plan, task.key
        tell(key, "wait")
        with self._read:
            tell(key, "read")
            check_output(plan.out / key, plan.settings.formats, source=task.source, overwrite=True)
            loaded = load_case(task.source, plan.settings)
            _check_unchanged(task)
            tell(key, "wait")
        predictor = self._predictor.result()

        def predict() -> Any:
            tell(key, "infer")
            return predict_case(loaded, predictor, plan.settings)

        predicted = self._infer.submit(predict).result()
        tell(key, "wait")
        with self._write:
            tell(key, "write")
            kept: list[str] = []
            staging = staging_folder(plan.out, plan.run, key)
            try:
                report = write_case_files(
                    predicted,
                    staging,
                    plan.settings,
                    redact=lambda made: redact_report(made, task.source, key),
                )
                if self._finish is not None:
                    self._finish(staging, task)
                publish(staging, plan.out, key, tell_kept=kept.append)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        return Outcome(key, facts=facts_of(vars(report)), kept="".join(kept))

    def close(self) -> None:
        """Let the thread of the network end."""
        self._infer.shutdown(wait=False, cancel_futures=True)


def _check_unchanged(task: CaseTask) -> None:
    """Refuse a source that has other content than when it was found: its result would be named by what it was."""
    if case_key(task.source) != task.key:
        raise UnreadableFileError(
            f"{task.source.name}: its content has changed since it was found.", hint="Run again.", reason="changed"
        )
