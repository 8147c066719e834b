"""Sessions that another package offers: PyTorch, which the runtime itself never imports.

A package declares a backend as an entry point in the group `scgenept_rt.backends`, named after the provider: a
function of a bundle and a choice that returns a session.
"""

from __future__ import annotations

from importlib import metadata
from typing import cast

from scgenept_rt.bundle import Bundle
from scgenept_rt.errors import ProviderUnavailableError
from scgenept_rt.installing import install_command
from scgenept_rt.providers import BACKEND_ENTRY_POINTS, ProviderChoice
from scgenept_rt.session.protocol import Session


def open_backend(bundle: Bundle, choice: ProviderChoice) -> Session:
    """Open a session with the installed backend of a provider.

    Raises
    ------
    ProviderUnavailableError
        If no installed package offers it, or its import fails.
    ScgeneptError
        As the backend raises.
    """
    where = f"provider {choice.name}"
    for entry in metadata.entry_points(group=BACKEND_ENTRY_POINTS, name=choice.name):
        try:
            backend = entry.load()
        except Exception as error:  # broken installations raise anything: missing modules, libraries, symbols
            raise ProviderUnavailableError(
                f"its backend {entry.value} cannot be imported ({type(error).__name__}: {error})",
                f"Run `{install_command('export', '--force-reinstall ')}`",
                where=where,
            ) from error
        return cast("Session", backend(bundle, choice))
    remedy = f"Run `{install_command('export')}`"
    raise ProviderUnavailableError("no installed package offers it", remedy, where=where)
