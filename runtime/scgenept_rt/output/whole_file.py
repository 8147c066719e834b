"""A small AnnData that is written to an .h5ad file in one go: the file appears when it is whole, or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np

from scgenept_rt.errors import OutputError, OutputUnfinishedError
from scgenept_rt.output.partial_table import reason, sync_data, write_fully
from scgenept_rt.output.work_directory import WorkDirectory

if TYPE_CHECKING:
    from anndata import AnnData


def write_whole(adata: AnnData, path: Path, *, compression: Literal["gzip"] | None = None) -> None:
    """Write an AnnData to an .h5ad file, in the place of one that is there.

    Raises
    ------
    OutputUnfinishedError
        If it cannot be written; nothing is left behind.
    OutputBusyError
        If another process is writing it.
    """
    from anndata.io import write_elem

    options: dict[str, Any] = {} if compression is None else {"compression": compression}
    # In memory first: HDF5 itself then never meets a full disk, after which old versions of it end the process.
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        write_elem(file, "/", adata, dataset_kwargs=options)
        if adata.raw is None and "raw" in file:
            del file["raw"]  # an empty entry, which AnnData.write_h5ad leaves out
    try:
        work = WorkDirectory.lock(path)
        try:
            with work.data.open("wb", buffering=0) as stream:
                write_fully(stream, 0, np.frombuffer(made.getbuffer(), dtype=np.uint8))
                sync_data(stream)
            work.data.replace(path)
        finally:
            work.remove()
    except OutputError:
        raise
    except OSError as error:
        raise OutputUnfinishedError(path, reason(error)) from error
