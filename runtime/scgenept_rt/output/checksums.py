"""Checksums of the committed rows of a table, appended by every commit."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.files.durable import sync_data

_DTYPE = np.dtype("<u4")
_BLOCK_BYTES = 1 << 20


class Checksums:
    """A file of one CRC-32 per piece of a table (a row, or the rows of a chunk), in order.

    It is the journal's counter: a piece is committed once its checksum is here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __len__(self) -> int:
        try:
            return self._path.stat().st_size // _DTYPE.itemsize
        except FileNotFoundError:
            return 0

    def read(self) -> NDArray[np.uint32]:
        """Return all of them."""
        return np.fromfile(self._path, _DTYPE, len(self))

    def append(self, checksums: Iterable[int]) -> None:
        """Append those of the next pieces, whose rows are on disk."""
        self._change(len(self), np.fromiter(checksums, _DTYPE))

    def truncate(self, n_pieces: int) -> None:
        """Forget those of later pieces, which are about to be written again."""
        if self._path.stat().st_size > n_pieces * _DTYPE.itemsize:
            self._change(n_pieces, np.empty(0, _DTYPE))

    def _change(self, n_kept: int, added: NDArray[np.uint32]) -> None:
        with self._path.open("r+b") as file:
            file.truncate(n_kept * _DTYPE.itemsize)
            file.seek(n_kept * _DTYPE.itemsize)
            file.write(added.data)
            sync_data(file)


def checksum_of_file(file: IO[bytes], n_bytes: int, checksum: int = 0) -> int:
    """Continue a checksum with the next bytes of a file, or with fewer if it ends."""
    while n_bytes > 0 and (block := file.read(min(n_bytes, _BLOCK_BYTES))):
        checksum = zlib.crc32(block, checksum)
        n_bytes -= len(block)
    return checksum
