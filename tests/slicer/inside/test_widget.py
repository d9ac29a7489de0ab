"""The window on stand-ins for Qt: every control is wired, and every way out is clean."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import pytest
import qt
import slicer
from LightUNetSegmentationLib import findings_panel
from PySide6 import QtWidgets

from conftest import MODULE, cut, idle, segment, wait

CONTROLS = {
    "QPushButton": "clicked",
    "QCheckBox": "toggled",
    "QTableWidget": "cellClicked",
}


# Wiring


def ui_tree():
    return ElementTree.parse(MODULE / "Resources" / "UI" / "LightUNetSegmentation.ui")


def test_every_control_of_the_file_is_used_by_the_code():
    code = "".join(path.read_text() for path in (MODULE / "LightUNetSegmentationLib").glob("*.py"))
    used = set(re.findall(r"\bui\.(\w+)", code))
    named = {}
    for element in ui_tree().iter("widget"):
        named[element.get("name")] = element
    assert used <= set(named), used - set(named)
    bound = {
        name
        for name, element in named.items()
        if any(one.get("name") == "SlicerParameterName" for one in element.findall("property"))
    }
    containers = {"QLabel", "qMRMLWidget", "ctkCollapsibleButton"}
    unused = {name for name, element in named.items() if element.get("class") not in containers} - used - bound
    assert not unused


def test_every_parameter_is_bound_to_a_control():
    from LightUNetSegmentationLib.parameter_node import LightUNetSegmentationParameterNode

    bound = [one.find("string").text for one in ui_tree().iter("property") if one.get("name") == "SlicerParameterName"]
    assert sorted(bound) == sorted(LightUNetSegmentationParameterNode._parameters)


def test_every_button_has_a_slot(open_module):
    widget = open_module()
    for control in vars(widget.ui).values():
        signal = CONTROLS.get(type(control).__name__)
        if signal:
            assert control.receivers(f"2{signal}({'bool' if signal != 'cellClicked' else 'int,int'})") > 0, control.name


def test_every_node_selector_gets_the_scene(open_module, scene):
    widget = open_module()
    for control in vars(widget.ui).values():
        if type(control).__name__ == "qMRMLNodeComboBox":
            assert control.mrmlScene() is scene, control.name


# From the button to the segment


def test_segment_cannot_be_pressed_without_a_volume(open_module, make_volume):
    widget = open_module()
    assert not widget.ui.segmentButton.enabled
    assert "volume" in widget.ui.segmentButton.toolTip
    widget.ui.inputVolumeSelector.setCurrentNode(make_volume().node)
    assert widget.ui.segmentButton.enabled


def test_a_click_gives_a_segment_its_findings_and_its_views(open_module, make_volume, scene):
    made = make_volume("oblique")
    slices = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    composite = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    widget = open_module()
    segmentation = segment(widget)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "tumor", made.node)
    assert mask.sum() == made.ball.sum()
    table = widget.ui.findingsTable
    assert table.rowCount() == 1
    assert table.item(0, 1).text() == "tumor"
    assert float(table.item(0, 2).text()) > 0.5
    assert composite.GetBackgroundVolumeID() == made.node.GetID()
    assert widget.ui.statusLabel.text == "Done"
    matrix = slices.GetSliceToRAS()
    assert abs(matrix.GetElement(2, 3) - made.centre[2]) < 1


@pytest.fixture
def running(open_module, make_volume, tmp_path, monkeypatch):
    """The window while a slow child runs, and the processes of the child."""
    monkeypatch.setenv("FAKE_CHILD_FILE", str(tmp_path / "children"))
    make_volume()
    widget = open_module("slow")
    widget.ui.segmentButton.click()
    wait(lambda: widget.ui.progressBar.value > 15)
    return widget, [int(word) for word in (tmp_path / "children").read_text().split()]


def test_while_it_runs_only_cancel_can_be_pressed(running):
    widget, _pids = running
    assert not widget.ui.segmentButton.enabled
    assert widget.ui.cancelButton.enabled
    assert "left" in widget.ui.statusLabel.text


def test_cancel_stops_at_once_and_the_module_can_go_on(running, temporary):
    widget, pids = running
    start = time.monotonic()
    widget.ui.cancelButton.click()
    assert time.monotonic() - start < 1
    assert widget.task is None
    assert not any(_alive(pid) for pid in pids)
    assert temporary() == []
    assert widget.ui.segmentButton.enabled
    assert not widget.ui.cancelButton.enabled
    assert "Cancelled" in widget.ui.statusLabel.text


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_crash_is_told_with_its_last_lines(open_module, make_volume, dialogs):
    make_volume()
    widget = open_module("crash")
    widget.ui.segmentButton.click()
    idle(widget)
    assert "exit code 3" in dialogs.errors[0]
    assert "boom" in dialogs.details[0]
    assert "exit code 3" in widget.ui.statusLabel.text
    assert widget.ui.segmentButton.enabled


def test_warnings_of_the_run_are_shown(open_module, make_volume):
    make_volume()
    widget = open_module("warn")
    segment(widget)
    assert "A warning." in widget.ui.statusLabel.text


def test_closing_the_scene_stops_the_run_and_starts_afresh(running, make_volume, scene, temporary):
    widget, pids = running
    scene.Clear(0)
    assert widget.task is None
    assert not any(_alive(pid) for pid in pids)
    assert temporary() == []
    assert widget.parameters is not None
    assert not widget.ui.segmentButton.enabled
    widget.ui.inputVolumeSelector.setCurrentNode(make_volume().node)
    assert widget.parameters.inputVolume is not None


@pytest.mark.parametrize("state", ["ready", "missing"])
def test_closing_the_scene_does_not_stop_an_installation(open_module, monkeypatch, scene, state):
    from LightUNetSegmentationLib import install, setup_panel
    from LightUNetSegmentationLib.job import Job

    widget = open_module()
    code = "import time; time.sleep(1)"
    monkeypatch.setattr(setup_panel, "installTorch", lambda: None)
    monkeypatch.setattr(setup_panel, "startInstall", lambda *_: Job([sys.executable, "-c", code]).start())
    widget.setupPanel.installation = install.Installation(state, "")
    widget.setupPanel.onInstall()
    pid = widget.task.job.processId
    scene.Clear(0)
    assert _alive(pid)
    assert not widget.ui.segmentButton.enabled
    assert widget.ui.cancelButton.enabled
    idle(widget)
    assert widget.lastTask.state == "done"
    assert widget.ui.statusLabel.text == "Installed."
    wait(lambda: widget.setupPanel.installation.state == "ready")


def test_a_volume_that_stays_hidden_never_becomes_the_input(open_module, make_volume, scene):
    made = make_volume(name="CT one")
    widget = open_module()
    segment(widget)
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2  # the other one is the probability map
    scene.RemoveNode(made.node)
    widget.exit()
    widget.enter()
    assert widget.parameters.inputVolume is None
    assert not widget.ui.segmentButton.enabled
    other = make_volume(name="CT two")
    widget.exit()
    widget.enter()
    assert widget.parameters.inputVolume is other.node


def test_after_cleanup_nothing_is_bound_any_more(open_module, make_volume, scene):
    made = make_volume()
    widget = open_module()
    node = widget.parameters.parameterNode
    widget.cleanup()
    widget.ui.deviceCombo.currentText = "cpu"
    assert node.GetParameter("device") != "cpu"
    node.SetParameter("engine", "openvino")
    assert widget.ui.engineCombo.currentText == "auto"
    scene.RemoveNode(made.node)
    assert widget.Observations == []


def test_choices_are_saved_with_the_scene_and_programs_are_not(
    open_module, make_volume, make_interpreter, scene, tmp_path
):
    make_volume(name="CT one")
    widget = open_module()
    widget.ui.interpreterEdit.currentPath = make_interpreter("warn")
    widget.ui.deviceCombo.currentText = "cpu"
    widget.ui.epochsSpinBox.value = 7
    path = tmp_path / "scene.mrml"
    scene.SetRootDirectory(str(tmp_path))
    scene.SetURL(str(path))
    scene.Commit()
    text = path.read_text()
    assert "device cpu" in text
    assert "epochs 7" in text
    assert "python-" not in text
    assert widget.parameters.device == "cpu"


def test_a_script_that_changes_a_parameter_changes_the_control(open_module, make_volume):
    make_volume()
    widget = open_module()
    widget.parameters.device = "cpu"
    widget.parameters.epochs = 3
    assert widget.ui.deviceCombo.currentText == "cpu"
    assert widget.ui.epochsSpinBox.value == 3


# Keeping edits


def test_edits_are_kept_or_replaced_as_the_user_says(open_module, make_volume, dialogs, scene):
    made = make_volume()
    widget = open_module()
    first = segment(widget)
    cut(first, made.node)
    kept = slicer.util.arrayFromSegmentBinaryLabelmap(first, "tumor", made.node).sum()
    widget.parameters.outputSegmentation = first
    dialogs.answer = False
    assert segment(widget) is not first
    assert "edits" in dialogs.questions[0]
    assert slicer.util.arrayFromSegmentBinaryLabelmap(first, "tumor", made.node).sum() == kept
    dialogs.answer = True
    assert segment(widget) is first
    assert slicer.util.arrayFromSegmentBinaryLabelmap(first, "tumor", made.node).sum() == made.ball.sum()
    widget.ui.undoButton.click()
    assert slicer.util.arrayFromSegmentBinaryLabelmap(first, "tumor", made.node).sum() == kept


def test_a_batch_over_the_scene(open_module, make_volume, scene):
    make_volume(name="one")
    make_volume("oblique", name="two")
    widget = open_module()
    widget.ui.scopeCombo.currentText = "all volumes of the scene"
    segment(widget)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 2
    assert widget.ui.statusLabel.text.startswith("2 of 2 volumes segmented")


@pytest.mark.parametrize("scope", ["all volumes of the scene", "all frames of the sequence"])
def test_a_region_and_a_result_to_replace_can_be_chosen_for_one_volume_alone(open_module, make_volume, scope):
    make_volume()
    widget = open_module()
    selectors = (widget.ui.roiSelector, widget.ui.outputSegmentationSelector)
    for text, isUsed in (("this volume", True), (scope, False)):
        widget.ui.scopeCombo.currentText = text
        assert [selector.enabled for selector in selectors] == [isUsed, isUsed]


# Findings


def test_the_threshold_slider_redraws_when_it_rests(open_module, make_volume):
    made = make_volume()
    widget = open_module()
    segmentation = segment(widget)
    widget.ui.thresholdSlider.value = 0.03
    widget.ui.thresholdSlider.value = 0.87
    wait(lambda: "Threshold 0.87" in widget.ui.statusLabel.text)
    small = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "tumor", made.node).sum()
    assert 0 < small < made.ball.sum()
    assert segmentation.GetAttribute("LightUNet.Threshold") == "0.87"


def test_the_slider_goes_back_where_edits_would_be_lost(open_module, make_volume):
    made = make_volume()
    widget = open_module()
    segmentation = segment(widget)
    cut(segmentation, made.node)
    widget.ui.thresholdSlider.value = 0.03
    wait(lambda: "edits" in widget.ui.statusLabel.text)
    assert widget.ui.thresholdSlider.value == 0.5


def test_a_click_on_a_lesion_brings_the_views_to_it(open_module, make_volume, scene):
    made = make_volume()
    view = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    widget = open_module()
    segment(widget)
    view.JumpSliceByCentering(0, 0, 0)
    widget.ui.findingsTable.cellClicked.emit(0, 2)
    matrix = view.GetSliceToRAS()
    assert abs(matrix.GetElement(2, 3) - made.centre[2]) < 1


def test_the_table_is_copied_and_saved_and_measured_again(open_module, make_volume, tmp_path):
    made = make_volume()
    widget = open_module()
    segmentation = segment(widget)
    widget.ui.copyTextButton.click()
    text = QtWidgets.QApplication.clipboard().text()
    assert text.splitlines()[0].startswith("No.\tStructure\tVolume (ml)")
    assert text.endswith("Research use only.")
    cut(segmentation, made.node)
    widget.ui.measureButton.click()
    assert "as edited" in widget.ui.statusLabel.text
    qt.QFileDialog.answers = [str(tmp_path / "findings.csv")]
    widget.ui.saveCsvButton.click()
    header, row = (tmp_path / "findings.csv").read_text().splitlines()
    values = dict(zip(header.split(","), row.split(","), strict=True))
    left = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "tumor", made.node).sum()
    assert float(values["volume_ml"]) == pytest.approx(left * 0.8 * 0.8 * 2 / 1000, abs=1e-3)


def test_the_surface_can_be_hidden(open_module, make_volume):
    make_volume()
    widget = open_module()
    segmentation = segment(widget)
    widget.ui.show3DCheckBox.click()
    assert not segmentation.GetDisplayNode().GetVisibility3D()


def test_dicom_export_needs_a_series(open_module, make_volume, dialogs, tmp_path):
    make_volume()
    widget = open_module()
    segment(widget)
    qt.QFileDialog.answers = [str(tmp_path)]
    widget.ui.exportDicomButton.click()
    assert "not loaded from DICOM" in dialogs.errors[0]


def test_dicom_export_needs_the_package(open_module, make_volume, make_interpreter):
    make_volume()
    widget = open_module()
    segment(widget)
    assert widget.ui.exportDicomButton.enabled
    widget.ui.interpreterEdit.currentPath = make_interpreter("missing")
    wait(lambda: widget.setupPanel.installation.state == "missing")
    assert not widget.ui.exportDicomButton.enabled
    assert "not installed" in widget.ui.exportDicomButton.toolTip


def test_an_edited_result_is_exported_with_one_press(open_module, make_volume, dialogs, tmp_path, monkeypatch):
    made = make_volume()
    (tmp_path / "one.dcm").write_bytes(b"x")
    database = SimpleNamespace(fileForInstance=lambda name: str(tmp_path / "one.dcm"))
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    made.node.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    widget = open_module()
    segmentation = segment(widget)
    cut(segmentation, made.node)
    qt.QFileDialog.answers = [str(tmp_path / "out")]
    widget.ui.exportDicomButton.click()
    assert not widget.ui.exportDicomButton.enabled
    idle(widget)
    assert dialogs.errors == []
    assert sorted(os.listdir(tmp_path / "out")) == ["findings_sr.dcm", "segmentation.dcm"]
    assert "Written: findings_sr.dcm, segmentation.dcm" in widget.ui.statusLabel.text


def test_an_export_goes_on_when_the_scene_closes(open_module, make_volume, dialogs, scene, tmp_path, monkeypatch):
    made = make_volume()
    (tmp_path / "one.dcm").write_bytes(b"x")
    database = SimpleNamespace(fileForInstance=lambda name: str(tmp_path / "one.dcm"))
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    made.node.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    widget = open_module()
    segment(widget)
    qt.QFileDialog.answers = [str(tmp_path / "out")]
    widget.ui.exportDicomButton.click()
    scene.Clear(0)
    idle(widget)
    assert dialogs.errors == []
    assert sorted(os.listdir(tmp_path / "out")) == ["findings_sr.dcm", "segmentation.dcm"]


# Setup


def test_a_missing_package_is_said_and_shown(open_module, make_volume):
    make_volume()
    widget = open_module("missing")
    assert widget.setupPanel.installation.state == "missing"
    assert "not installed" in widget.ui.installationLabel.text
    assert not widget.ui.segmentButton.enabled
    assert "not installed" in widget.ui.segmentButton.toolTip
    assert widget.ui.setupCollapsible.collapsed is False


def test_the_model_card_comes_from_the_package(open_module):
    widget = open_module()
    assert "fake model 9.9" in widget.ui.modelCardText.plainText
    assert "1 Breast mass" in widget.ui.modelCardText.plainText


def test_another_python_is_used_at_once(open_module, make_interpreter):
    widget = open_module("missing")
    widget.ui.interpreterEdit.currentPath = make_interpreter("ok")
    wait(lambda: widget.setupPanel.isReady)


def test_diagnostics_hold_nothing_of_the_patient(open_module, make_volume, dialogs):
    make_volume(name="DOE^JANE 1961")
    widget = open_module("crash")
    widget.ui.segmentButton.click()
    idle(widget)
    widget.ui.diagnosticsButton.click()
    text = QtWidgets.QApplication.clipboard().text()
    assert "boom" in text
    assert "5.12.4" in text
    assert "JANE" not in text
    assert os.path.expanduser("~") not in text


def test_diagnostics_hold_nothing_of_the_folders_that_are_set(open_module, dialogs, tmp_path):
    from LightUNetSegmentationLib.errors import ModuleError

    widget = open_module(cases=tmp_path / "Mueller, Eva")
    widget.ui.wheelFolderEdit.currentPath = r"D:\Wheels\Doe Jane"
    widget.report(ModuleError("mueller, eva and Doe Jane and python-ok did not answer."))
    widget.ui.diagnosticsButton.click()
    assert "Error: <name> and <name> and <name> did not answer." in QtWidgets.QApplication.clipboard().text()
    assert "read the text" in widget.ui.statusLabel.text


# Learning


def test_from_corrected_cases_to_a_new_model_and_back(open_module, make_volume, tmp_path, scene):
    made = make_volume(name="CT one")
    widget = open_module()
    segmentation = segment(widget)
    assert not widget.ui.fineTuneButton.enabled
    widget.ui.saveCaseButton.click()
    cut(segmentation, made.node)
    widget.ui.saveCaseButton.click()
    assert "1 cases for training, 1 for validation" in widget.ui.casesLabel.text
    widget.ui.fineTuneButton.click()
    wait(lambda: not widget.learningPanel.training.isRunning)
    wait(lambda: widget.ui.modelCombo.count == 3)
    assert [row[0] for row in widget.learningPanel.curves.rows()] == [1, 2, 3]
    assert widget.learningPanel.curves.rows()[2][2] == pytest.approx(0.6)
    assert widget.learningPanel.model == ""
    widget.ui.modelCombo.setCurrentIndex(2)
    assert not widget.ui.segmentButton.enabled  # until the package has said what the model's labels are
    wait(lambda: widget.setupPanel.isReady)
    assert widget.learningPanel.model.endswith("bundle")
    assert "--bundle" in widget.logic.makeTask(
        widget.parameters, model=widget.learningPanel.model
    ).parameters.toArguments("a", "b")
    widget.ui.compareButton.click()
    idle(widget)
    assert "Dice of both 1.000" in widget.ui.trainingLabel.text
    widget.ui.rollBackButton.click()
    assert widget.learningPanel.model == ""
    assert widget.ui.modelCombo.currentIndex == 0


def test_places_of_which_the_model_was_not_sure_can_be_looked_at_one_after_the_other(
    open_module, make_volume, scene, monkeypatch
):
    places = [{"probability": p, "volume_ml": 0.1, "place_ras_mm": [p, -10.0, 5.0]} for p in (0.38, 0.2)]
    monkeypatch.setenv("FAKE_DOUBTFUL", json.dumps(places))
    made = make_volume(name="CT one")
    widget = open_module()
    assert widget.ui.nextDoubtfulButton.isHidden()
    segmentation = segment(widget)
    assert "2 places, probability 0.38" in widget.ui.doubtfulLabel.text
    assert not widget.ui.nextDoubtfulButton.isHidden()
    seen = []
    monkeypatch.setattr(findings_panel, "jumpTo", lambda place, node: seen.append(place))
    for _ in range(3):
        widget.ui.nextDoubtfulButton.click()
    assert seen == [places[0]["place_ras_mm"], places[1]["place_ras_mm"], places[0]["place_ras_mm"]]
    assert "Doubtful place 1 of 2" in widget.ui.statusLabel.text
    widget.ui.thresholdSlider.value = 0.3  # what another threshold leaves out was not told
    wait(widget.ui.nextDoubtfulButton.isHidden)
    widget.ui.modelThresholdButton.click()
    assert not widget.ui.nextDoubtfulButton.isHidden()
    cut(segmentation, made.node)
    widget.ui.measureButton.click()
    assert widget.ui.nextDoubtfulButton.isHidden()
    assert widget.ui.doubtfulLabel.text == ""


def test_a_result_with_tissues(open_module, make_volume, dialogs, scene):
    made = make_volume(name="CT one")
    widget = open_module()
    plain = segment(widget)
    assert widget.ui.show3DCheckBox.checked
    assert widget.ui.densityLabel.text == ""
    widget.ui.modelCombo.setCurrentIndex(1)
    wait(lambda: widget.setupPanel.isReady)
    assert [label["name"] for label in widget.setupPanel.labels] == ["tumor", "adipose"]
    widget.parameters.outputSegmentation = None
    tissues = segment(widget)
    assert tissues is not plain
    assert [lesion["label"] for lesion in widget.findingsPanel.lesions] == ["tumor"]
    widget.ui.measureButton.click()
    assert [lesion["voxels"] for lesion in widget.findingsPanel.lesions] == [made.ball.sum()]
    assert not widget.ui.thresholdSlider.enabled
    assert "tissue" in widget.ui.thresholdSlider.toolTip
    assert "23%" in widget.ui.densityLabel.text
    # the surfaces of tissues are not built before somebody asks for the view, and hide nothing then
    assert not widget.ui.show3DCheckBox.checked
    assert not tissues.GetSegmentation().ContainsRepresentation("Closed surface")
    widget.ui.show3DCheckBox.click()
    display = tissues.GetDisplayNode()
    assert display.GetVisibility3D()
    assert (display.GetSegmentVisibility3D("tumor"), display.GetSegmentVisibility3D("adipose")) == (True, False)
    assert display.GetSegmentOpacity2DFill("tumor") > display.GetSegmentOpacity2DFill("adipose") > 0
    assert tissues.GetSegmentation().ContainsRepresentation("Closed surface")
    cut(tissues, made.node)
    widget.ui.measureButton.click()
    assert widget.ui.densityLabel.text == ""  # what the model measured is no longer true
    # the model in use decides which labels a case may have
    widget.ui.modelCombo.setCurrentIndex(0)
    wait(lambda: widget.setupPanel.isReady)
    widget.ui.saveCaseButton.click()
    assert "no label for adipose" in dialogs.errors[-1]


def test_a_training_that_fails_is_told(open_module, make_volume, dialogs):
    make_volume()
    widget = open_module("crash")
    panel = widget.learningPanel
    os.makedirs(panel.folder)
    with open(os.path.join(panel.folder, "datalist.json"), "w") as stream:
        stream.write('{"labels": {}, "training": [{}], "validation": [{}]}')
    widget.refresh()
    widget.ui.fineTuneButton.click()
    wait(lambda: dialogs.errors)
    assert "memory" in dialogs.errors[0]
    assert widget.ui.fineTuneButton.enabled


def test_a_folder_that_cannot_be_written_is_told(open_module, make_volume, dialogs, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")  # in the place of a folder
    made, widget = make_volume(), open_module(cases=tmp_path / "file" / "cases")
    segment(widget)
    widget.ui.saveCaseButton.click()
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(tmp_path / "file" / "findings.csv"))
    widget.ui.saveCsvButton.click()
    (tmp_path / "slice.dcm").write_bytes(b"slice")
    made.node.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    database = SimpleNamespace(fileForInstance=lambda _uid: str(tmp_path / "slice.dcm"))
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "file" / "dicom"))
    widget.ui.exportDicomButton.click()
    idle(widget)
    assert len(dialogs.errors) == 3
    assert all("cannot be written" in text for text in dialogs.errors)


def test_the_list_shows_the_model_that_is_used_also_where_it_cannot_be_kept(
    open_module, dialogs, tmp_path, monkeypatch
):
    from LightUNetSegmentationLib.models import ModelList

    widget = open_module()
    panel = widget.learningPanel
    panel.models.choose("tissues")
    panel.fillModels()
    os.mkdir(os.path.join(panel.folder, "models.json.part"))  # in the place of the file
    widget.ui.modelCombo.setCurrentIndex(0)
    assert (panel.model, widget.ui.modelCombo.currentIndex) == ("tissues", 1)
    widget.refresh()
    widget.ui.rollBackButton.click()
    assert (panel.model, widget.ui.modelCombo.currentIndex) == ("tissues", 1)
    panel.training = SimpleNamespace(
        isRunning=False, error=None, modelFolder=str(tmp_path / "new" / "bundle"), bestDice=0.5, cancel=lambda: None
    )
    panel._endTraining()
    assert str(tmp_path / "new") in widget.ui.trainingLabel.text
    assert len(dialogs.errors) == 3
    assert all("models.json cannot be written" in text for text in dialogs.errors)
    assert ModelList(panel.folder).current == "tissues"
    wait(lambda: widget.setupPanel.isReady)


def test_a_model_that_was_deleted_meanwhile_does_not_make_another_one_used(open_module, dialogs, tmp_path):
    widget = open_module()
    panel = widget.learningPanel
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        panel.models.add(str(tmp_path / name), name)
    panel.fillModels()
    (tmp_path / "one").rmdir()
    widget.ui.modelCombo.setCurrentIndex(2)
    assert "no longer there" in dialogs.errors[0]
    assert (panel.model, widget.ui.modelCombo.currentIndex) == ("", 0)
    wait(lambda: widget.setupPanel.isReady)


def test_a_comparison_stays_with_the_volume_it_began_with(open_module, make_volume):
    one, widget = make_volume(name="CT one"), open_module()
    segment(widget)
    two = make_volume(name="CT two", origin=(500.0, 500.0, 500.0))
    widget.ui.inputVolumeSelector.setCurrentNode(one.node)
    for other in (two.node, None):
        widget.ui.compareButton.click()
        widget.ui.inputVolumeSelector.setCurrentNode(other)
        idle(widget)
        assert not widget.ui.cancelButton.enabled
        assert "CT two" not in widget.ui.trainingLabel.text
        names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")]
        assert not [name for name in names if name.startswith("CT two")]
        widget.ui.inputVolumeSelector.setCurrentNode(one.node)


@pytest.mark.parametrize("code", ["import time; time.sleep(30)", "raise SystemExit(1)"])
def test_after_an_installation_that_did_not_end_well_the_package_is_asked_again(open_module, monkeypatch, code):
    from LightUNetSegmentationLib import setup_panel
    from LightUNetSegmentationLib.job import Job

    widget = open_module()
    monkeypatch.setattr(setup_panel, "installTorch", lambda: None)
    monkeypatch.setattr(setup_panel, "startInstall", lambda *_: Job([sys.executable, "-c", code]).start())
    widget.setupPanel.onInstall()
    assert widget.setupPanel.installation.state == "ready"
    if "sleep" in code:
        widget.ui.cancelButton.click()
    idle(widget)
    assert widget.setupPanel.installation.state == "checking"
    wait(lambda: widget.setupPanel.installation.state == "ready")


@pytest.mark.parametrize("isInstalled", [False, True])
def test_a_torch_that_cannot_be_installed_is_told(open_module, dialogs, monkeypatch, isInstalled):
    from LightUNetSegmentationLib import install

    def installTorch(**_):
        raise subprocess.CalledProcessError(1, ["light-the-torch"])

    logic = SimpleNamespace(torchInstalled=lambda: isInstalled, installTorch=installTorch)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", SimpleNamespace(PyTorchUtilsLogic=lambda: logic))
    monkeypatch.setattr(install, "installedVersions", lambda *_: {"torch": "2.9.1"})
    widget = open_module()
    widget.setupPanel.onInstall()
    assert widget.task is None
    (text,) = dialogs.errors
    assert ("PyTorch 2.9.1 is installed" if isInstalled else "PyTorch was not installed") in text
    assert "PyTorch Utils" in text


def test_a_run_without_room_for_temporary_files_is_told(open_module, make_volume, dialogs, monkeypatch):
    def full(*_words, **_options):
        raise OSError(28, "No space left on device")

    make_volume()
    widget = open_module()
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    widget.ui.segmentButton.click()
    assert widget.task is None
    assert "No space left on device" in dialogs.errors[0]


@pytest.mark.parametrize(
    "error", [RuntimeError("the user declined"), subprocess.CalledProcessError(1, ["pip"])], ids=["declined", "failed"]
)
def test_an_installation_that_slicer_could_not_do_is_told(open_module, dialogs, monkeypatch, error):
    from LightUNetSegmentationLib import install, setup_panel

    def pip_ensure(*_, **__):
        raise error

    widget = open_module()
    monkeypatch.setattr(setup_panel, "installTorch", lambda: None)
    monkeypatch.setattr(install, "_slicerPackaging", lambda: SimpleNamespace(pip_ensure=pip_ensure))
    widget.setupPanel.installation = install.Installation("missing", "The package is not installed.")
    widget.setupPanel.onInstall()
    assert len(dialogs.errors) == 1
    assert "was not installed" in dialogs.errors[0]
