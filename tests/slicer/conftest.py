"""The tests in ``inside`` need slicer-core; they run in its environment, started by ``test_slicer_environments``."""

from importlib.util import find_spec

# "slicer" would find this folder.
collect_ignore = [] if find_spec("slicer_core") else ["inside"]
