"""Several GPUs of one machine as one session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import ScgeneptError
from scgenept_rt.session.protocol import Session


class SeveralDevices:
    """Runs each batch on a device that is free. Thread-safe: as many batches run at once as there are devices.

    Attributes
    ----------
    sessions
        One session per device, by the name of the device; all of one GPU model, provider and precision.
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
    """Return a context with a session of which no other context has the device; one device may be shared."""
    return session.free() if isinstance(session, SeveralDevices) else nullcontext(session)
