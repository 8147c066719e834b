"""A small AnnData that is written to an .h5ad file at once: the file appears when it is whole, or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from scgenept_rt.files.durable import write_durably
from scgenept_rt.files.failures import failed_writes

if TYPE_CHECKING:
    from anndata import AnnData


def write_whole(adata: AnnData, path: Path) -> None:
    """Write an AnnData to an .h5ad file, compressed, or replace it; on an `OutputError` nothing is left behind."""
    from anndata.io import write_elem

    # In memory first: HDF5 itself then never meets a full disk, after which old versions of it end the process.
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        write_elem(file, "/", adata, dataset_kwargs={"compression": "gzip"})
        if adata.raw is None and "raw" in file:
            del file["raw"]  # an empty entry, which AnnData.write_h5ad leaves out
    with failed_writes(path, "it cannot be written, and nothing of it is left", "Fix this and run the command again"):
        write_durably(path, made.getvalue())
