"""Going on with smaller batches when memory runs out, instead of failing."""

from __future__ import annotations

from threading import Lock

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors.core import DeviceMemoryError
from scgenept_rt.session import Session


class MemoryBackoff:
    """Runs batches through a session; after running out of memory, in halves, quarters and so on, from then on.

    Only when a single cell does not fit is running out of memory an error. Safe to use from many threads at once.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._max_cells: int | None = None
        self._learning = Lock()

    @property
    def max_cells(self) -> int | None:
        """Cells that fit at once, as far as that had to be found out; None if memory never ran out."""
        return self._max_cells

    def run(
        self, values: NDArray[np.float32], pert_flags: NDArray[np.int64], gene_index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Predict one batch, in parts if need be; see `Session.run`."""
        # Reserved first: what an engine took before it failed, it keeps.
        predicted = np.empty(values.shape, dtype=np.float32)
        if not len(values):
            return predicted
        while True:
            size = min(self._max_cells or len(values), len(values))
            try:
                for begin in range(0, len(values), size):
                    part = slice(begin, begin + size)
                    predicted[part] = self._session.run(values[part], pert_flags[part], gene_index)
                return predicted
            except DeviceMemoryError:
                if size <= 1:
                    raise
                half = -(-size // 2)
                with self._learning:  # another thread may have found out that less fits
                    self._max_cells = min(self._max_cells or half, half)
