"""Tests that need a complete Slicer with the package installed (or a Python chosen in Setup).

Run by ctest, by the developer button *Reload and Test*, or by ``scripts/run_in_slicer.sh``.
"""

import os
import time
import unittest

import qt
import slicer

SECONDS = 600


class LightUNetSegmentationInSlicerTest(unittest.TestCase):
    """From a made volume to a segmentation in the views, with Slicer's own widgets."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def makeVolume(self):
        """Give a volume of fat with a ball of 60 HU."""
        import numpy

        k, j, i = numpy.mgrid[0:24, 0:64, 0:64]
        ball = (i - 40) ** 2 + (j - 24) ** 2 + (2 * (k - 12)) ** 2 < 100
        array = numpy.where(ball, 60, -90).astype(numpy.int16)
        volume = slicer.util.addVolumeFromArray(array, name="Test CT")
        volume.SetSpacing(0.8, 0.8, 1.6)
        return volume

    def widget(self):
        """Open the module and wait until it knows what is installed."""
        slicer.util.selectModule("LightUNetSegmentation")
        widget = slicer.modules.LightUNetSegmentationWidget
        interpreter = os.environ.get("LIGHTUNET_CHILD_PYTHON", "")
        if interpreter:
            widget.ui.interpreterEdit.currentPath = interpreter
        self.wait(lambda: widget.setupPanel.installation.state != "checking", 120)
        if not widget.setupPanel.isReady:
            self.skipTest(widget.setupPanel.summary)
        return widget

    def wait(self, condition, seconds=SECONDS):
        """Let the window work until the condition holds."""
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            slicer.app.processEvents()
            qt.QThread.msleep(10)
        self.assertTrue(condition())

    def test_the_module_is_there_with_its_controls(self):
        slicer.util.selectModule("LightUNetSegmentation")
        widget = slicer.modules.LightUNetSegmentationWidget
        self.assertEqual(widget.ui.deviceCombo.count, 4)
        self.assertEqual(widget.ui.deviceCombo.currentText, "auto")
        self.assertAlmostEqual(widget.ui.thresholdSlider.maximum, 0.99)

    def test_a_click_gives_a_segmentation(self):
        volume = self.makeVolume()
        widget = self.widget()
        widget.ui.inputVolumeSelector.setCurrentNode(volume)
        self.assertTrue(widget.ui.segmentButton.enabled)
        widget.ui.segmentButton.click()
        self.wait(lambda: widget.task is None)
        self.assertIsNone(widget.lastError)
        segmentation = widget.findingsPanel.segmentation
        self.assertIsNotNone(segmentation)
        self.assertIs(segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole()), volume)

    def test_cancel_takes_less_than_a_second(self):
        widget = self.widget()
        widget.ui.inputVolumeSelector.setCurrentNode(self.makeVolume())
        widget.ui.segmentButton.click()
        self.wait(lambda: widget.task.fraction > 0)
        start = time.monotonic()
        widget.ui.cancelButton.click()
        self.assertLess(time.monotonic() - start, 1)
        self.assertIsNone(widget.task)

    def test_closing_the_scene_stops_the_run(self):
        widget = self.widget()
        widget.ui.inputVolumeSelector.setCurrentNode(self.makeVolume())
        widget.ui.segmentButton.click()
        slicer.mrmlScene.Clear(0)
        self.assertIsNone(widget.task)

    def test_choices_are_saved_in_the_scene(self):
        slicer.util.selectModule("LightUNetSegmentation")
        widget = slicer.modules.LightUNetSegmentationWidget
        widget.ui.deviceCombo.currentText = "cpu"
        path = os.path.join(slicer.app.temporaryPath, "lightunet-test.mrml")
        slicer.util.saveScene(path)
        with open(path, encoding="utf-8") as stream:
            self.assertIn("cpu", stream.read())
        os.remove(path)


def runAll():
    """Run the tests; an error is raised if one fails."""
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(LightUNetSegmentationInSlicerTest)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if not result.wasSuccessful():
        raise RuntimeError(f"{len(result.failures) + len(result.errors)} tests failed")
