"""A bundle's network, ready to run on a provider: `open_session` opens a `Session` on what was chosen."""

from __future__ import annotations

from collections.abc import Callable

from scgenept_rt.bundle import Bundle
from scgenept_rt.providers import ProviderChoice
from scgenept_rt.session.attention_kernel import attention_kernels
from scgenept_rt.session.backend import open_backend
from scgenept_rt.session.batch import automatic_batch_size, planned_size
from scgenept_rt.session.failures import inference_error
from scgenept_rt.session.ort_session import OrtSession
from scgenept_rt.session.protocol import Session
from scgenept_rt.session.several_devices import SeveralDevices, devices_of, free_device

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


def open_session(bundle: Bundle, choice: ProviderChoice, *, on_notice: Callable[[str], None] | None = None) -> Session:
    """Open a session on the provider that was chosen; on several devices, one that runs on all of them.

    Parameters
    ----------
    on_notice
        Called with a message about each step that takes long.

    Raises
    ------
    ScgeneptError
        See `OrtSession` and `open_backend`.
    """
    each = choice.per_device
    if len(each) > 1:
        # One after the other: the first may build an engine that serves all.
        return SeveralDevices({name: open_session(bundle, one, on_notice=on_notice) for name, one in each.items()})
    if not choice.traits.runs_graphs:
        return open_backend(bundle, choice)
    return OrtSession(bundle, choice, on_notice=on_notice)
