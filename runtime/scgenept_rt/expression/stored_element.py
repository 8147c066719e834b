"""Checked reading of files of cells: elements are checked first, and every error names the file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from scgenept_rt.errors import Caution, CellsFormatError, Notice
from scgenept_rt.expression.annotation import text_of
from scgenept_rt.files.failures import failed_reads, watched
from scgenept_rt.files.machine_limits import memory_limit
from scgenept_rt.installing import pip_command
from scgenept_rt.wording import format_size, pluralize

REWRITE = "Copy, download or write the file again"
_COMPRESSED = {"data", "indices", "indptr"}
_TEXT = np.dtype([("n_bytes", "<u4"), ("heap", "<u8"), ("index", "<u4")])
"""What an array of texts of varying length holds in HDF5: the length of each, and where it is."""


@contextmanager
def reading(where: object, name: str = "") -> Iterator[None]:
    """Turn any error in reading a part of a file into a `CellsFormatError` that names both; log reads that are slow."""
    with failed_reads(CellsFormatError, where, name, REWRITE), watched(f"{where}: {name}" if name else str(where)):
        try:
            yield
        except Exception as error:
            if "plugin" in str(error) or "required filter" in str(error):
                problem = "its compression (zstd, blosc or the like) needs a filter that HDF5 lacks"
                remedy = f"Install it: `{pip_command('install hdf5plugin')}`"
                raise CellsFormatError(problem, remedy, where=where) from error
            raise


def checked(element: Any, *, whole: bool = True) -> Any:
    """Return a group or array of an .h5ad or .zarr file that is going to be read whole, or a few rows at a time.

    Raises ValueError if its values lie in another file, are more than fits in memory, or are not all there.
    """
    if hasattr(element, "keys"):
        for key in list(element.keys()):
            checked(element[key], whole=whole)
        _check_complete(element)
        return element
    if getattr(element, "external", None) or getattr(element, "is_virtual", False):
        raise ValueError("its values lie in another file")
    shape = element.shape if whole else element.chunks
    n_bytes = math.prod(shape or ()) * element.dtype.itemsize
    memory = memory_limit()
    if n_bytes > memory:
        raise ValueError(f"it would take {format_size(n_bytes)} of memory, and this machine has {format_size(memory)}")
    if hasattr(element, "id"):
        _check_texts(element)
    if _is_text(element):
        absent, total = _absent_chunks(element)
        if absent < total:  # all of them: a column that is empty
            check_chunks(element, "its texts")
    return element


def row_names(group: Any) -> Any:
    """Return the element that holds the index of a data frame; raise ValueError if files of it are not there."""
    index = group[text_of(dict(group.attrs).get("_index", "_index"))]
    # Where names could be missing, they are the values of a group.
    check_chunks(index["values"] if hasattr(index, "keys") else index, "its names")
    return index


def check_chunks(array: Any, name: str) -> None:
    """Raise ValueError if chunks of a zarr array have no file."""
    absent, _ = _absent_chunks(array)
    if absent:
        are = pluralize(absent, f"chunk of {name} is", f"chunks of {name} are")
        raise ValueError(f"{are} missing: the copy is incomplete")


def absent_notices(element: Any, name: str) -> list[Notice]:
    """Return a caution about chunks of an array or a column without file: zeros, empty texts or an incomplete copy."""
    arrays = {"values": element} if hasattr(element, "shape") else {key: element[key] for key in element}
    text = _is_text(arrays.get("values"))
    if text:  # missing ones are empty, whatever the mask says
        arrays.pop("mask", None)
    counts = {key: _absent_chunks(array) for key, array in arrays.items()}
    # Codes of one category, and a mask without missing values, are all zeros.
    counted = [count for key, count in counts.items() if key not in ("codes", "mask") or count[0] < count[1]]
    absent, total = sum(count[0] for count in counted), sum(count[1] for count in counted)
    if not absent:
        return []
    kind = "empty texts" if text else "zeros"
    problem = f"{absent:,} of {pluralize(total, 'chunk')} of {name} have no file, and count as {kind}"
    return [Caution(problem, "Check that the copy is complete")]


def _absent_chunks(array: Any) -> tuple[int, int]:
    """Return how many files of a zarr array are not there, and how many there may be; zeros for other arrays.

    A file is a chunk, or a shard of several. zarr writes none for what equals the fill value alone: zeros, empty texts.
    """
    if not hasattr(array, "nchunks_initialized"):
        return 0, 0
    chunks = array.chunks
    shards = array.shards or chunks
    total = math.prod(-(-length // size) for length, size in zip(array.shape, shards, strict=True))
    per_file = math.prod(size // part for size, part in zip(shards, chunks, strict=True))
    return total - array.nchunks_initialized // per_file, total


def _is_text(array: Any) -> bool:
    return hasattr(array, "nchunks_initialized") and array.dtype.kind in "OTUS"


def _check_texts(array: Any) -> None:
    """Raise ValueError if a text in an uncompressed HDF5 array states to be longer than the file.

    The library takes so much memory, up to 4 GB, before it looks.
    """
    import h5py

    text = h5py.check_string_dtype(array.dtype)
    if text is None or text.length is not None or array.id.get_create_plist().get_nfilters():
        return
    stored = [(array.id.get_offset(), array.id.get_storage_size())]
    if array.chunks:
        stored = []
        array.id.chunk_iter(lambda chunk: stored.append((chunk.byte_offset, chunk.size)))
    path = array.file.filename
    size = array.file.id.get_filesize()
    for offset, n_bytes in stored:
        texts = np.fromfile(path, _TEXT, min(n_bytes, size) // _TEXT.itemsize, offset=offset or 0)
        if texts["n_bytes"].max(initial=0) > size:
            raise ValueError("a text in it states to be longer than the file")


def _check_complete(group: Any) -> None:
    """Raise ValueError if a compressed matrix or a categorical column has chunks that are not there.

    zarr leaves out chunks of zeros alone, which a column of one category is, and in a matrix only one of nothing.
    """
    has_codes = "codes" in group and group["categories"].shape[0] > 1
    has_values = set(group) >= _COMPRESSED and group["data"].shape[0] and min(group.attrs.get("shape", (0,))) > 1
    for name in ("codes",) if has_codes else sorted(_COMPRESSED) if has_values else ():
        check_chunks(group[name], f"its {name}")
