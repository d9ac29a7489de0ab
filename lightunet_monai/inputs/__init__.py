"""A study on disk becomes one checked volume."""
