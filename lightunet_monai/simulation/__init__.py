"""A breast, its lesions and a scanner: labelled breast CT volumes from a seed."""

from .case import SimulatedCase, simulate_case
from .lesions import Lesion
from .recipes import RECIPES
from .settings import SIMULATOR_VERSION, SimulationSettings
from .tissues import Tissue

__all__ = ["RECIPES", "SIMULATOR_VERSION", "Lesion", "SimulatedCase", "SimulationSettings", "Tissue", "simulate_case"]
