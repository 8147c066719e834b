"""Files with room for every row, in which the place of each is known: rows are written without h5py or zarr.

A kill at any moment then leaves a sound HDF5 file or zarr store, in which the committed rows are safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from scgenept_rt.files.durable import sync_data, sync_tree
from scgenept_rt.files.stores import Hdf5Stream, import_zarr
from scgenept_rt.output.table_spec import COUNTS, N_CONTROLS, TableSpec, write_annotations

_ARRAY_ENCODING = {"encoding-type": "array", "encoding-version": "0.2.0"}
_CHUNK_BYTES = 4 * 2**20


class Place(NamedTuple):
    """Where the rows of an array lie, one after the other, in one file or in several."""

    path: str
    """The file, below the work directory; of several, ``{}`` stands for the number."""
    offset: int
    """Where the first row of a file begins."""
    file_rows: int
    row_bytes: int

    @property
    def file_bytes(self) -> int:
        """Size that a file has at least."""
        return self.offset + self.file_rows * self.row_bytes

    def spans(self, begin: int, end: int) -> Iterator[tuple[int, int, str, int]]:
        """Yield rows that lie together: from which row up to which, in which file, and where in it."""
        while begin < end:
            number, first = divmod(begin, self.file_rows)
            stop = min(end, begin - first + self.file_rows)
            yield begin, stop, self.path.format(number), self.offset + first * self.row_bytes
            begin = stop


def lay_out(data: Path, spec: TableSpec) -> dict[str, Place]:
    """Write everything but the rows of a table, durably; return the places of its arrays."""
    return _zarr(data, spec) if data.suffix == ".zarr" else _h5ad(data, spec)


def _h5ad(data: Path, spec: TableSpec) -> dict[str, Place]:
    places = {}
    with Hdf5Stream(data) as stream:
        with h5py.File(stream, "w") as file:
            write_annotations(file, spec)
            for name, dtype in spec.arrays.items():
                offset = _contiguous(file, name, (spec.n_rows, *dtype.shape), dtype.base)
                places[name] = Place(data.name, offset, spec.n_rows, dtype.itemsize)
            _write_counts(file, spec)
        sync_data(stream)
    return places


def _contiguous(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Make a dataset that has its place, in one piece, from the start, which HDF5 does not fill; return that place."""
    if name in file:
        del file[name]
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)  # equal tables are equal files
    space = h5py.h5s.create_simple(shape)
    dataset = h5py.Dataset(h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype), space, creation))
    dataset.attrs.update(_ARRAY_ENCODING)
    return int(dataset.id.get_offset())


def _write_counts(store: Any, spec: TableSpec) -> None:
    """Write the numbers of control cells that are known in advance, so that an unfinished file can be inspected."""
    if COUNTS in spec.arrays:
        store[COUNTS][...] = spec.obs_rows()[N_CONTROLS].to_numpy()


def _zarr(data: Path, spec: TableSpec) -> dict[str, Place]:
    """Lay out format 2, which every zarr release reads, in chunks of whole rows without compression."""
    zarr = import_zarr(f"writing {data}")
    store, places = zarr.open_group(data, mode="w", zarr_format=2), {}
    write_annotations(store, spec)
    for name, dtype in spec.arrays.items():
        if name in store:
            del store[name]
        rows = min(spec.n_rows, max(1, _CHUNK_BYTES // dtype.itemsize))
        array = store.create_array(
            name,
            shape=(spec.n_rows, *dtype.shape),
            chunks=(rows, *dtype.shape),
            dtype=dtype.base,
            compressors=None,
            fill_value=0,
        )
        array.attrs.update(_ARRAY_ENCODING)
        places[name] = Place(
            f"{data.name}/{name}/" + ".".join(["{}", *"0" * len(dtype.shape)]), 0, rows, dtype.itemsize
        )
    _write_counts(store, spec)
    zarr.consolidate_metadata(store.store)
    sync_tree(data)
    return places
