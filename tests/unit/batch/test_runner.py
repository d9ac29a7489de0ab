"""A case in a worker: its result is that of the content it is named by."""

import shutil
from pathlib import Path

import pytest

from lightunet_monai.batch.keys import case_key
from lightunet_monai.batch.runner import CaseRunner
from lightunet_monai.batch.settings import CaseSettings
from lightunet_monai.batch.task import CaseTask, WorkerPlan
from lightunet_monai.inputs import discover_sources
from tests.builders.series import make_series
from tests.builders.volume import make_nifti, make_voxels

PATIENT = "PLANTED^PATIENT"


def _make_file(folder, seed):
    return make_nifti(folder / f"{PATIENT}.nii.gz", make_voxels(seed=seed))


def _make_archive(folder, seed):
    make_series(folder / "series", voxels=make_voxels(seed=seed))
    return Path(shutil.make_archive(str(folder / PATIENT), "zip", folder / "series"))


@pytest.mark.parametrize("make", [_make_file, _make_archive])
def test_a_source_that_was_replaced_before_its_turn_is_refused(tmp_path, make):
    (source,) = discover_sources(make(tmp_path, 1))
    task = CaseTask(case_key(source), "place", "series", source)
    make(tmp_path, 2)
    runner = CaseRunner(WorkerPlan(tmp_path / "out", "run", CaseSettings(), tmp_path / "no bundle"))

    cause = runner.run(task).cause

    assert (cause.kind, cause.reason, cause.may_pass) == ("UnreadableFileError", "changed", True)
    assert "changed since it was found" in cause.message
    assert PATIENT not in cause.message
