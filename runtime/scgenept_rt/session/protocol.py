"""The interface of everything that can run the network, and several GPUs of one machine behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import SimpleQueue
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Precision
from scgenept_rt.errors import ScgeneptError

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


class SeveralDevices:
    """Runs each batch on a device that is free. Thread-safe: as many batches run at once as there are devices.

    `sessions` are those of the devices, by the name of the device; all of one GPU model, provider and precision.
    """

    def __init__(self, sessions: Mapping[str, Session]) -> None:
        self.sessions = sessions
        first = next(iter(sessions.values()))
        self.provider, self.precision, self.fixed_batches = first.provider, first.precision, first.fixed_batches
        self._free: SimpleQueue[str] = SimpleQueue()
        for name in sessions:
            self._free.put(name)

    def run(
        self, values: NDArray[np.float32], pert_flags: NDArray[np.int64], gene_index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Predict one batch on the next device that is free; see `Session.run`."""
        with self.free() as session:
            return session.run(values, pert_flags, gene_index)

    @contextmanager
    def free(self) -> Iterator[Session]:
        """Wait for a free device and take it; errors within the context name it."""
        name = self._free.get()
        try:
            yield self.sessions[name]
        except ScgeneptError as error:
            named = type(error)(error.problem, error.remedy, error.options, where=name)
            raise named from error.__cause__
        finally:
            self._free.put(name)


def devices_of(session: Session) -> Mapping[str, Session]:
    """Return the sessions of the devices by name; one without a name if there are not several."""
    return session.sessions if isinstance(session, SeveralDevices) else {"": session}


def free_device(session: Session) -> AbstractContextManager[Session]:
    """Return a context with a session on a device that no other context uses; a single device may be shared."""
    return session.free() if isinstance(session, SeveralDevices) else nullcontext(session)
