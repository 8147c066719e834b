"""Check whether cells will work with a bundle, without predicting them: `scgenept-rt check`."""

from scgenept_rt.compatibility.cells_summary import summarize_cells
from scgenept_rt.compatibility.check_cells import Report, check_cells
from scgenept_rt.compatibility.checks import Finding

__all__ = ["Finding", "Report", "check_cells", "summarize_cells"]
