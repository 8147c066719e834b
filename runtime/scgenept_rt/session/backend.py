"""Sessions that another package of ours offers: PyTorch, which the runtime itself never imports.

A package declares a backend as an entry point in the group `scgenept_rt.backends`; its name is the provider's.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Protocol, cast

from scgenept_rt.bundle import Bundle
from scgenept_rt.errors import ProviderUnavailableError
from scgenept_rt.providers import BACKEND_ENTRY_POINTS, ProviderChoice
from scgenept_rt.session.protocol import Session


class Backend(Protocol):
    """The object that an entry point names: makes a session of an opened bundle."""

    def __call__(
        self, bundle: Bundle, choice: ProviderChoice, *, threads: int | None, reference_checkpoint: Path | None
    ) -> Session:
        """Make a session.

        Parameters
        ----------
        bundle
            An opened bundle.
        choice
            The provider, with precision and device.
        threads
            Threads on the CPU; None for as many as the process may use.
        reference_checkpoint
            The checkpoint that the bundle was exported from; None to use the weights that the bundle keeps.
        """


def open_backend(
    bundle: Bundle, choice: ProviderChoice, *, threads: int | None, reference_checkpoint: Path | None
) -> Session:
    """Make a session with the installed backend of a provider.

    Raises
    ------
    ProviderUnavailableError
        If no installed package offers it, or its import fails.
    ScgeneptError
        What the backend itself raises.
    """
    for entry in metadata.entry_points(group=BACKEND_ENTRY_POINTS, name=choice.name):
        try:
            backend = cast("Backend", entry.load())
        except Exception as error:  # whatever a broken installation raises: missing modules, libraries, symbols
            reason = f"its backend {entry.value} cannot be imported ({type(error).__name__}: {error})"
            raise ProviderUnavailableError(
                choice.name, reason, "pip install --force-reinstall 'scgenept-rt[export]'"
            ) from error
        return backend(bundle, choice, threads=threads, reference_checkpoint=reference_checkpoint)
    raise ProviderUnavailableError(choice.name, "no installed package offers it", "pip install 'scgenept-rt[export]'")
