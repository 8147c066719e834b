"""A .zarr directory store: chunks are written whole; rows that do not fill a chunk yet wait in a file beside it.

Chunks span all genes and a number of rows. A commit in the middle of a chunk saves its rows so far as plain bytes
beside the store, so that a run never has to continue from a rewritten or incomplete chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import MissingPackageError, pluralize
from scgenept_rt.files.durable import sync_directory, sync_file, sync_tree, write_durably
from scgenept_rt.output.journal import damaged
from scgenept_rt.output.partial_table import PartialTable, read_rows, write_fully
from scgenept_rt.output.table_spec import N_CONTROLS, UNS_KEY, Rows, TableSpec, write_annotations

_ARRAY_ENCODING = {"encoding-type": "array", "encoding-version": "0.2.0"}
_CHUNK_BYTES = 4 * 2**20
_COUNTS_NAME = "n_controls.bin"


class ZarrTable(PartialTable):
    """A `RowWriter` to a .zarr directory (format 2, which every zarr release reads)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pending: dict[str, NDArray[np.float32]] = {}
        self._unsynced: list[Path] = []
        self._arrays: dict[str, Any] = {}

    @property
    def _chunk_rows(self) -> int:
        return int(self._journal.storage["chunk_rows"])

    @classmethod
    def stored_entry(cls, path: Path, name: str) -> Any:
        """Read an entry of a store's uns."""
        value = import_zarr(path).open_group(str(path), mode="r")["uns"][UNS_KEY][name][()]
        return np.asarray(value).item()

    @classmethod
    def stored_layer(cls, path: Path, name: str) -> Iterator[NDArray[np.float32]]:
        """Yield a layer of a store, some rows at a time."""
        yield from read_rows(import_zarr(path).open_group(str(path), mode="r")["layers"][name])

    @classmethod
    def _lay_out(cls, data: Path, spec: TableSpec) -> dict[str, Any]:
        zarr = import_zarr(data)
        chunk_rows = min(spec.n_rows, max(1, _CHUNK_BYTES // (4 * spec.n_vars)))
        store = zarr.open_group(data, mode="w", zarr_format=2)
        write_annotations(store, spec)
        for name in spec.layout.array_names:
            array = store.create_array(
                _key(name),
                shape=(spec.n_rows, spec.n_vars),
                chunks=(chunk_rows, spec.n_vars),
                dtype="<f4",
                fill_value=0.0,
            )
            array.attrs.update(_ARRAY_ENCODING)
        if N_CONTROLS in spec.obs:
            counts = np.ascontiguousarray(spec.obs[N_CONTROLS].to_numpy(), dtype="<i8")
            write_durably(data.parent / _COUNTS_NAME, counts.data.cast("B"))
        sync_tree(data)
        return {"chunk_rows": chunk_rows, "waiting": None}

    def _load(self) -> None:
        for leftover in self._work.data.rglob("*.partial"):  # chunks that a kill caught before they had their name
            leftover.unlink()
        waiting = self._journal.storage["waiting"]
        self._committed()
        self._open_arrays()
        n_waiting = self.n_committed % self._chunk_rows
        if n_waiting:
            stored = np.fromfile(self._work.path / waiting, dtype="<f4")
            shape = (len(self._layout.array_names), n_waiting, self._layout.n_vars)
            if stored.size != np.prod(shape):
                problem = f"{waiting} holds {pluralize(stored.size, 'value')}, expected shape {shape}"
                raise damaged(self.path, self._work.path, problem)
            for name, rows in zip(self._layout.array_names, stored.reshape(shape), strict=True):
                self._buffer(name)[:n_waiting] = rows
        if self._layout.kind == "mean" and (self._work.path / _COUNTS_NAME).stat().st_size != 8 * self.n_rows:
            raise damaged(self.path, self._work.path, f"{_COUNTS_NAME} does not hold one number per row")

    def _put(self, row: int, rows: Rows) -> None:
        done = 0
        while done < rows.n_rows:
            position = (row + done) % self._chunk_rows
            n = min(self._chunk_rows - position, rows.n_rows - done)
            for name, array in rows.arrays.items():
                self._buffer(name)[position : position + n] = array[done : done + n]
            done += n
            if position + n == self._chunk_rows:
                self._write_chunk((row + done) // self._chunk_rows - 1, self._chunk_rows)
        if rows.n_controls is not None:
            with (self._work.path / _COUNTS_NAME).open("r+b", buffering=0) as file:
                write_fully(file, row * rows.n_controls.itemsize, rows.n_controls)

    def _seek(self, row: int) -> None:
        chunk, n_kept = divmod(row, self._chunk_rows)
        if n_kept and chunk != self._n_written // self._chunk_rows:
            for name, array in self._open_arrays().items():
                start = chunk * self._chunk_rows
                self._buffer(name)[:n_kept] = array[start : start + n_kept]

    def _sync(self) -> Mapping[str, Any]:
        for path in self._unsynced:
            sync_file(path)
        for directory in {path.parent for path in self._unsynced}:
            sync_directory(directory)
        self._unsynced = []
        if self._layout.kind == "mean":
            sync_file(self._work.path / _COUNTS_NAME)
        n_waiting = self._n_written % self._chunk_rows
        waiting = None
        if n_waiting:
            # a new name each time: the journal names the one that goes with it
            waiting = f"rows-{self._n_written}.bin"
            rows = np.stack([self._buffer(name)[:n_waiting] for name in self._layout.array_names])
            write_durably(self._work.path / waiting, rows.data.cast("B"))
        return {"chunk_rows": self._chunk_rows, "waiting": waiting}

    def _committed(self) -> None:
        for path in self._work.path.glob("rows-*.bin"):
            if path.name != self._journal.storage["waiting"]:
                path.unlink()

    def _complete(self) -> None:
        n_waiting = self.n_rows % self._chunk_rows
        if n_waiting:
            self._write_chunk(self.n_rows // self._chunk_rows, n_waiting)
        zarr = import_zarr(self.path)
        store = zarr.open_group(self._work.data, mode="r+", zarr_format=2)
        if self._layout.kind == "mean":
            store[f"obs/{N_CONTROLS}"][...] = np.fromfile(self._work.path / _COUNTS_NAME, dtype="<i8")
        zarr.consolidate_metadata(store.store)
        sync_tree(self._work.data)
        self._close_files()

    def _close_files(self) -> None:
        self._arrays = {}
        self._pending = {}

    def _buffer(self, name: str) -> NDArray[np.float32]:
        if name not in self._pending:
            self._pending[name] = np.zeros((self._chunk_rows, self._layout.n_vars), dtype=np.float32)
        return self._pending[name]

    def _write_chunk(self, chunk: int, n_rows: int) -> None:
        start = chunk * self._chunk_rows
        for name, array in self._open_arrays().items():
            array[start : start + n_rows] = self._buffer(name)[:n_rows]
            self._unsynced.append(self._work.data / _key(name) / array.metadata.encode_chunk_key((chunk, 0)))

    def _open_arrays(self) -> dict[str, Any]:
        if not self._arrays:
            zarr = import_zarr(self.path)
            store = zarr.open_group(self._work.data, mode="r+", zarr_format=2)
            # a chunk of zeros is written like any other: -0.0 counts as zero and would come back as 0.0
            with zarr.config.set({"array.write_empty_chunks": True}):  # kept by the arrays that are opened meanwhile
                self._arrays = {name: store[_key(name)] for name in self._layout.array_names}
        return self._arrays


def import_zarr(path: Path) -> Any:
    """Return the zarr module; raise `MissingPackageError` if it is not installed."""
    try:
        import zarr
    except ImportError:
        raise MissingPackageError("zarr", f"writing {path}", "zarr") from None
    return zarr


def _key(name: str) -> str:
    return name if name == "X" else f"layers/{name}"
