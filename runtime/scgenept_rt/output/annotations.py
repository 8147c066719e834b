"""What an AnnData on disk holds beside its matrices, in HDF5 and zarr alike."""

from __future__ import annotations

from typing import Any

from anndata.io import write_elem

from scgenept_rt.output.table_spec import TableSpec


def write_annotations(store: Any, spec: TableSpec) -> None:
    """Write obs, var and uns of a table, and the groups without which a reader takes it for no AnnData.

    Parameters
    ----------
    store
        An empty `h5py.File` or zarr group.
    spec
        The table.
    """
    store.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    write_elem(store, "obs", spec.obs)
    write_elem(store, "var", spec.var)
    write_elem(store, "uns", spec.stored_uns())
    for group in ("layers", "obsm", "varm", "obsp", "varp"):
        write_elem(store, group, {})
