"""Plants faults in a copy of the Slicer module, one at a time; each has to be caught by the module's tests.

    python scripts/slicer_mutations.py [NUMBER ...]

Uses the environment ``.venv-slicer``. A fault is a piece of text and what takes its place, and the tests that should
see it: only those are run, so the script takes a few minutes. The exit code is 1 if a fault survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "slicer_extension" / "LightUNetSegmentation"
TESTS = ROOT / "tests" / "slicer"
PYTHON = ROOT / ".venv-slicer" / "bin" / "python"
LIBRARY = "LightUNetSegmentationLib/"
WINDOW = "Resources/UI/LightUNetSegmentation.ui"


@dataclass(frozen=True)
class Fault:
    """One planted fault: in which file, what, and which tests look there."""

    title: str
    file: str
    old: str
    new: str
    tests: str


FAULTS = (
    Fault(
        "the scene is not passed to a node selector",
        WINDOW,
        "<receiver>roiSelector</receiver>",
        "<receiver>resultSelector</receiver>",
        "selector_gets_the_scene",
    ),
    Fault(
        "a parameter name is misspelt",
        WINDOW,
        "<string>device</string>",
        "<string>devise</string>",
        "parameter_is_bound",
    ),
    Fault("a control is renamed", WINDOW, 'name="measureButton"', 'name="measurButton"', "control_of_the_file"),
    Fault("an unknown widget class", WINDOW, 'class="QSpinBox"', 'class="QSpinBoxes"', "node_selector"),
    Fault(
        "a button is not connected",
        LIBRARY + "findings_panel.py",
        'self.ui.saveCsvButton.connect("clicked(bool)", self.onSaveCsv)',
        "pass",
        "every_button_has_a_slot or copied_and_saved",
    ),
    Fault(
        "a slot misspells a setter",
        LIBRARY + "widget.py",
        "self.ui.progressBar.setValue(",
        "self.ui.progressBar.setValeu(",
        "click_gives",
    ),
    Fault(
        "the controls stay bound after cleanup",
        LIBRARY + "widget.py",
        "self._parameterNode.disconnectGui(self._guiTag)",
        "pass",
        "after_cleanup",
    ),
    Fault(
        "closing the scene does not stop the run",
        LIBRARY + "widget.py",
        "self.task.belongsToScene",
        "False",
        "closing_the_scene_stops",
    ),
    Fault(
        "closing the scene stops an installation",
        LIBRARY + "tasks.py",
        "belongsToScene = False",
        "belongsToScene = True",
        "does_not_stop_an_installation or export_goes_on",
    ),
    Fault(
        "a hidden volume becomes the input",
        LIBRARY + "widget.py",
        "volumes = eligibleVolumes()",
        'volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")',
        "stays_hidden",
    ),
    Fault(
        "what a finished child started goes on",
        LIBRARY + "job.py",
        " and self._isSettled()",
        "",
        "finished_child_left",
    ),
    Fault(
        "a full disk is not told",
        LIBRARY + "temporary.py",
        "raise cannotWrite(",
        "raise OSError(",
        "without_room or runs_out_of_room",
    ),
    Fault(
        "any torch that is there will do",
        LIBRARY + "install.py",
        "if version and not meetsRequirement(version):",
        "if False:",
        "judged_as_pip or torch_that_cannot",
    ),
    Fault(
        "a failed installation of torch is not told",
        LIBRARY + "install.py",
        "RuntimeError, OSError, ValueError, ImportError)",
        ")",
        "whatever_stops",
    ),
    Fault(
        "a choice of model that cannot be kept is shown",
        LIBRARY + "learning_panel.py",
        "self.fillModels()  # shows the one that is used still",
        "pass",
        "list_shows",
    ),
    Fault(
        "blanks end a path in the diagnostics",
        LIBRARY + "diagnostics.py",
        "|[ \\t,;]{_MORE_OF_THE_PATH}",
        "",
        "blanks_and_commas",
    ),
    Fault(
        "cancel kills the child but not what it started",
        LIBRARY + "job.py",
        "os.killpg(self._process.pid, number)",
        "os.kill(self._process.pid, number)",
        "cancel_takes",
    ),
    Fault(
        "the temporary folder stays",
        LIBRARY + "job.py",
        "shutil.rmtree(self.folder, ignore_errors=True)",
        "pass",
        "no_temporary or leaves_no_process",
    ),
    Fault(
        "an error of the child is swallowed",
        LIBRARY + "segment_run.py",
        "raise self.job.error",
        "return",
        "crash",
    ),
    Fault(
        "the button can be pressed while it runs",
        LIBRARY + "widget.py",
        "enabled = isIdle and not reason",
        "enabled = not reason",
        "only_cancel",
    ),
    Fault(
        "the volume is written without its orientation",
        LIBRARY + "volumes.py",
        "copy.SetIJKToRASMatrix(matrix)",
        "pass",
        "same_voxels",
    ),
    Fault(
        "a region moves the result",
        LIBRARY + "volumes.py",
        "moved.SetElement(axis, 3, origin[axis])",
        "pass",
        "region_gives",
    ),
    Fault(
        "edits are replaced without asking",
        LIBRARY + "results.py",
        "if isEdited(target) or",
        "if False or",
        "edits",
    ),
    Fault(
        "a replacement takes no snapshot",
        LIBRARY + "results.py",
        "(history or EditHistory()).save(target)",
        "pass",
        "undone",
    ),
    Fault(
        "segments of the user are removed with ours",
        LIBRARY + "edits.py",
        "if segmentTag(inner.GetSegment(name), OWN_TAG)]",
        "]",
        "segments_of_the_user or no_case or somebody_else",
    ),
    Fault(
        "the result has no reference geometry",
        LIBRARY + "results.py",
        "segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)",
        "pass",
        "reference_geometry",
    ),
    Fault(
        "the result is not placed in the study",
        LIBRARY + "subjects.py",
        "hierarchy.SetItemParent(item, parent)",
        "pass",
        "in_the_study or moved_to_the_study",
    ),
    Fault(
        "the threshold is exclusive at the wrong side",
        LIBRARY + "threshold.py",
        "cut.ThresholdByUpper(threshold)",
        "cut.ThresholdByLower(threshold)",
        "second_run",
    ),
    Fault(
        "lesions that touch by a corner are two",
        LIBRARY + "measure.py",
        "islands.SetFullyConnected(True)",
        "islands.SetFullyConnected(False)",
        "touch_by_a_corner",
    ),
    Fault(
        "a batch stops at the first failure",
        LIBRARY + "batch.py",
        'self.run.state, self.run.error = "failed", error',
        "raise",
        "batch_takes",
    ),
    Fault(
        "progress lines of another schema are taken",
        LIBRARY + "progress.py",
        'return event.get("schema") == SCHEMA',
        "return True",
        "another_schema",
    ),
    Fault(
        "the file is named like the patient",
        LIBRARY + "volumes.py",
        "os.path.join(folder, FILE_NAME)",
        'os.path.join(folder, volume.GetName() + ".nrrd")',
        "name_of_the_patient",
    ),
    Fault(
        "names stay in the diagnostics",
        LIBRARY + "diagnostics.py",
        '"<name>", text, flags=re.IGNORECASE',
        "name, text, flags=re.IGNORECASE",
        "taken_out or nothing_of_the_patient",
    ),
    Fault(
        "the program to run is saved with the scene",
        LIBRARY + "setup_panel.py",
        "            writeSetting(name, value)\n",
        "            writeSetting(name, value)\n"
        "            self.host.parameters.parameterNode.SetParameter(name, value)\n",
        "programs_are_not or another_python",
    ),
    Fault(
        "pip may replace torch",
        LIBRARY + "install.py",
        "skip_packages=list(KEPT)",
        "skip_packages=[]",
        "pip_ensure",
    ),
    Fault(
        "a training case is not on the grid of its volume",
        LIBRARY + "label_maps.py",
        "    node.CopyOrientation(volume)\n",
        "    labelMap = labelMap[::-1].copy()\n",
        "case_is_on_the_grid",
    ),
    Fault(
        "an export is not on the grid of its series",
        LIBRARY + "label_maps.py",
        "    node.CopyOrientation(volume)\n",
        "",
        "hands_over",
    ),
    Fault(
        "an edited result is exported as the model's own",
        LIBRARY + "dicom_export.py",
        'kind != "AUTOMATIC"',
        "False",
        "hands_over",
    ),
    Fault(
        "an export does not say which model drew it",
        LIBRARY + "dicom_export.py",
        "_writeRun(segmentation, folder),",
        '"",',
        "hands_over",
    ),
    Fault(
        "the files of an export stay in the folder for temporary files",
        LIBRARY + "dicom_export.py",
        "    finally:\n        job.close()",
        "    finally:\n        pass",
        "hands_over or refused_export",
    ),
    Fault(
        "tissues are measured as lesions",
        LIBRARY + "edits.py",
        "if segmentTag(inner.GetSegment(name), LESION_TAG)] or own",
        "] or own",
        "result_with_tissues",
    ),
    Fault(
        "the labels of another model are shown",
        LIBRARY + "setup_panel.py",
        "*inspectArguments(self.host.learningPanel.model)",
        "*inspectArguments()",
        "result_with_tissues",
    ),
    Fault(
        "the slider does not find back to the threshold of the model",
        LIBRARY + "findings_panel.py",
        "self._redraw(own if self._isShownAs(own, value) else value)",
        "self._redraw(value)",
        "goes_away_and_back",
    ),
    Fault(
        "numbers from before the edits are given away",
        LIBRARY + "findings_panel.py",
        "isNew = self._measureIfEdited()",
        "isNew = False",
        "copied_after_an_edit",
    ),
    Fault(
        "a result from a file counts as untouched",
        LIBRARY + "edits.py",
        "return any(segmentTag",
        "return False and any(segmentTag",
        "edits_before_or_after",
    ),
    Fault(
        "tissues take voxels of lesions",
        LIBRARY + "label_maps.py",
        "key=lambda item: item[0] in lesions",
        "key=lambda item: item[1]",
        "segments_overlap",
    ),
    Fault(
        "the mean is read where the volume was",
        LIBRARY + "measure.py",
        "    if source is target:",
        "    if True:",
        "whatever_moves",
    ),
    Fault(
        "cases with other labels are mixed",
        LIBRARY + "training_cases.py",
        "not in ({}, table)",
        "is None",
        "other_labels",
    ),
    Fault(
        "a volume that was moved gets a result beside it",
        LIBRARY + "segment_run.py",
        "if gridOf(self.volume) != self._grid:",
        "if False:",
        "moved_meanwhile",
    ),
    Fault(
        "a region that does not count can be chosen",
        LIBRARY + "widget.py",
        "selector.enabled = isOne",
        "pass",
        "region_and_a_result",
    ),
)


def is_caught(fault: Fault, folder: Path) -> bool:
    """Plant a fault in a copy of the module, and run the tests that should see it."""
    copy = folder / "LightUNetSegmentation"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(MODULE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / fault.file
    text = path.read_text(encoding="utf-8")
    if fault.old not in text:
        raise SystemExit(f"{fault.title}: {fault.file} has changed; the text to replace is not in it")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    environment = {**os.environ, "LIGHTUNET_SLICER_MODULE": str(copy), "QT_QPA_PLATFORM": "offscreen"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        PYTHON,
        "-m",
        "pytest",
        "-c",
        TESTS / "slicer_core.ini",
        "--rootdir",
        TESTS,
        "-q",
        "-x",
        "-k",
        fault.tests,
    ]
    try:
        done = subprocess.run(
            [*command, TESTS / "inside"], capture_output=True, env=environment, timeout=180, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    if done.returncode == 5:
        raise SystemExit(f"{fault.title}: no test matches {fault.tests}")
    return done.returncode != 0


def main() -> int:
    """Plant each fault; print which ones were caught."""
    parser = argparse.ArgumentParser(description="Plant faults into the Slicer module and see its tests fail.")
    parser.add_argument("numbers", type=int, nargs="*", metavar="NUMBER", help=f"1 to {len(FAULTS)} (all)")
    numbers = parser.parse_args().numbers
    if not all(1 <= number <= len(FAULTS) for number in numbers):
        parser.error(f"expected numbers of 1 to {len(FAULTS)}")
    if not PYTHON.exists():
        print("skipped: .venv-slicer is missing; make it with scripts/setup_slicer_tests.sh")
        return 0
    chosen = set(numbers) or set(range(1, len(FAULTS) + 1))
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, fault in enumerate(FAULTS, start=1):
            if number not in chosen:
                continue
            caught = is_caught(fault, Path(folder))
            survived += not caught
            print(f"{number:2d} {'caught  ' if caught else 'SURVIVED'} {fault.title}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} faults caught")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
