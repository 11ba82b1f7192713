"""Left-atrium phantoms: synthetic late-enhancement scans with labels, for demonstrations and tests. No real data."""

from .cohort import make_cohort
from .phantom import SPACING_MM, Phantom, make_phantom
from .scanner import SITES

__all__ = ["SITES", "SPACING_MM", "Phantom", "make_cohort", "make_phantom"]
