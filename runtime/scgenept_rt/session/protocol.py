"""The interface of everything that can run the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Precision

Feed = Mapping[str, NDArray[Any]]
"""A graph's inputs by name: those of `Session.run`; a merged graph has `log_count` too."""

OUTPUT: Final = "predicted"
"""Name of a graph's output: (n_cells, n_genes) float32."""


class Session(Protocol):
    """Anything that can run a bundle's network."""

    @property
    def provider(self) -> str:
        """Name of the provider, one of `scgenept_rt.providers.PROVIDER_NAMES`."""

    @property
    def precision(self) -> Precision:
        """Precision of the network's weights and activations."""

    @property
    def fixed_batches(self) -> bool:
        """Whether each batch size costs a new plan, so that short batches are better padded."""

    def run(
        self, values: NDArray[np.float32], pert_flags: NDArray[np.int64], gene_index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Predict one batch.

        Parameters
        ----------
        values
            (n_cells, n_genes) float32, log1p-normalised expression.
        pert_flags
            (n_cells, n_genes) int64, 1 = perturbed.
        gene_index
            (n_genes,) int64, rows of the bundle's gene table.

        Returns
        -------
        ndarray
            (n_cells, n_genes) float32, predicted expression, not clipped (it may be negative).

        Raises
        ------
        DeviceMemoryError
            If memory runs out.
        InferenceError
            If the batch cannot be run.
        """
