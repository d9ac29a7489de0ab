"""Stand-in for Slicer's ``ctk``."""

from standin_widgets import CLASSES

ctkPathLineEdit = CLASSES["ctkPathLineEdit"]
