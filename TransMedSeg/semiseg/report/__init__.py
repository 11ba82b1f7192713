"""One self-contained HTML page about a run."""

from .page import write_report
from .tables import score_table

__all__ = ["score_table", "write_report"]
