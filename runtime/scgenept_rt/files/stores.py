"""Files of arrays and groups, .h5ad and .zarr: opened for reading, small ones written, and what HDF5 goes through.

Damage on which HDF5 would loop forever is an ordinary error then, and so is a full disk. After a write that failed, the
library dumps its buffers, fails again for every object that it closes, and may end the process: writes therefore seem
to succeed, and the error is raised once the library has closed the file.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scgenept_rt.errors import MissingPackageError
from scgenept_rt.files.durable import write_durably
from scgenept_rt.files.failures import failed_writes

if TYPE_CHECKING:
    from anndata import AnnData

_HEAP = b"GCOL\x01\0\0\0"
"""How a global heap begins, where HDF5 keeps texts of varying length."""
_HEAP_START = struct.Struct("<8xQ")
_HEAP_OBJECT = struct.Struct("<H6xQ")
_MOST_METADATA = 1 << 20


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


def write_h5ad(adata: AnnData, path: Path) -> None:
    """Write a small AnnData to an .h5ad file, or replace one; if that raises `OutputError`, nothing of it is left."""
    import h5py
    from anndata.io import write_elem

    # In memory first: HDF5 itself then never meets a full disk, after which old versions of it end the process.
    made = BytesIO()
    with h5py.File(made, "w") as file:
        write_elem(file, "/", adata, dataset_kwargs={"compression": "gzip"})
        if adata.raw is None and "raw" in file:
            del file["raw"]  # an empty entry, which AnnData.write_h5ad leaves out
    with failed_writes(path, "it cannot be written, and nothing of it is left", "Fix this and run the command again"):
        write_durably(path, made.getvalue())


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


class Hdf5File(FileIO):
    """A file that HDF5 reads through."""

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; bytes that are not there count as zero."""
        view, n_read = memoryview(buffer).cast("B"), 0
        while n_read < len(view) and (n_more := super().readinto(view[n_read:])):
            n_read += n_more
        view[n_read:] = bytes(len(view) - n_read)
        return len(view)


class Hdf5Source(Hdf5File):
    """An existing file for h5py's driver ``fileobj``, which refuses damaged heaps of texts.

    The library walks a heap by the sizes stated in it, without end where one of them is zero. It opens no other file
    for links that lead to one. Raises BlockingIOError if the file is open for writing elsewhere, and ValueError if it
    is no regular file; opening a pipe would wait for a writer.
    """

    def __init__(self, path: Path) -> None:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is not a regular file")
        super().__init__(path, "r")
        self._size = os.fstat(self.fileno()).st_size
        self._sound: set[int] = set()
        if os.environ.get("HDF5_USE_FILE_LOCKING", "").upper() not in ("FALSE", "0"):
            try:  # as HDF5 itself does where it opens the file
                fcntl.flock(self.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                raise
            except OSError:  # a file system without locks
                pass

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; raise ValueError if that is the beginning of a damaged heap."""
        begin, n_bytes = self.tell(), super().readinto(buffer)
        if n_bytes <= _MOST_METADATA:
            for heap in re.finditer(_HEAP, bytes(buffer)):
                if (address := begin + heap.start()) not in self._sound:
                    self._check_heap(address)
                    self._sound.add(address)
        return n_bytes

    def _check_heap(self, address: int) -> None:
        (size,) = _HEAP_START.unpack(os.pread(self.fileno(), _HEAP_START.size, address).ljust(_HEAP_START.size, b"\0"))
        if size > self._size - address:
            raise ValueError("its file ends within a heap of texts")
        heap, at = os.pread(self.fileno(), size, address), _HEAP_START.size
        while at + _HEAP_OBJECT.size <= size:
            index, n_bytes = _HEAP_OBJECT.unpack_from(heap, at)
            # The last object is the free space, whose size counts its own header.
            n_bytes = n_bytes if index == 0 else _HEAP_OBJECT.size + -(-n_bytes // 8) * 8
            if not _HEAP_OBJECT.size <= n_bytes <= size - at:
                raise ValueError("a heap of texts is damaged")
            at += n_bytes


class Hdf5Stream(Hdf5File):
    """A new file for ``h5py.File(stream, "w")``; leaving it raises the first `OSError` that writing met.

    The file then holds nothing of use.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._failure: OSError | None = None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Close the file."""
        self.close()
        # an error of HDF5 itself then only follows from bytes that were never written
        if self._failure is not None and (error is None or isinstance(error, Exception)):
            raise self._failure

    def write(self, data: Any) -> int:
        """Write all of the data, unless writing failed before."""
        view = memoryview(data).cast("B")
        n_bytes = len(view)
        try:
            while view and self._failure is None:
                view = view[super().write(view) :]
        except OSError as error:
            self._failure = error
        return n_bytes

    def truncate(self, size: int | None = None) -> int:
        """Extend or cut the file, unless writing failed before."""
        size = self.tell() if size is None else size
        try:
            if self._failure is None:
                super().truncate(size)
        except OSError as error:
            self._failure = error
        return size
