from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK

from lightunet_monai.cli import simulate as simulate_command
from lightunet_monai.errors import OutputError, UsageError
from lightunet_monai.outputs.folder_lock import locked_folder
from lightunet_monai.simulation import SimulatedCase, SimulationSettings, simulate_case
from lightunet_monai.simulation.dataset import DatasetPlan, simulate_dataset
from lightunet_monai.simulation.dicom import make_instance, write_dicom_case
from lightunet_monai.simulation.xray import BEAMS
from tests.builders.witnesses import dicom_errors

TINY = SimulationSettings(max_voxels=40)


@cache
def tiny_case(seed: int) -> SimulatedCase:
    return simulate_case(seed, settings=TINY)


def test_a_data_set_lists_its_cases_with_relative_paths(tmp_path: Path) -> None:
    datalist = simulate_dataset(DatasetPlan(tmp_path, 2, 1, TINY))
    entries = json.loads(datalist.read_text())["training"]
    assert [entry["image"] for entry in entries] == ["images/case_0001.nii.gz", "images/case_0002.nii.gz"]
    for entry in entries:
        image, label = nibabel.load(tmp_path / entry["image"]), nibabel.load(tmp_path / entry["label"])
        assert image.shape == label.shape
        np.testing.assert_allclose(image.affine, label.affine)
    assert not list(tmp_path.rglob(".part-*"))


def test_a_stopped_data_set_continues_where_it_was(tmp_path: Path) -> None:
    simulate_dataset(DatasetPlan(tmp_path, 2, 1, TINY))
    before = (tmp_path / "images/case_0001.nii.gz").stat().st_mtime_ns
    (tmp_path / "parameters/case_0002.json").unlink()
    seen: list[tuple[str, bool]] = []
    simulate_dataset(DatasetPlan(tmp_path, 2, 1, TINY), on_case=lambda name, new: seen.append((name, new)))
    assert seen == [("case_0001", False), ("case_0002", True)]
    assert (tmp_path / "images/case_0001.nii.gz").stat().st_mtime_ns == before


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    simulate_dataset(DatasetPlan(tmp_path, 1, 1, TINY))
    with pytest.raises(OutputError, match="another seed"):
        simulate_dataset(DatasetPlan(tmp_path, 1, 2, TINY))


def test_a_case_whose_files_are_gone_is_made_again(tmp_path: Path) -> None:
    simulate_dataset(DatasetPlan(tmp_path, 3, 1, TINY))
    (tmp_path / "images/case_0001.nii.gz").unlink()
    (tmp_path / "tissues/case_0003.nii.gz").unlink()
    seen: list[tuple[str, bool]] = []
    datalist = simulate_dataset(DatasetPlan(tmp_path, 3, 1, TINY), on_case=lambda *case: seen.append(case))
    assert seen == [("case_0002", False), ("case_0001", True), ("case_0003", True)]
    for entry in json.loads(datalist.read_text())["training"]:
        assert all((tmp_path / path).is_file() for path in entry.values())


def test_a_smaller_count_keeps_every_complete_case_listed(tmp_path: Path) -> None:
    simulate_dataset(DatasetPlan(tmp_path, 3, 1, TINY))
    (tmp_path / "labels/case_0002.nii.gz").unlink()
    datalist = simulate_dataset(DatasetPlan(tmp_path, 1, 1, TINY))
    entries = json.loads(datalist.read_text())["training"]
    assert [entry["image"] for entry in entries] == ["images/case_0001.nii.gz", "images/case_0003.nii.gz"]


def test_a_killed_process_is_told_and_the_data_set_continues(tmp_path: Path) -> None:
    def kill_all(*_: object) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(OutputError, match="killed, most likely because memory ran out") as caught:
        simulate_dataset(DatasetPlan(tmp_path, 8, 1, TINY), jobs=2, on_case=kill_all)
    assert "fewer --jobs" in caught.value.hint
    made: list[bool] = []
    simulate_dataset(DatasetPlan(tmp_path, 8, 1, TINY), on_case=lambda _, new: made.append(new))
    assert set(made) == {False, True}
    assert not list(tmp_path.rglob(".part-*"))


@pytest.mark.skipif(os.name == "nt", reason="process groups")
def test_processes_end_when_the_command_is_killed(tmp_path: Path) -> None:
    words = ["simulate", "-n", "40", "-o", str(tmp_path), "--size", "40", "--jobs", "2"]
    command = subprocess.Popen(
        [sys.executable, "-m", "lightunet_monai", *words], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert command.stdout is not None
        command.stdout.readline()  # the first case is written
        command.kill()
        command.communicate(timeout=120)  # the pipe is open as long as a process of the command lives
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
    assert len(list(tmp_path.glob("parameters/*.json"))) < 40


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of a process")
def test_a_case_that_does_not_fit_into_memory_is_one_line(tmp_path: Path) -> None:
    code = (
        "import resource, sys, lightunet_monai.simulation.dataset\n"
        "from lightunet_monai.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
        "sys.exit(main(['simulate', '-o', sys.argv[1], '--spacing', '0.05', '--size', '2048']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"error: {tmp_path}: case_0001 does not fit into memory.")
    assert len(done.stderr.splitlines()) == 1


def test_a_recipe_that_made_no_case_gives_way_to_another_one(tmp_path: Path) -> None:
    simulate_dataset(DatasetPlan(tmp_path, 1, 1, TINY))
    (tmp_path / "parameters/case_0001.json").unlink()
    with pytest.raises(OutputError, match="another seed"):  # the datalist says that cases were finished
        simulate_dataset(DatasetPlan(tmp_path, 1, 2, TINY))
    (tmp_path / "datalist.json").unlink()
    simulate_dataset(DatasetPlan(tmp_path, 1, 2, TINY))
    assert json.loads((tmp_path / "recipe.json").read_text())["seed"] == 2


def test_a_recipe_of_an_older_release_continues_where_younger_settings_have_their_defaults(tmp_path: Path) -> None:
    simulate_dataset(DatasetPlan(tmp_path, 1, 1, TINY))
    path = tmp_path / "recipe.json"
    recipe = json.loads(path.read_text())
    del recipe["settings"]["photons"]
    path.write_text(json.dumps(recipe))
    seen: list[tuple[str, bool]] = []
    simulate_dataset(DatasetPlan(tmp_path, 1, 1, TINY), on_case=lambda *case: seen.append(case))
    assert seen == [("case_0001", False)]
    with pytest.raises(OutputError, match="another seed"):
        simulate_dataset(DatasetPlan(tmp_path, 1, 1, TINY.changed(photons=(1.0e3, 1.0e4))))


@pytest.mark.parametrize("content", [b"{", b"\x80\x81\0", b"[]", b'{"settings": {}}', b"[" * 100_000])
def test_a_damaged_recipe_is_named_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "recipe.json").write_bytes(content)
    with pytest.raises(OutputError, match=r"recipe\.json: damaged"):
        simulate_dataset(DatasetPlan(tmp_path, 1, 1, TINY))
    assert (tmp_path / "recipe.json").read_bytes() == content


@pytest.mark.parametrize("name", ["recipe.json", "datalist.json"])
def test_a_folder_in_the_place_of_a_file_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match=f"{name}: is a folder, expected a file"):
        simulate_dataset(DatasetPlan(tmp_path, 1, 1, TINY))


@pytest.mark.parametrize("file_format", ["nifti", "dicom"])
def test_a_file_that_cannot_take_its_place_leaves_no_part_behind(tmp_path: Path, file_format: str) -> None:
    plan = DatasetPlan(tmp_path, 1, 1, TINY, file_format=file_format)
    simulate_dataset(plan)
    (tmp_path / "parameters/case_0001.json").unlink()
    if file_format == "nifti":
        (tmp_path / "labels/case_0001.nii.gz").unlink()
        (tmp_path / "labels/case_0001.nii.gz").mkdir()
    else:
        shutil.rmtree(tmp_path / "images/case_0001")
        (tmp_path / "images/case_0001").write_text("in the way")
    with pytest.raises(OutputError, match="case_0001 cannot be written"):
        simulate_dataset(plan)
    assert not list(tmp_path.rglob(".part-*"))


@pytest.mark.parametrize("name", ["images/case_0001/OWN.dcm", "labels/own.nii.gz", "datalist.json"])
def test_files_that_no_recipe_explains_are_never_replaced(tmp_path: Path, name: str) -> None:
    own = tmp_path / name
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("own")
    with pytest.raises(OutputError, match=r"without a recipe\.json"):
        simulate_dataset(DatasetPlan(tmp_path, 1, 1, TINY))
    assert own.read_text() == "own"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [own]


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed: -1"):
        DatasetPlan(tmp_path, 1, -1, TINY)


def test_a_case_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    simulate_dataset(DatasetPlan(tmp_path, 1, 1, TINY))
    (tmp_path / "parameters" / "case_0001.json").unlink()
    (tmp_path / "images" / "case_0001.nii.gz").unlink()
    (tmp_path / "images" / "case_0001.nii.gz").mkdir()
    with pytest.raises(OutputError, match="case_0001"):
        simulate_dataset(DatasetPlan(tmp_path, 1, 1, TINY))


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        simulate_dataset(DatasetPlan(tmp_path / "out", 1, 1, TINY))


def test_the_command_writes_dicom_series_with_label_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    simulate_command.add_arguments(parser)
    words = ["-n", "1", "--seed", "3", "-o", str(tmp_path), "--format", "dicom", "--size", "40", "--recipe", "test"]
    assert simulate_command.run(parser.parse_args(words)) == 0
    entry = json.loads((tmp_path / "datalist.json").read_text())["testing"][0]
    assert (tmp_path / entry["image"]).is_dir()
    assert "case_0001 written" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock")
def test_a_second_command_in_one_folder_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    simulate_command.add_arguments(parser)
    with locked_folder(tmp_path, wait=False), pytest.raises(OutputError, match="another process writes into it"):
        simulate_command.run(parser.parse_args(["-o", str(tmp_path), "--size", "40"]))
    assert not list(tmp_path.iterdir())


def test_a_size_that_no_volume_has_is_refused_by_the_name_of_its_option(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    simulate_command.add_arguments(parser)
    with pytest.raises(UsageError, match="--size: 8 found, 32 to 2048 expected"):
        simulate_command.run(parser.parse_args(["-o", str(tmp_path / "out"), "--size", "8"]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_another_reader_finds_the_volume_of_the_series_where_it_was(tmp_path: Path, seed: int) -> None:
    case = tiny_case(seed)
    write_dicom_case(case, tmp_path / "series")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    image = reader.Execute()
    array = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)
    assert array.shape == case.volume_hu.shape
    random = np.random.default_rng(seed)
    world_from_voxel = np.diag([-1.0, -1.0, 1.0, 1.0]) @ case.affine
    for voxel in random.integers(0, case.volume_hu.shape, (50, 3)):
        point = (world_from_voxel @ np.append(voxel, 1.0))[:3]
        index = np.rint(image.TransformPhysicalPointToContinuousIndex(point.tolist())).astype(int)
        assert array[tuple(index)] == max(case.volume_hu[tuple(voxel)], -1024)


def test_the_series_is_the_same_every_time_it_is_written(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_dicom_case(tiny_case(1), tmp_path / name)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_cases_of_one_seed_and_other_settings_share_no_uid(tmp_path: Path) -> None:
    uids = set()
    for size in (40, 48):
        case = simulate_case(1, settings=SimulationSettings(max_voxels=size))
        instance = make_instance(case, 0)
        uids |= {instance.SOPInstanceUID, instance.SeriesInstanceUID, instance.StudyInstanceUID}
    assert len(uids) == 6


def test_headers_say_that_the_image_is_simulated(tmp_path: Path) -> None:
    write_dicom_case(tiny_case(1), tmp_path / "series")
    dataset = pydicom.dcmread(next((tmp_path / "series").iterdir()))
    assert dataset.Modality == "CT"
    assert "imulated" in dataset.SeriesDescription
    assert "not of a patient" in dataset.ImageComments
    assert str(dataset.PatientID).startswith("SIM-")


def test_headers_name_the_tube_voltage_of_the_projections() -> None:
    case = tiny_case(1)
    projected = replace(case, parameters={**case.parameters, "projection": {"beam": asdict(BEAMS[1])}})
    assert make_instance(projected, 0).KVP == 60.0
    assert make_instance(case, 0).KVP == 49.0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_validator_finds_no_errors_in_the_series(tmp_path: Path, seed: int) -> None:
    write_dicom_case(tiny_case(seed), tmp_path / "series")
    path = sorted((tmp_path / "series").iterdir())[5]
    assert dicom_errors(path) == []
