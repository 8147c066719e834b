"""An .h5ad file that is whole at every moment while its rows are being written.

The HDF5 file is made complete in advance, with obs, var, uns and room for every row, and is closed. Rows are then
written to the file offsets of their datasets without the HDF5 library: a kill at any moment leaves a sound HDF5 file,
in which the committed rows are safe.
"""

from __future__ import annotations

from io import FileIO
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from scgenept_rt.files.durable import sync_data
from scgenept_rt.output.checksums import checksum_of_file
from scgenept_rt.output.hdf5_stream import Hdf5Stream
from scgenept_rt.output.partial_table import PartialTable, write_fully
from scgenept_rt.output.table_spec import N_CONTROLS, Rows, TableSpec, write_annotations

_ARRAY_ENCODING = {"encoding-type": "array", "encoding-version": "0.2.0"}


class H5adTable(PartialTable):
    """A `RowWriter` to an .h5ad file."""

    _file: FileIO | None = None

    @classmethod
    def _lay_out(cls, data: Path, spec: TableSpec) -> dict[str, Any]:
        with Hdf5Stream(data) as stream:
            with h5py.File(stream, "w") as file:
                write_annotations(file, spec)
                datasets = {"X": _contiguous(file, "X", (spec.n_rows, spec.n_vars), h5py.h5t.IEEE_F32LE)}
                datasets |= {
                    name: _contiguous(file["layers"], name, (spec.n_rows, spec.n_vars), h5py.h5t.IEEE_F32LE)
                    for name in spec.layers
                }
                if spec.kind == "mean":
                    # counts may become known with their rows, so they need a known offset too
                    del file["obs"][N_CONTROLS]
                    datasets[N_CONTROLS] = _contiguous(file["obs"], N_CONTROLS, (spec.n_rows,), h5py.h5t.STD_I64LE)
                    datasets[N_CONTROLS][...] = spec.obs_rows()[N_CONTROLS].to_numpy()
                offsets = {name: int(dataset.id.get_offset()) for name, dataset in datasets.items()}
            stream.sync()
        return {"offsets": offsets, "piece_rows": 1}

    def _checksum_of_fixed(self) -> int:
        size = checksum = self._work.data.stat().st_size
        with self._work.data.open("rb") as file:
            for offset, name in sorted((offset, name) for name, offset in self._journal.storage["offsets"].items()):
                checksum = checksum_of_file(file, offset - file.tell(), checksum)
                file.seek(offset + self.n_rows * _row_bytes(name, self._spec))
            return checksum_of_file(file, size - file.tell(), checksum)

    def _checksum(self, piece: int) -> int:
        checksum, file = piece, self._open_file()
        for name, offset in self._journal.storage["offsets"].items():
            n_bytes = _row_bytes(name, self._spec)
            file.seek(offset + piece * n_bytes)
            checksum = checksum_of_file(file, n_bytes, checksum)
        return checksum

    def _put(self, row: int, rows: Rows) -> None:
        arrays: dict[str, NDArray[Any]] = {**rows.arrays}
        if rows.n_controls is not None:
            arrays[N_CONTROLS] = rows.n_controls
        for name, array in arrays.items():
            offset = self._journal.storage["offsets"][name] + row * _row_bytes(name, self._spec)
            write_fully(self._open_file(), offset, array)

    def _sync(self) -> None:
        sync_data(self._open_file())

    def _complete(self) -> None:
        self._close_files()

    def _open_file(self) -> FileIO:
        if self._file is None:
            self._file = self._work.data.open("r+b", buffering=0)
        return self._file

    def _close_files(self) -> None:
        # Let go first: a close that fails must not be followed by one of a number that is another file's by then.
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _row_bytes(name: str, spec: TableSpec) -> int:
    return 8 if name == N_CONTROLS else 4 * spec.n_vars


def _contiguous(group: Any, name: str, shape: tuple[int, ...], h5_type: Any) -> Any:
    """Make a dataset that has its place, in one piece, from the start, and that HDF5 does not fill."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)  # equal tables are equal files
    dataset = h5py.Dataset(h5py.h5d.create(group.id, name.encode(), h5_type, h5py.h5s.create_simple(shape), creation))
    dataset.attrs.update(_ARRAY_ENCODING)
    return dataset
