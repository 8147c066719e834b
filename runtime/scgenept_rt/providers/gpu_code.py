"""Which GPUs a shared library has machine code for, as its `.nv_fatbin` section lists it."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SECTION: Final = b".nv_fatbin"
_MAGIC: Final = 0xBA55ED50
_PTX: Final = 1  # compiled by the driver for any GPU that is as new or newer


def runs_on(library: Path, capability: tuple[int, int]) -> bool:
    """Return whether a library has code for a compute capability; True if the file does not say.

    Machine code runs on GPUs of the same major version, as new or newer. Builds differ: onnxruntime-gpu 1.28 had code
    for 10.0, 1.31 has none.
    """
    wanted = capability[0] * 10 + capability[1]
    listed = False
    try:
        for is_ptx, architecture in _entries(library):
            listed = True
            if architecture <= wanted and (is_ptx or architecture // 10 == capability[0]):
                return True
    except (OSError, ValueError, struct.error):  # no file, an empty one, or not of this format
        return True
    return not listed


def _entries(library: Path) -> Iterator[tuple[bool, int]]:
    """Yield kind and architecture (such as 90) of each entry, reading the headers alone: the file is large."""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:6] != b"\x7fELF\x02\x01":
            return
        table, (entry_size, n_sections, names) = (
            struct.unpack_from("<Q", content, 40)[0],
            struct.unpack_from("<HHH", content, 58),
        )
        sections = [struct.unpack_from("<IIQQQQ", content, table + i * entry_size) for i in range(n_sections)]
        for name, _, _, _, at, size in sections:
            start = sections[names][4] + name
            if content[start : start + len(_SECTION) + 1] != _SECTION + b"\0":
                continue
            end = at + size
            while at + 16 <= end:
                magic, _, header, length = struct.unpack_from("<IHHQ", content, at)
                if magic != _MAGIC:  # padding
                    at += 8
                    continue
                entry, at = at + header, at + header + length
                while entry < at:
                    kind, _, header, length = struct.unpack_from("<HHIQ", content, entry)
                    yield kind == _PTX, struct.unpack_from("<I", content, entry + 28)[0]
                    entry += header + length
                at += -at % 8
