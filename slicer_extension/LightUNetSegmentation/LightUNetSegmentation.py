"""Registers the module with 3D Slicer; everything else stands in LightUNetSegmentationLib."""

from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest

from LightUNetSegmentationLib.logic import LightUNetSegmentationLogic  # noqa: F401 - Slicer looks for it here
from LightUNetSegmentationLib.widget import LightUNetSegmentationWidget  # noqa: F401 - Slicer looks for it here


class LightUNetSegmentation(ScriptedLoadableModule):
    """Title, category and help of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("LightUNet Breast CT Segmentation")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "Sequences", "SubjectHierarchy"]
        self.parent.contributors = ["lightunet_monai contributors"]
        self.parent.helpText = _(
            "Draws lesions in breast CT volumes and measures them. Research use only, not for diagnosis: the shipped "
            "model was trained on simulated volumes and has not been validated on patients."
        )
        self.parent.acknowledgementText = _("Built on MONAI and on the 2.5-D Swish U-Net described in the model card.")


class LightUNetSegmentationTest(ScriptedLoadableModuleTest):
    """Runs the tests of the folder Testing/Python, which need a complete Slicer."""

    def runTest(self):
        """Run them all."""
        import os
        import runpy

        folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "Testing", "Python")
        path = os.path.join(folder, "LightUNetSegmentationTest.py")
        runpy.run_path(path)["runAll"]()
