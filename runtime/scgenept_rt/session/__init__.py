"""A bundle's network, ready to run on a provider: `open_session` opens a `Session` on what was chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scgenept_rt.bundle import Bundle
from scgenept_rt.providers import ProviderChoice
from scgenept_rt.session.attention_kernel import attention_kernels
from scgenept_rt.session.backend import Backend, open_backend
from scgenept_rt.session.batch import activation_bytes, automatic_batch_size, planned_size
from scgenept_rt.session.cuda_graphs import Shape, shapes_to_record
from scgenept_rt.session.failures import inference_error
from scgenept_rt.session.ort_session import OrtSession
from scgenept_rt.session.protocol import Session

__all__ = [
    "Backend",
    "OrtSession",
    "Session",
    "activation_bytes",
    "attention_kernels",
    "automatic_batch_size",
    "inference_error",
    "open_session",
    "planned_size",
]


def open_session(
    bundle: Bundle,
    choice: ProviderChoice,
    *,
    record: Sequence[Shape] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Session:
    """Open a session on the provider that was chosen.

    Parameters
    ----------
    bundle
        An opened bundle.
    choice
        From `select_provider`.
    record
        If CUDA graphs were asked for: (n_cells, n_genes) of the batches to record, by default `shapes_to_record`.
    on_notice
        Called with a message about each step that takes long.

    Raises
    ------
    ScgeneptError
        See `OrtSession` and `open_backend`.
    """
    if not choice.traits.runs_graphs:
        return open_backend(bundle, choice)
    if record is None:
        record = shapes_to_record(bundle.manifest.dimensions.n_genes)
    recorded = record if choice.engine["cuda_graphs"] else ()
    return OrtSession(bundle, choice, recorded=recorded, on_notice=on_notice)
