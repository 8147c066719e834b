"""Smaller batches after memory ran out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import DeviceMemoryError
from scgenept_rt.session import Session


class MemoryBackoff:
    """Runs batches through sessions; once memory runs out in one, in halves, quarters and so on in all of them.

    Running out of memory is an error only if a single cell does not fit. Thread-safe.

    Attributes
    ----------
    max_cells
        Cells that fit at once; None if memory never ran out.
    """

    def __init__(self) -> None:
        self.max_cells: int | None = None

    def run(
        self,
        session: Session,
        values: NDArray[np.float32],
        pert_flags: NDArray[np.int64],
        gene_index: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Predict one batch, in parts if necessary; see `Session.run`."""
        # Allocated first: an engine that fails keeps the memory that it took.
        predicted = np.empty(values.shape, dtype=np.float32)
        while True:
            size = min(self.max_cells or len(values), len(values))
            try:
                for begin in range(0, len(values), size):
                    part = slice(begin, begin + size)
                    predicted[part] = session.run(values[part], pert_flags[part], gene_index)
                return predicted
            except DeviceMemoryError:
                if size <= 1:
                    raise
                # If another thread overwrites this with more, memory runs out once more.
                self.max_cells = min(self.max_cells or size, -(-size // 2))
