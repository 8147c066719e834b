"""Expression of cells: from an AnnData, on disk or in memory, to rows in model gene order.

Importing this package loads NumPy alone; what reads files is imported when a file is read.
"""

from scgenept_rt.expression.control_cells import ControlCells
from scgenept_rt.expression.opened_cells import OpenedCells, check_source, open_cells
from scgenept_rt.expression.reading import read_control_cells
from scgenept_rt.expression.sampling import Sampling
from scgenept_rt.expression.values_array import from_array
from scgenept_rt.options import ReadOptions, SamplingMode

__all__ = [
    "ControlCells",
    "OpenedCells",
    "ReadOptions",
    "Sampling",
    "SamplingMode",
    "check_source",
    "from_array",
    "open_cells",
    "read_control_cells",
]
