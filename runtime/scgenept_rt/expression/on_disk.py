"""An AnnData on disk, an .h5ad file or a .zarr directory; parts are read when they are asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scgenept_rt.errors import CellsFormatError, CellsNotFoundError, Notice
from scgenept_rt.expression.annotation import Annotation, as_text, text_of
from scgenept_rt.expression.matrix_rows import MatrixRows, matrix_rows
from scgenept_rt.expression.opened_cells import OpenedCells
from scgenept_rt.expression.stored_element import absent_notices, checked, reading, row_names
from scgenept_rt.files.hashing import state_of
from scgenept_rt.files.stores import Hdf5Source, open_store
from scgenept_rt.options import ReadOptions
from scgenept_rt.wording import join_limited

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_CATEGORIES = "__categories"
_CONVERSIONS = {
    ".gz": "Decompress it first: `gunzip FILE`",
    ".h5": "Convert 10x's file: `sc.read_10x_h5(FILE)`, normalise, then `adata.write_h5ad(NEW)`",
    ".loom": "Convert it: `anndata.io.read_loom(FILE).write_h5ad(NEW)`",
    ".rds": "Convert it in R: `zellkonverter::writeH5AD` or `SeuratDisk::Convert`",
    ".h5seurat": 'Convert it in R: `SeuratDisk::Convert(FILE, dest = "h5ad")`',
    ".csv": "Put expression and gene names into an AnnData: `anndata.io.read_csv(FILE).write_h5ad(NEW)`",
}


@contextmanager
def open_stored(path: Path, options: ReadOptions) -> Iterator[StoredCells]:
    """Open an .h5ad file or a .zarr directory; raise `CellsFormatError` at the end if it was changed meanwhile."""
    if not path.exists():
        raise CellsNotFoundError("there is no such file or directory", "Check the path", where=path)
    with ExitStack() as opened:
        with reading(path, "its zarr group" if path.suffix.lower() == ".zarr" else ""):
            _check_kind(path)
            before = state_of(path)
            store = opened.enter_context(open_store(path))
        yield StoredCells(store, str(path), options)
        if state_of(path) != before:
            raise CellsFormatError("it was changed while it was read", "Run again once it is complete", where=path)


class StoredCells(OpenedCells):
    """Cells of an .h5ad file or a .zarr directory."""

    def __init__(self, store: Any, where: str, options: ReadOptions) -> None:
        self._store = store
        with reading(where):
            keys = set(store.keys())
            if not {"obs", "var"} <= keys:
                found = join_limited(sorted(keys), 8) or "nothing"
                remedy = _CONVERSIONS[".h5"] if keys == {"matrix"} else ""  # 10x's file under another name
                raise CellsFormatError(
                    f"it holds no obs and var (it holds: {found}), expected an AnnData file", remedy, where=where
                )
            layer_names = tuple(sorted(store["layers"].keys())) if "layers" in keys else ()
            has_x = "X" in keys and str(dict(store["X"].attrs).get("encoding-type", "")) != "null"
            raw: Any = store["raw"] if "raw" in keys else None
            # anndata 0.12 writes an empty array if there is none.
            has_raw = hasattr(raw, "keys") and {"X", "var"} <= set(raw)
            uns: Any = store["uns"] if "uns" in keys else None
            uns = StoredMapping(uns, where, "uns") if hasattr(uns, "keys") else {}
        obs = _annotation(store, "obs", where)
        super().__init__(where, options, obs, uns, layer_names, has_x=has_x, has_raw=has_raw)

    def _read_var(self, *, use_raw: bool) -> Annotation:
        return _annotation(self._store, "raw/var" if use_raw else "var", self.where)

    def _read_matrix(self, layer: str | None, *, use_raw: bool) -> MatrixRows:
        path = f"layers/{layer}" if layer is not None else "raw/X" if use_raw else "X"
        with reading(self.where, path):
            return matrix_rows(checked(self._store[path], whole=False), self.where)


class StoredMapping(Mapping[str, Any]):
    """A dictionary on disk, such as uns: entries are read on access, dictionaries in it are mappings like this one."""

    def __init__(self, group: Any, where: str, name: str) -> None:
        self._group = group
        self._where = where
        self._name = name

    def __getitem__(self, key: str) -> Any:
        with reading(self._where, self._name):
            # A name with a slash is a path: anndata writes it as groups within groups.
            found = not key.startswith("/") and key in self._group
        if not found:
            raise KeyError(key)
        name = f"{self._name}[{key!r}]"
        with reading(self._where, name):
            entry = self._group[key]
            if hasattr(entry, "keys") and dict(entry.attrs).get("encoding-type", "dict") == "dict":
                return StoredMapping(entry, self._where, name)
            return _read(entry)

    def __iter__(self) -> Iterator[str]:
        with reading(self._where, self._name):
            return iter(list(self._group.keys()))

    def __len__(self) -> int:
        return len(self._group)


def _check_kind(path: Path) -> None:
    """Raise `CellsFormatError` if the path does not look like an AnnData on disk."""
    ending, problem, remedy = path.suffix.lower(), "", ""
    if ending == ".zarr":
        problem = "" if path.is_dir() else "it is a file, expected a .zarr directory as AnnData.write_zarr writes it"
    elif path.is_dir():
        problem = "it is a directory, expected an .h5ad file or a directory that ends in .zarr"
    elif ending != ".h5ad":
        problem = f"unknown file ending {path.suffix!r}, expected .h5ad or .zarr"
        remedy = _CONVERSIONS.get(ending, "")
    else:
        with Hdf5Source(path) as source:
            magic = os.pread(source.fileno(), len(_HDF5_MAGIC), 0)
        if magic != _HDF5_MAGIC:
            problem = f"it is not an HDF5 file (it begins with {magic!r}), as AnnData.write_h5ad writes it"
            remedy = _CONVERSIONS[".gz"] if magic.startswith(b"\x1f\x8b") else ""
    if problem:
        raise CellsFormatError(problem, remedy, where=path)


def _annotation(store: Any, path: str, where: str) -> Annotation:
    """Return obs or var, a data frame as anndata writes it since 0.8."""
    with reading(where, path):
        group = store[path]
        if not hasattr(group, "keys"):
            raise CellsFormatError(
                f"{path} is stored in the format of anndata before 0.7",
                "Write the file again with a recent anndata: `anndata.read_h5ad(FILE).write_h5ad(NEW)`",
                where=where,
            )
        attrs = dict(group.attrs)
        index_name = text_of(attrs.get("_index", "_index"))
        listed = tuple(text_of(column) for column in attrs.get("column-order", ()))
        # R's writers may leave the list out.
        columns = listed or tuple(key for key in group if key not in (index_name, _CATEGORIES))
        index = as_text(_read(row_names(group)))

    def column(name: str) -> Any:
        described = f"{path} column {name!r}"
        with reading(where, described):
            read = _read(group[name])
            # anndata before 0.7.6 and SeuratDisk keep categories apart, R's writers without the reference to them.
            if _CATEGORIES in group and name in group[_CATEGORIES]:
                import pandas as pd

                categories = as_text(_read(group[_CATEGORIES][name]))
                read = pd.Categorical.from_codes(np.asarray(read, dtype=np.int64), categories.tolist())
            if np.shape(read) != index.shape:
                raise ValueError(f"it has the shape {np.shape(read)}, expected {index.shape}")
            return read

    def notices(name: str) -> list[Notice]:
        described = f"{path} column {name!r}"
        with reading(where, described):
            return absent_notices(group[name], described)

    return Annotation(columns, index_name, index, column, notices)


def _read(element: Any) -> Any:
    from anndata import OldFormatWarning
    from anndata.io import read_elem

    with warnings.catch_warnings():  # about what R's writers leave out
        warnings.simplefilter("ignore", OldFormatWarning)
        read = read_elem(checked(element))
    # zarr reads texts as a type of NumPy 2 that pandas does not know for text.
    return read.astype(object) if isinstance(read, np.ndarray) and read.dtype.kind == "T" else read
