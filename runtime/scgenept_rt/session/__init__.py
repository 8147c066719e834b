"""A bundle's network, ready to run on a provider: `open_session` opens a `Session` on what was chosen."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Final, cast

from scgenept_rt.bundle import Bundle
from scgenept_rt.errors import ProviderUnavailableError
from scgenept_rt.installing import install_command
from scgenept_rt.providers import ProviderChoice
from scgenept_rt.session.attention_kernel import attention_kernels
from scgenept_rt.session.batch import automatic_batch_size, planned_size
from scgenept_rt.session.ort_session import OrtSession, inference_error
from scgenept_rt.session.protocol import Session, SeveralDevices, devices_of, free_device

__all__ = [
    "OrtSession",
    "Session",
    "SeveralDevices",
    "attention_kernels",
    "automatic_batch_size",
    "devices_of",
    "free_device",
    "inference_error",
    "open_session",
    "planned_size",
]

# Packages declare functions of a bundle and a choice that return a session, by the name of the provider: PyTorch, which
# the runtime itself never imports.
_BACKENDS: Final = "scgenept_rt.backends"


def open_session(bundle: Bundle, choice: ProviderChoice, *, on_notice: Callable[[str], None] | None = None) -> Session:
    """Open a session on the provider that was chosen; on several devices, one that runs on all of them.

    `on_notice` is called with a message about each step that takes long. Raises what `OrtSession` does, and
    `ProviderUnavailableError` if no installed package offers the provider, or its import fails.
    """
    each = choice.per_device
    if len(each) > 1:
        # One after the other: the first may build an engine that serves all.
        return SeveralDevices({name: open_session(bundle, one, on_notice=on_notice) for name, one in each.items()})
    if choice.traits.runs_graphs:
        return OrtSession(bundle, choice, on_notice=on_notice)
    where = f"provider {choice.name}"
    for entry in metadata.entry_points(group=_BACKENDS, name=choice.name):
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
