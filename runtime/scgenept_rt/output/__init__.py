"""Where predictions go: an AnnData in memory, or an .h5ad or .zarr file that a killed run can continue."""

from scgenept_rt.output.destination import (
    cells_path,
    check_destination,
    interrupted_settings,
    open_table,
    stored_entry,
    stored_layer,
)
from scgenept_rt.output.merging import merge_shards
from scgenept_rt.output.partial_table import PartialTable, finish_all
from scgenept_rt.output.row_writer import MemoryTable, RowWriter
from scgenept_rt.output.shard import Shard
from scgenept_rt.output.table_spec import TableSpec, cell_eval_table, cells_table, mean_table
from scgenept_rt.output.whole_file import write_whole

__all__ = [
    "MemoryTable",
    "PartialTable",
    "RowWriter",
    "Shard",
    "TableSpec",
    "cell_eval_table",
    "cells_path",
    "cells_table",
    "check_destination",
    "finish_all",
    "interrupted_settings",
    "mean_table",
    "merge_shards",
    "open_table",
    "stored_entry",
    "stored_layer",
    "write_whole",
]
