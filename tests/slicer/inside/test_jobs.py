"""Child processes: progress, cancel, failures, and nothing left behind."""

import os
import signal
import subprocess
import tempfile
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
import vtk
from LightUNetSegmentationLib import job as job_module
from LightUNetSegmentationLib.batch import Batch, eligibleVolumes
from LightUNetSegmentationLib.errors import ModuleError
from LightUNetSegmentationLib.job import Job
from LightUNetSegmentationLib.logic import LightUNetSegmentationLogic
from LightUNetSegmentationLib.parameters import RunParameters, TrainParameters
from LightUNetSegmentationLib.progress import describe, overallFraction, parseLine
from LightUNetSegmentationLib.results import recordedLesions
from LightUNetSegmentationLib.segment_run import SegmentRun
from LightUNetSegmentationLib.sequences import segmentSequence
from LightUNetSegmentationLib.volumes import exportVolume


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_the_command_line_holds_what_was_chosen_and_nothing_else():
    words = RunParameters(device="cpu", threshold=0.3, model="/m").toArguments("in.nrrd", "out")
    assert words[:4] == ["-m", "lightunet_monai", "segment", "in.nrrd"]
    assert words[words.index("--device") + 1] == "cpu"
    assert words[words.index("--threshold") + 1] == "0.3000"
    assert words[words.index("--bundle") + 1] == "/m"
    assert "--engine" not in words
    assert "--model" not in words
    words = RunParameters(model="tissues").toArguments("in.nrrd", "out")
    assert words[words.index("--model") + 1] == "tissues"
    assert "--bundle" not in words
    assert "--max-epochs" not in TrainParameters("d.json", "o").toArguments()


def test_lines_of_other_programs_are_no_events():
    assert parseLine("WARNING: {}") is None
    assert parseLine('{"loss": 1}') is None
    assert parseLine('{"schema": 1, "event"') is None
    assert parseLine('{"schema": 1, "event": "done"}')["event"] == "done"


def test_progress_never_goes_back_and_tells_the_time_left():
    stages = ["read", "open", "prepare", "infer", "restore", "measure", "write"]
    fractions = [overallFraction({"stage": stage, "fraction": part}) for stage in stages for part in (0, 0.5, 1)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
    assert describe({"stage": "infer", "fraction": 0.2, "seconds_left": 65.2}) == "Segmenting, 1 min 5 s left"


def test_progress_comes_window_by_window(make_volume, make_interpreter):
    run = SegmentRun(make_volume().node, interpreter=make_interpreter()).start()
    seen = []
    while run.isRunning:
        run.poll()
        seen.append(run.fraction)
        time.sleep(0.005)
    assert seen == sorted(seen)
    assert run.fraction == 1.0


@pytest.fixture
def slow_run(make_volume, make_interpreter, tmp_path, monkeypatch):
    path = tmp_path / "children"
    monkeypatch.setenv("FAKE_CHILD_FILE", str(path))
    run = SegmentRun(make_volume().node, interpreter=make_interpreter("slow")).start()
    end = time.monotonic() + 20
    while not (path.exists() and path.read_text()) and time.monotonic() < end:
        run.poll()
        time.sleep(0.02)
    pids = [int(word) for word in path.read_text().split()]
    assert len(pids) == 2
    assert all(is_alive(pid) for pid in pids)
    yield run, pids
    run.cancel()


def test_cancel_takes_less_than_a_second_and_leaves_no_process_and_no_file(slow_run, temporary):
    run, pids = slow_run
    assert temporary()
    start = time.monotonic()
    run.cancel()
    assert time.monotonic() - start < 1.0
    assert run.state == "cancelled"
    assert not any(is_alive(pid) for pid in pids)
    assert temporary() == []
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_polling_never_waits_for_the_child(slow_run):
    run, _pids = slow_run
    start = time.monotonic()
    for _ in range(20):
        run.poll()
    assert time.monotonic() - start < 0.5
    assert run.isRunning


def end_of(command):
    """Polls a command to its end: the job, its longest poll, the time it took and the time that closing took."""
    job, longest, start = Job(["/bin/sh", "-c", command]).start(), 0.0, time.monotonic()
    while job.isRunning:
        before = time.monotonic()
        job.poll()
        longest = max(longest, time.monotonic() - before)
        time.sleep(0.01)
    end = time.monotonic()
    job.close()
    return job, longest, end - start, time.monotonic() - end


def test_what_a_finished_child_left_running_is_ended_and_holds_nothing_up():
    job, longest, duration, closing = end_of("sleep 8 & echo $!")
    assert job.state == "done"
    assert not is_alive(int(job.output[0]))
    assert longest < 0.3
    assert duration < 3
    assert closing < 0.5


def test_a_descendant_that_does_not_listen_is_forced():
    job, _longest, duration, closing = end_of("trap '' TERM; sleep 8 & echo $!")
    assert not is_alive(int(job.output[0]))
    assert duration < 3
    assert closing < 0.5


def test_a_descendant_outside_of_the_group_that_holds_the_streams_does_not_hold_up_the_window():
    job, longest, duration, closing = end_of("setsid sleep 8 & echo $!")
    try:
        assert job.state == "done"
        assert longest < 0.3
        assert duration < 3
        assert closing < 0.5
    finally:
        os.kill(int(job.output[0]), signal.SIGKILL)


def test_nothing_of_a_long_output_is_lost():
    job, *_times = end_of("seq 1 1500")
    assert [int(line) for line in job.output] == list(range(1, 1501))


def failure(make_volume, make_interpreter, mode):
    run = SegmentRun(make_volume().node, interpreter=make_interpreter(mode)).start()
    with pytest.raises(ModuleError) as caught:
        run.wait(60)
    return caught.value


def test_a_crash_shows_its_last_lines_and_a_plain_cause(make_volume, make_interpreter, temporary):
    error = failure(make_volume, make_interpreter, "crash")
    assert error.message == "The process stopped with exit code 3: boom."
    assert any("boom" in line for line in error.log)
    assert temporary() == []


def test_an_error_of_the_package_comes_with_its_hint(make_volume, make_interpreter):
    error = failure(make_volume, make_interpreter, "error")
    assert (error.message, error.hint) == ("A gap of 5 mm.", "Ask for all slices.")


def test_progress_lines_of_another_schema_are_refused(make_volume, make_interpreter):
    assert "version 2" in failure(make_volume, make_interpreter, "schema").message


def test_too_little_memory_on_the_device_tries_the_processor_once(make_volume, make_interpreter):
    run = SegmentRun(make_volume().node, interpreter=make_interpreter("oom")).start()
    assert run.wait(60) is not None
    assert run.report["run"]["device"] == "cpu"
    assert "processor was used" in run.warnings[0]


def test_too_little_memory_on_the_processor_is_told(make_volume, make_interpreter):
    run = SegmentRun(make_volume().node, RunParameters(device="cpu"), interpreter="/nowhere/python").start()
    with pytest.raises(ModuleError, match="cannot be started"):
        run.wait(10)


def test_an_error_in_words_of_the_command_line_is_the_message():
    job = Job(["/bin/sh", "-c", "echo noise >&2; echo 'error: No validation. (Lower it.)' >&2; exit 1"]).start()
    job.wait(10)
    assert job.error.message == "No validation. (Lower it.)"


def test_a_package_that_pip_does_not_find_is_told_with_the_other_ways():
    job = Job(["/bin/sh", "-c", "echo 'ERROR: No matching distribution found for lightunet_monai' >&2; exit 1"]).start()
    job.wait(10)
    assert "pip found no version" in job.error.message
    assert "wheel folder" in job.error.hint


def test_on_windows_the_child_has_ended_before_its_folder_is_removed(monkeypatch, tmp_path):
    job = Job(["/bin/sh", "-c", "exec sleep 60"], str(tmp_path)).start()
    process = job._process

    def taskkill(command, **_options):  # as Windows does: the answer comes before the end
        assert command == ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        threading.Timer(0.2, process.kill).start()

    monkeypatch.setattr(job_module, "os", SimpleNamespace(name="nt"))
    monkeypatch.setattr(subprocess, "run", taskkill)
    ends = []
    monkeypatch.setattr(job_module.shutil, "rmtree", lambda *_words, **_options: ends.append(process.returncode))
    job.close()
    assert ends == [-signal.SIGKILL]


def test_a_killed_child_is_explained(tmp_path):
    job = Job(["/bin/sh", "-c", "kill -9 $$"]).start()
    assert job.wait(10) == "failed"
    assert "memory" in job.error.message


def test_a_volume_that_was_removed_meanwhile_is_told(make_volume, make_interpreter, scene):
    made = make_volume()
    run = SegmentRun(made.node, interpreter=make_interpreter()).start()
    scene.RemoveNode(made.node)
    with pytest.raises(ModuleError, match="removed"):
        run.wait(60)


def test_a_volume_that_was_moved_meanwhile_gets_no_result_beside_it(make_volume, make_interpreter, scene, temporary):
    made = make_volume()
    run = SegmentRun(made.node, interpreter=make_interpreter()).start()
    made.node.SetOrigin(0.0, 0.0, 0.0)
    with pytest.raises(ModuleError, match="moved"):
        run.wait(60)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert temporary() == []


def test_a_script_that_waited_long_enough_is_told(make_volume, make_interpreter, tmp_path, monkeypatch, temporary):
    monkeypatch.setenv("FAKE_CHILD_FILE", str(tmp_path / "children"))
    logic = LightUNetSegmentationLogic()
    with pytest.raises(ModuleError, match=r"CT was not segmented within 0\.1 s"):
        logic.process(make_volume().node, interpreter=make_interpreter("slow"), timeoutSeconds=0.1)
    assert temporary() == []


@pytest.mark.parametrize("kind", [vtk.VTK_SIGNED_CHAR, vtk.VTK_LONG_LONG, vtk.VTK_UNSIGNED_LONG_LONG])
def test_voxels_of_a_type_without_a_file_are_written_as_numbers_of_another_one(make_volume, tmp_path, kind):
    made = make_volume(hu=100)
    cast = vtk.vtkImageCast()
    cast.SetInputData(made.node.GetImageData())
    cast.SetOutputScalarType(kind)
    cast.Update()
    made.node.SetAndObserveImageData(cast.GetOutput())
    path = exportVolume(made.node, str(tmp_path))
    again = slicer.modules.volumes.logic().AddArchetypeVolume(path, "again", 0)
    expected = slicer.util.arrayFromVolume(made.node).astype(float)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), expected)


def test_a_label_map_is_no_volume_of_hounsfield_units(make_volume, make_interpreter, scene):
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    labels.SetAndObserveImageData(make_volume().node.GetImageData())
    with pytest.raises(ModuleError, match="labels is a label map"):
        SegmentRun(labels, interpreter=make_interpreter()).start()


def test_an_empty_volume_and_a_far_region_are_refused_before_anything_starts(
    make_volume, make_interpreter, scene, temporary
):
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    with pytest.raises(ModuleError, match="no voxels"):
        SegmentRun(empty, interpreter=make_interpreter()).start()
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter(5000, 0, 0)
    roi.SetSize(1, 1, 1)
    with pytest.raises(ModuleError, match="outside"):
        SegmentRun(make_volume().node, interpreter=make_interpreter(), roi=roi).start()
    with pytest.raises(ModuleError, match="No volume"):
        SegmentRun(None, interpreter=make_interpreter()).start()
    assert temporary() == []


def test_a_batch_takes_all_volumes_and_goes_on_after_a_failure(make_volume, make_interpreter, scene):
    made = [make_volume(name="one"), make_volume("oblique", name="two")]
    bad = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    assert eligibleVolumes() == [one.node for one in made]
    interpreter = make_interpreter()
    batch = Batch([made[0].node, bad, made[1].node], lambda volume: SegmentRun(volume, interpreter=interpreter)).start()
    outcomes = batch.wait()
    assert [run.error is None for run in outcomes] == [True, False, True]
    assert batch.summary().startswith("2 of 3 volumes segmented; empty: The volume has no voxels")
    # probability maps are volumes too, and are left out of the next batch
    assert eligibleVolumes() == [one.node for one in made]


@pytest.fixture
def fill_the_disk(monkeypatch):
    """From the call on, no temporary folder can be made."""

    def full(*_words, **_options):
        raise OSError(28, "No space left on device")

    return lambda: monkeypatch.setattr(tempfile, "mkdtemp", full)


def test_without_room_for_temporary_files_nothing_starts_and_it_is_told(make_volume, make_interpreter, fill_the_disk):
    fill_the_disk()
    with pytest.raises(ModuleError, match="cannot be written: No space left on device"):
        SegmentRun(make_volume().node, interpreter=make_interpreter()).start()


def test_a_batch_that_runs_out_of_room_ends_and_tells_which_volumes_failed(
    make_volume, make_interpreter, fill_the_disk
):
    made = [make_volume(name=name).node for name in ("one", "two", "three")]
    interpreter = make_interpreter()
    batch = Batch(made, lambda volume: SegmentRun(volume, interpreter=interpreter)).start()
    fill_the_disk()
    batch.wait()
    assert [run.error is None for run in batch.outcomes] == [True, False, False]
    assert batch.summary().startswith("1 of 3 volumes segmented; two: ")
    assert "No space left" in batch.summary()


def test_a_volume_that_was_removed_before_its_turn_is_not_segmented(make_volume, make_interpreter, scene):
    made = [make_volume(name="one"), make_volume(name="two")]
    interpreter = make_interpreter()
    batch = Batch([one.node for one in made], lambda volume: SegmentRun(volume, interpreter=interpreter)).start()
    scene.RemoveNode(made[1].node)
    batch.wait()
    assert batch.summary() == "1 of 2 volumes segmented; two: The volume was removed before its turn. Load it again."
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


@pytest.fixture
def make_sequence(make_volume, scene):
    """Makes a sequence of volumes, each 10 mm above the one before it, and gives it with its browser."""

    def make(count):
        frames = [make_volume(name="frame", origin=(0.0, 0.0, 10.0 * number)) for number in range(count)]
        browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
        sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "CT frames")
        for number, frame in enumerate(frames):
            sequence.SetDataNodeAtValue(frame.node, str(number))
            scene.RemoveNode(frame.node)
        browser.AddSynchronizedSequenceNode(sequence)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        return browser, sequence

    return make


def test_a_frame_that_failed_does_not_show_the_lesions_of_another_one(make_sequence, make_interpreter):
    browser, sequence = make_sequence(3)
    modes = iter(("ok", "error", "ok"))
    batch = segmentSequence(
        browser.GetProxyNode(sequence), lambda volume: SegmentRun(volume, interpreter=make_interpreter(next(modes)))
    ).start()
    batch.wait()
    assert [run.error is None for run in batch.outcomes] == [True, False, True]
    assert batch.summary().endswith(": A gap of 5 mm. Ask for all slices.")
    (results,) = (one for one in slicer.util.getNodesByClass("vtkMRMLSequenceNode") if one is not sequence)
    counts = []
    for number in (0, 1, 2, 1):
        browser.SetSelectedItemNumber(number)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        shown = browser.GetProxyNode(results)
        counts.append((shown.GetSegmentation().GetNumberOfSegments(), len(recordedLesions(shown))))
    assert counts == [(1, 1), (0, 0), (1, 1), (0, 0)]


@pytest.mark.parametrize("mode", ["error", "cancelled"])
def test_where_no_frame_was_segmented_no_sequence_is_left(make_sequence, make_interpreter, mode):
    browser, sequence = make_sequence(2)
    batch = segmentSequence(
        browser.GetProxyNode(sequence), lambda volume: SegmentRun(volume, interpreter=make_interpreter(mode))
    ).start()
    if mode == "cancelled":
        batch.cancel()
    batch.wait()
    assert slicer.util.getNodesByClass("vtkMRMLSequenceNode") == [sequence]


def test_all_frames_of_a_sequence_become_a_sequence_in_step(make_sequence, make_interpreter, scene):
    browser, sequence = make_sequence(2)
    proxy = browser.GetProxyNode(sequence)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    proxy.SetAndObserveTransformNodeID(transform.GetID())
    interpreter = make_interpreter()
    batch = segmentSequence(proxy, lambda volume: SegmentRun(volume, interpreter=interpreter)).start()
    batch.wait()
    assert [run.error for run in batch.outcomes] == [None, None]
    results = scene.GetFirstNodeByName("frame segmentation") or scene.GetFirstNodeByName(
        f"{proxy.GetName()} segmentation"
    )
    sequences = [one for one in slicer.util.getNodesByClass("vtkMRMLSequenceNode") if one is not sequence]
    assert len(sequences) == 1
    assert sequences[0].GetNumberOfDataNodes() == 2
    assert results is not None
    browser.SetSelectedItemNumber(1)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    assert browser.GetProxyNode(sequences[0]).GetTransformNodeID() == transform.GetID()
    centres = []
    for number in range(2):
        node = sequences[0].GetNthDataNode(number)
        bounds = [0.0] * 6
        node.GetSegmentation().GetBounds(bounds)
        centres.append((bounds[4] + bounds[5]) / 2)
    assert centres[1] - centres[0] == pytest.approx(10, abs=0.1)


def test_the_volume_file_does_not_carry_the_name_of_the_patient(make_volume, make_interpreter, temporary, monkeypatch):
    run = SegmentRun(make_volume(name="DOE^JANE").node, interpreter=make_interpreter()).start()
    folder = os.path.join(slicer.app.temporaryPath, temporary()[0])
    assert "volume.nrrd" in os.listdir(folder)
    with open(os.path.join(folder, "volume.nrrd"), "rb") as stream:
        assert b"DOE" not in stream.read(2000)
    run.wait(60)
