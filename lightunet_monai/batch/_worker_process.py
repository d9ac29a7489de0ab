"""Entry of a worker process: it only runs the model, so it leaves out most of MONAI when it starts."""

import sys

from ..inference.startup import quicken_monai

quicken_monai()

from .worker import main  # noqa: E402

main(int(sys.argv[1]))
