"""Expression of control cells: from any AnnData, on disk or in memory, to rows in model gene order.

Importing this package loads NumPy alone; what reads files is imported when a file is read.
"""

from scgenept_rt.expression.control_cells import ControlCells
from scgenept_rt.expression.reading import ReadOptions, read_control_cells
from scgenept_rt.expression.sampling import Sampling, SamplingMode
from scgenept_rt.expression.values_array import from_array

__all__ = ["ControlCells", "ReadOptions", "Sampling", "SamplingMode", "from_array", "read_control_cells"]
