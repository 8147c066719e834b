"""Whether a file of cells will work with a bundle, found out without a prediction: `scgenept-rt check`."""

from scgenept_rt.compatibility.findings import Finding
from scgenept_rt.compatibility.report import Report, check_cells

__all__ = ["Finding", "Report", "check_cells"]
