"""A file that HDF5 reads through, so that damage on which the library would loop forever is an ordinary error."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from io import FileIO
from pathlib import Path
from typing import Any

_HEAP = b"GCOL\x01\0\0\0"
"""How a global heap begins, where HDF5 keeps texts of varying length."""
_HEAP_START = struct.Struct("<8xQ")
_HEAP_OBJECT = struct.Struct("<H6xQ")
_MOST_METADATA = 1 << 20


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
        """Fill a buffer; raises ValueError if that is the beginning of a damaged heap."""
        begin, n_bytes = self.tell(), super().readinto(buffer)
        if n_bytes <= _MOST_METADATA:
            self._check_heaps(bytes(buffer), begin)
        return n_bytes

    def _check_heaps(self, data: bytes, begin: int) -> None:
        at = data.find(_HEAP)
        while at >= 0:
            if begin + at not in self._sound:
                self._check_heap(begin + at)
                self._sound.add(begin + at)
            at = data.find(_HEAP, at + 1)

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
