"""A file that HDF5 writes through, so that a full disk is an ordinary error.

After a write that failed, the HDF5 library dumps its buffers, fails again for every object that it closes, and may end
the process. Writes therefore seem to succeed, and the error is raised once the library has closed the file.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from scgenept_rt.files.durable import sync_data
from scgenept_rt.files.hdf5_source import Hdf5File


class Hdf5Stream(Hdf5File):
    """A new file for ``h5py.File(stream, "w")``; leaving it raises the first `OSError` that writing met.

    The file then holds nothing of use.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._failure: OSError | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()
        # an error of HDF5 itself then only follows from bytes that were never written
        if self._failure is not None and (error is None or isinstance(error, Exception)):
            raise self._failure

    def sync(self) -> None:
        """Make the written bytes durable."""
        if self._failure is None:
            sync_data(self)

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
