"""Started by ``run_in_slicer.sh`` in a complete Slicer: runs the module's tests and ends with their exit code."""

import runpy
import sys
import traceback
from pathlib import Path

TESTS = "slicer_extension/LightUNetSegmentation/Testing/Python/LightUNetSegmentationTest.py"


def main() -> int:
    """Run the tests."""
    try:
        runpy.run_path(str(Path(__file__).resolve().parents[1] / TESTS))["runAll"]()
    except Exception:  # the exit code has to reach the caller of Slicer
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
