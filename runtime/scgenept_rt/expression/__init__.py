"""Expression of cells: from an AnnData, on disk or in memory, to rows in model gene order.

Importing this package loads NumPy alone; what reads files is imported when a file is read.
"""

from scgenept_rt.expression.control_cells import ControlCells, read_control_cells
from scgenept_rt.expression.groups import Sampling
from scgenept_rt.expression.opened_cells import OpenedCells, check_source, open_cells

__all__ = [
    "ControlCells",
    "OpenedCells",
    "Sampling",
    "check_source",
    "open_cells",
    "read_control_cells",
]
