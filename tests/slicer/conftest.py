"""The tests in ``inside`` need slicer-core; they run in its own environment, started by ``test_slicer_environments``."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("slicer") else ["inside/*"]
