"""Check whether cells will work with a bundle, without predicting them: `scgenept-rt check`."""

from scgenept_rt.compatibility.check_cells import Report, check_cells
from scgenept_rt.compatibility.checks import Finding, summarize_cells

__all__ = ["Finding", "Report", "check_cells", "summarize_cells"]
