"""The section Findings: a result changes only when somebody asks for it, and numbers are those of what is shown."""

import time

import numpy as np
import pytest
import qt
import slicer
from LightUNetSegmentationLib.segment_run import SegmentRun
from LightUNetSegmentationLib.sequences import segmentSequence
from PySide6 import QtWidgets

from conftest import cut, idle, segment, wait

SETTLED = 0.5
"""Seconds: twice what the slider rests before the threshold is applied."""


def voxels(segmentation, volume):
    return int(slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "tumor", volume).sum())


def let_it_settle():
    end = time.monotonic() + SETTLED
    while time.monotonic() < end:
        QtWidgets.QApplication.processEvents()
        time.sleep(0.01)


def copied_row(widget):
    widget.ui.copyTextButton.click()
    return QtWidgets.QApplication.clipboard().text().splitlines()[1].split("\t")


def millilitres(segmentation, volume):
    return voxels(segmentation, volume) * 0.8 * 0.8 * 2 / 1000


@pytest.fixture
def odd_threshold(monkeypatch):
    """A threshold of four decimals, and a doubtful piece that lies between it and what a slider can show."""
    monkeypatch.setenv("FAKE_THRESHOLD", "0.0834")
    monkeypatch.setenv("FAKE_PLATEAU", "0.0831")


def test_a_result_does_not_change_when_the_user_comes_back(odd_threshold, open_module, make_volume):
    made, widget = make_volume(), open_module()
    widget.ui.segmentButton.click()
    widget.exit()
    idle(widget)
    segmentation = widget.findingsPanel.segmentation
    before = voxels(segmentation, made.node)
    for _ in range(2):
        widget.enter()
        let_it_settle()
        assert segmentation.GetAttribute("LightUNet.Threshold") == "0.0834"
        assert voxels(segmentation, made.node) == before
        assert widget.ui.thresholdSlider.value == pytest.approx(0.083)
        widget.exit()


def test_the_slider_goes_away_and_back_to_the_result_of_the_model(odd_threshold, open_module, make_volume):
    made, widget = make_volume(), open_module()
    segmentation = segment(widget)
    before, shown = voxels(segmentation, made.node), widget.ui.thresholdSlider.value
    assert not widget.ui.modelThresholdButton.enabled
    widget.ui.thresholdSlider.value = 0.05
    wait(lambda: "Threshold 0.050" in widget.ui.statusLabel.text)
    assert voxels(segmentation, made.node) > before
    widget.ui.thresholdSlider.value = shown
    wait(lambda: "Threshold 0.083" in widget.ui.statusLabel.text)
    assert voxels(segmentation, made.node) == before
    assert segmentation.GetAttribute("LightUNet.Threshold") == "0.0834"


def test_a_button_goes_back_to_the_threshold_of_the_model(odd_threshold, open_module, make_volume):
    made, widget = make_volume(), open_module()
    segmentation = segment(widget)
    before = voxels(segmentation, made.node)
    for value in (0.05, 0.5):
        widget.ui.thresholdSlider.value = value
        wait(lambda value=value: f"Threshold {value:.3f}" in widget.ui.statusLabel.text)
    widget.ui.modelThresholdButton.click()
    assert segmentation.GetAttribute("LightUNet.Threshold") == "0.0834"
    assert voxels(segmentation, made.node) == before
    assert widget.ui.thresholdSlider.value == pytest.approx(0.083)
    assert not widget.ui.modelThresholdButton.enabled


def test_moves_of_the_slider_are_undone_in_one_step_and_segments_of_the_user_stay(open_module, make_volume):
    made, widget = make_volume(), open_module()
    segmentation = segment(widget)
    before = voxels(segmentation, made.node)
    for value in (0.03, 0.87):
        widget.ui.thresholdSlider.value = value
        wait(lambda value=value: f"Threshold {value:.3f}" in widget.ui.statusLabel.text)
    segmentation.GetSegmentation().AddEmptySegment("mine", "Nipple")
    assert widget.ui.undoButton.enabled
    widget.ui.undoButton.click()
    assert voxels(segmentation, made.node) == before
    assert widget.ui.thresholdSlider.value == 0.5
    assert not widget.ui.undoButton.enabled
    assert segmentation.GetSegmentation().GetSegment("mine").GetName() == "Nipple"


def test_edits_after_a_threshold_are_not_undone_without_a_question(open_module, make_volume, dialogs):
    made, widget = make_volume(), open_module()
    segmentation = segment(widget)
    widget.ui.thresholdSlider.value = 0.3
    wait(lambda: "Threshold 0.300" in widget.ui.statusLabel.text)
    cut(segmentation, made.node)
    kept, dialogs.answer = voxels(segmentation, made.node), False
    widget.ui.undoButton.click()
    assert "edits would be lost" in dialogs.questions[0]
    assert voxels(segmentation, made.node) == kept


# Numbers


def test_what_is_copied_after_an_edit_is_measured_again(open_module, make_volume):
    made, widget = make_volume(), open_module()
    segmentation = segment(widget)
    assert copied_row(widget)[2] == f"{millilitres(segmentation, made.node):.2f}"
    assert widget.ui.statusLabel.text == "Copied."
    cut(segmentation, made.node)
    assert copied_row(widget)[2] == f"{millilitres(segmentation, made.node):.2f}"
    assert "Measured again" in widget.ui.statusLabel.text
    assert widget.ui.findingsTable.item(0, 2).text() == f"{millilitres(segmentation, made.node):.2f}"
    copied_row(widget)
    assert widget.ui.statusLabel.text == "Copied."


def test_what_is_saved_after_an_edit_is_measured_again(open_module, make_volume, tmp_path):
    made, widget = make_volume(), open_module()
    segmentation = segment(widget)
    cut(segmentation, made.node)
    qt.QFileDialog.answers = [str(tmp_path / "findings.csv")]
    widget.ui.saveCsvButton.click()
    header, row = (tmp_path / "findings.csv").read_text().splitlines()
    values = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(values["volume_ml"]) == pytest.approx(millilitres(segmentation, made.node), abs=1e-3)
    assert "Measured again" in widget.ui.statusLabel.text


def test_a_click_on_a_lesion_that_was_edited_measures_it_again(open_module, make_volume):
    made, widget = make_volume(), open_module()
    segmentation = segment(widget)
    cut(segmentation, made.node)
    widget.ui.findingsTable.cellClicked.emit(0, 2)
    assert widget.ui.findingsTable.item(0, 2).text() == f"{millilitres(segmentation, made.node):.2f}"
    assert "Measured again" in widget.ui.statusLabel.text


def test_who_comes_back_from_an_edit_is_told_that_the_numbers_are_old(open_module, make_volume):
    made, widget = make_volume(), open_module()
    segmentation = segment(widget)
    assert widget.ui.editedLabel.text == ""
    widget.exit()
    cut(segmentation, made.node)
    widget.enter()
    assert "not as they were when they were measured" in widget.ui.editedLabel.text
    widget.ui.measureButton.click()
    assert widget.ui.editedLabel.text == ""
    widget.exit()
    widget.enter()
    assert widget.ui.editedLabel.text == ""


def test_a_result_from_a_file_is_measured_before_it_is_copied(open_module, make_volume, through_file):
    made, widget = make_volume(), open_module()
    segmentation = segment(widget)
    expected = copied_row(widget)[2]
    again = through_file(segmentation)
    again.SetReferenceImageGeometryParameterFromVolumeNode(made.node)
    widget.parameters.resultSegmentation = again
    assert "measured" in widget.ui.editedLabel.text
    assert copied_row(widget)[2] == expected


def test_another_frame_of_a_sequence_shows_its_own_numbers(open_module, make_volume, make_interpreter, scene):
    frames = [make_volume(name="frame", origin=(0.0, 0.0, 10.0 * n), hu=60 if n == 0 else 21) for n in range(2)]
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "CT frames")
    for number, frame in enumerate(frames):
        sequence.SetDataNodeAtValue(frame.node, str(number))
        scene.RemoveNode(frame.node)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.AddSynchronizedSequenceNode(sequence)
    logic = slicer.modules.sequences.logic()
    logic.UpdateProxyNodesFromSequences(browser)
    volume, interpreter, widget = browser.GetProxyNode(sequence), make_interpreter(), open_module()
    segmentSequence(volume, lambda frame: SegmentRun(frame, interpreter=interpreter)).start().wait()
    (results,) = [node for node in slicer.util.getNodesByClass("vtkMRMLSequenceNode") if node is not sequence]
    segmentation = browser.GetProxyNode(results)
    widget.parameters.resultSegmentation = segmentation
    table, shown = widget.ui.findingsTable, []
    for number in (0, 1, 0):
        browser.SetSelectedItemNumber(number)
        logic.UpdateProxyNodesFromSequences(browser)
        QtWidgets.QApplication.processEvents()
        shown.append([table.item(row, 2).text() for row in range(table.rowCount())])
        assert shown[-1] == [f"{volume_ml:.2f}" for volume_ml in recorded(segmentation)]
    assert shown[0] != shown[1]
    assert shown[0] == shown[2]


def recorded(segmentation):
    import json

    return [lesion["volume_ml"] for lesion in json.loads(segmentation.GetAttribute("LightUNet.Findings"))]


def test_findings_that_a_script_writes_are_shown(open_module, make_volume):
    make_volume()
    widget = open_module()
    segmentation = segment(widget)
    segmentation.SetAttribute("LightUNet.Findings", "[]")
    QtWidgets.QApplication.processEvents()
    assert widget.ui.findingsTable.rowCount() == 0
    assert np.isclose(widget.ui.thresholdSlider.value, 0.5)
