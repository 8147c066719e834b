"""Files of arrays and groups, .h5ad and .zarr, opened for reading."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from scgenept_rt.errors import MissingPackageError
from scgenept_rt.files.hdf5_source import Hdf5Source


@contextmanager
def open_store(path: Path) -> Iterator[Any]:
    """Open an .h5ad file or a .zarr directory for reading; what is wrong with it, its library raises."""
    if path.suffix.lower() == ".zarr":
        zarr = import_zarr(f"reading {path}")
        _check_blosc()
        _check_entries(path)
        yield zarr.open_group(str(path), mode="r")
    else:
        import h5py

        with suppress(ImportError):  # registers the filters of compressions such as zstd
            import hdf5plugin  # noqa: F401
        with Hdf5Source(path) as source, h5py.File(path, "r", driver="fileobj", fileobj=source) as file:
            yield file


def import_zarr(purpose: str) -> Any:
    """Return the zarr module; raise `MissingPackageError` if it is not installed."""
    try:
        import zarr
    except ImportError:
        raise MissingPackageError("zarr", purpose, "zarr") from None
    return zarr


def _check_entries(directory: Path) -> None:
    """Raise ValueError if a directory holds a pipe or a device: reading one may block forever, or never end."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir():
                _check_entries(Path(entry))
            elif not entry.is_file():
                raise ValueError(f"{entry.path} is not a regular file")


@cache
def _check_blosc() -> None:
    """Let Blosc refuse chunks whose length is not the stated one: it reads beyond the end of these, and may crash."""
    from numcodecs import Blosc, register_codec

    class CheckedBlosc(Blosc):  # type: ignore[misc]
        def decode(self, buf: Any, out: Any = None) -> Any:
            data = memoryview(buf).cast("B")
            if len(data) < 16 or int.from_bytes(data[12:16], "little") != len(data):
                raise ValueError("a chunk is damaged")
            return super().decode(buf, out)

    register_codec(CheckedBlosc, "blosc")
