"""Pinned host memory, which a GPU copies from by itself; from other memory the driver copies piece by piece first."""

from __future__ import annotations

import ctypes
import mmap
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.providers.devices import open_driver

_FOR_ALL_CONTEXTS = 1  # CU_MEMHOSTREGISTER_PORTABLE


_FUNCTIONS = (
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxPushCurrent_v2",
    "cuCtxPopCurrent_v2",
    "cuMemHostRegister_v2",
    "cuMemHostUnregister",
)

_IN_USE: set[PinnedMemory] = set()
"""Memory may not be let go while it is pinned: not where an interrupt kept a context from being left, and not where the
driver could not unpin it."""


def whole_pages(n_bytes: int) -> NDArray[np.uint8]:
    """Return at least `n_bytes` bytes of zeros that begin and end with a page: pages are what is pinned."""
    size = -(-max(n_bytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = np.zeros(size + mmap.PAGESIZE, dtype=np.uint8)
    offset = -memory.ctypes.data % mmap.PAGESIZE
    return memory[offset : offset + size]


class PinnedMemory:
    """Pins memory for one GPU while its context lasts. What cannot be pinned stays as it is, and works as well.

    Attributes
    ----------
    n_pinned
        How many pieces of memory are pinned.
    """

    def __init__(self, device_id: int | None, *memory: NDArray[np.uint8]) -> None:
        """Pin on entering.

        Parameters
        ----------
        device_id
            CUDA's number of the GPU among the visible ones; None to pin nothing.
        memory
            Whole pages, see `whole_pages`. Kept until the context is left.
        """
        self._device_id = device_id
        self._memory = memory
        self._pinned: list[ctypes.c_void_p] = []
        self._cuda: Any = None
        self._context = ctypes.c_void_p()
        self._device = ctypes.c_int()

    @property
    def n_pinned(self) -> int:
        """How many pieces of memory are pinned."""
        return len(self._pinned)

    def __enter__(self) -> Self:
        if self._device_id is not None:
            try:
                self._pin(self._device_id)
            except (OSError, AttributeError):  # no driver, or one that is too old to have these functions
                self._cuda = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cuda, self._cuda = self._cuda, None
        if cuda is None:
            return
        # Its own context: the memory may be let go in another thread than it was pinned in.
        if cuda.cuCtxPushCurrent_v2(self._context) == 0:
            self._pinned = [address for address in self._pinned if cuda.cuMemHostUnregister(address) != 0]
            cuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        cuda.cuDevicePrimaryCtxRelease_v2(self._device)
        if not self._pinned:
            _IN_USE.discard(self)

    def _pin(self, device_id: int) -> None:
        cuda = open_driver()
        for name in _FUNCTIONS:
            getattr(cuda, name)  # an old driver may lack one, and then nothing may be begun
        if (
            cuda.cuInit(0)
            or cuda.cuDeviceGet(ctypes.byref(self._device), device_id)
            # The one that ONNX Runtime uses: there is one for each GPU and process.
            or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(self._context), self._device)
        ):
            return
        self._cuda = cuda
        _IN_USE.add(self)
        if cuda.cuCtxPushCurrent_v2(self._context):
            return
        for piece in self._memory:
            address = ctypes.c_void_p(piece.ctypes.data)
            if cuda.cuMemHostRegister_v2(address, ctypes.c_size_t(piece.nbytes), _FOR_ALL_CONTEXTS) == 0:
                self._pinned.append(address)
        cuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
