"""What every test may rely on."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# The same examples in every run: what fails here fails everywhere, and again.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

# Tests run side by side; threads of one would only wait for those of another.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder of the checkout."""
    return ROOT
