"""Breast phantoms for `phantom_study.py`; nothing here comes from the package's own simulator."""
