"""A .zarr directory store: chunks are written whole; rows that do not fill a chunk yet wait in a file beside it.

Chunks span all genes and a number of rows. A commit in the middle of a chunk saves its rows so far as plain bytes
beside the store, so that a run never has to continue from a rewritten or incomplete chunk.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.files.durable import sync_directory, sync_file, sync_tree, write_durably
from scgenept_rt.files.stores import import_zarr
from scgenept_rt.output.checksums import checksum_of_file
from scgenept_rt.output.journal import Damage
from scgenept_rt.output.partial_table import PartialTable, write_fully
from scgenept_rt.output.table_spec import N_CONTROLS, Rows, TableSpec, write_annotations
from scgenept_rt.output.work_directory import COUNTS_NAME, WAITING_NAME

_ARRAY_ENCODING = {"encoding-type": "array", "encoding-version": "0.2.0"}
_CHUNK_BYTES = 4 * 2**20
_CONSOLIDATED = ".zmetadata"


class ZarrTable(PartialTable):
    """A `RowWriter` to a .zarr directory (format 2, which every zarr release reads)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pending: dict[str, NDArray[np.float32]] = {}
        self._unsynced: list[Path] = []
        self._arrays: dict[str, Any] = {}

    @classmethod
    def _lay_out(cls, data: Path, spec: TableSpec) -> dict[str, Any]:
        zarr = import_zarr(f"writing {data}")
        chunk_rows = min(spec.n_rows, max(1, _CHUNK_BYTES // (4 * spec.n_vars)))
        store = zarr.open_group(data, mode="w", zarr_format=2)
        write_annotations(store, spec)
        for name in spec.array_names:
            array = store.create_array(
                _key(name),
                shape=(spec.n_rows, spec.n_vars),
                chunks=(chunk_rows, spec.n_vars),
                dtype="<f4",
                fill_value=0.0,
            )
            array.attrs.update(_ARRAY_ENCODING)
        if spec.kind == "mean":
            counts = np.ascontiguousarray(spec.obs_rows()[N_CONTROLS].to_numpy(), dtype="<i8")
            write_durably(data.parent / COUNTS_NAME, counts.data.cast("B"))
        sync_tree(data)
        return {"piece_rows": chunk_rows}

    def _checksum_of_fixed(self) -> int:
        data = self._work.data
        rows = [data / _key(name) for name in self._spec.array_names]
        rows.append(data / "obs" / N_CONTROLS)
        checksum = 0
        for path in sorted(data.rglob("*")):
            is_chunk = path.parent in rows and not path.name.startswith(".z")
            if path.is_file() and not is_chunk and path.name != _CONSOLIDATED:
                name = path.relative_to(data).as_posix()
                checksum = zlib.crc32(path.read_bytes(), zlib.crc32(name.encode(), checksum))
        return checksum

    def load(self) -> int:
        """Check what an earlier run left; see `PartialTable.load`."""
        for leftover in self._work.data.rglob("*.partial"):  # chunks that a kill caught before they had their name
            leftover.unlink()
        (self._work.data / _CONSOLIDATED).unlink(missing_ok=True)  # it would be read instead of what it repeats
        if self._spec.kind == "mean":
            path = self._work.path / COUNTS_NAME
            if not path.exists() or path.stat().st_size != 8 * self.n_rows:
                raise Damage(f"{COUNTS_NAME} is missing or damaged")
        n_lost = super().load()
        _, rows = self._read_waiting()
        if self.n_committed % self._piece_rows:
            for name, array in zip(self._spec.array_names, rows, strict=True):
                self._buffer(name)[: len(array)] = array
        return n_lost

    def _checksum(self, piece: int) -> int:
        checksum = self._checksum_of_counts(piece * self._piece_rows, (piece + 1) * self._piece_rows)
        for name in self._spec.array_names:
            checksum = zlib.crc32(self._chunk_path(name, piece).read_bytes(), checksum)
        return checksum

    def _stored_rows(self, n_pieces: int) -> int:
        n_filled, (n_waiting, _) = super()._stored_rows(n_pieces), self._read_waiting()
        # rows of an earlier or a later piece wait no more
        return n_waiting if n_filled < n_waiting < n_filled + self._piece_rows else n_filled

    def _checksum_of_counts(self, begin: int, end: int) -> int:
        if self._spec.kind != "mean":
            return begin
        with (self._work.path / COUNTS_NAME).open("rb") as file:
            file.seek(8 * begin)
            return checksum_of_file(file, 8 * (end - begin), begin)

    def _read_waiting(self) -> tuple[int, NDArray[np.float32]]:
        """Return the number of rows with those that wait, and these [arrays, rows, genes]; 0 if they are damaged."""
        names, path = self._spec.array_names, self._work.path / WAITING_NAME
        nothing = np.empty((len(names), 0, self._spec.n_vars), np.float32)
        try:
            stored = path.read_bytes()
            n_written, checksum = (int.from_bytes(part, "little") for part in (stored[:8], stored[8:12]))
            n_waiting = n_written % self._piece_rows
            counts = self._checksum_of_counts(n_written - n_waiting, n_written)
        except OSError:
            return 0, nothing
        n_bytes = nothing.itemsize * len(names) * n_waiting * self._spec.n_vars
        if len(stored) != 12 + n_bytes or zlib.crc32(stored[12:], counts) != checksum:
            return 0, nothing
        return n_written, np.frombuffer(stored, "<f4", offset=12).reshape(len(names), n_waiting, -1)

    def _put(self, row: int, rows: Rows) -> None:
        done = 0
        while done < rows.n_rows:
            position = (row + done) % self._piece_rows
            n = min(self._piece_rows - position, rows.n_rows - done)
            for name, array in rows.arrays.items():
                self._buffer(name)[position : position + n] = array[done : done + n]
            done += n
            if position + n == self._piece_rows:
                self._write_chunk((row + done) // self._piece_rows - 1, self._piece_rows)
        if rows.n_controls is not None:
            with (self._work.path / COUNTS_NAME).open("r+b", buffering=0) as file:
                write_fully(file, row * rows.n_controls.itemsize, rows.n_controls)

    def _seek(self, row: int) -> None:
        chunk, n_kept = divmod(row, self._piece_rows)
        if n_kept and chunk != self._n_written // self._piece_rows:
            for name, array in self._open_arrays().items():
                start = chunk * self._piece_rows
                self._buffer(name)[:n_kept] = array[start : start + n_kept]

    def _sync(self) -> None:
        for path in self._unsynced:
            sync_file(path)
        for directory in {path.parent for path in self._unsynced}:
            sync_directory(directory)
        self._unsynced = []
        if self._spec.kind == "mean":
            sync_file(self._work.path / COUNTS_NAME)

    def _save_waiting(self) -> None:
        path, n_waiting = self._work.path / WAITING_NAME, self._n_written % self._piece_rows
        if n_waiting:
            rows = np.stack([self._buffer(name)[:n_waiting] for name in self._spec.array_names]).tobytes()
            counts = self._checksum_of_counts(self._n_written - n_waiting, self._n_written)
            header = self._n_written.to_bytes(8, "little") + zlib.crc32(rows, counts).to_bytes(4, "little")
            write_durably(path, header + rows)
        else:
            path.unlink(missing_ok=True)
            sync_directory(path.parent)

    def _complete(self) -> None:
        n_waiting = self.n_rows % self._piece_rows
        if n_waiting:
            self._write_chunk(self.n_rows // self._piece_rows, n_waiting)
        zarr = import_zarr(f"writing {self.path}")
        store = zarr.open_group(self._work.data, mode="r+", zarr_format=2)
        if self._spec.kind == "mean":
            store[f"obs/{N_CONTROLS}"][...] = np.fromfile(self._work.path / COUNTS_NAME, dtype="<i8")
        zarr.consolidate_metadata(store.store)
        sync_tree(self._work.data)
        self._close_files()

    def _close_files(self) -> None:
        self._arrays = {}
        self._pending = {}

    def _buffer(self, name: str) -> NDArray[np.float32]:
        if name not in self._pending:
            self._pending[name] = np.zeros((self._piece_rows, self._spec.n_vars), dtype=np.float32)
        return self._pending[name]

    def _write_chunk(self, chunk: int, n_rows: int) -> None:
        start = chunk * self._piece_rows
        for name, array in self._open_arrays().items():
            array[start : start + n_rows] = self._buffer(name)[:n_rows]
            self._unsynced.append(self._chunk_path(name, chunk))

    def _chunk_path(self, name: str, chunk: int) -> Path:
        return self._work.data / _key(name) / f"{chunk}.0"

    def _open_arrays(self) -> dict[str, Any]:
        if not self._arrays:
            zarr = import_zarr(f"writing {self.path}")
            store = zarr.open_group(self._work.data, mode="r+", zarr_format=2)
            # a chunk of zeros is written like any other: -0.0 counts as zero and would come back as 0.0
            with zarr.config.set({"array.write_empty_chunks": True}):  # kept by the arrays that are opened meanwhile
                self._arrays = {name: store[_key(name)] for name in self._spec.array_names}
        return self._arrays


def _key(name: str) -> str:
    return name if name == "X" else f"layers/{name}"
