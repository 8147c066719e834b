"""Where predictions go: an AnnData in memory, or an .h5ad or .zarr file that a killed run can continue."""

from scgenept_rt.output.destination import (
    cells_path,
    check_destination,
    find_unfinished,
    open_table,
    stored_entry,
    stored_layer,
)
from scgenept_rt.output.merging import find_parts, merge_shards
from scgenept_rt.output.partial_table import PartialTable, finish_all
from scgenept_rt.output.row_writer import MemoryTable, RowWriter
from scgenept_rt.output.shard import Shard, output_of_part
from scgenept_rt.output.table_spec import TableSpec, cells_table, mean_table
from scgenept_rt.output.whole_file import write_whole

__all__ = [
    "MemoryTable",
    "PartialTable",
    "RowWriter",
    "Shard",
    "TableSpec",
    "cells_path",
    "cells_table",
    "check_destination",
    "find_parts",
    "find_unfinished",
    "finish_all",
    "mean_table",
    "merge_shards",
    "open_table",
    "output_of_part",
    "stored_entry",
    "stored_layer",
    "write_whole",
]
