"""A bundle's network, ready to run on a provider: `open_session` makes a `Session` of what was chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from scgenept_rt.bundle import Bundle
from scgenept_rt.errors import PredictOptionError
from scgenept_rt.providers import ProviderChoice
from scgenept_rt.session.attention_kernel import cpu_attention_kernel, cuda_attention_kernels
from scgenept_rt.session.backend import Backend, open_backend
from scgenept_rt.session.batch import activation_bytes, automatic_batch_size, planned_size
from scgenept_rt.session.cuda_graphs import Shape, shapes_to_record
from scgenept_rt.session.ort_session import OrtSession
from scgenept_rt.session.protocol import Session

__all__ = [
    "Backend",
    "OrtSession",
    "Session",
    "activation_bytes",
    "automatic_batch_size",
    "cpu_attention_kernel",
    "cuda_attention_kernels",
    "open_session",
    "planned_size",
    "shapes_to_record",
]


def open_session(
    bundle: Bundle,
    choice: ProviderChoice,
    *,
    threads: int | None = None,
    reference_checkpoint: str | Path | None = None,
    recorded: Sequence[Shape] = (),
    on_notice: Callable[[str], None] | None = None,
) -> Session:
    """Make a session on the provider that was chosen.

    Parameters
    ----------
    bundle
        An opened bundle.
    choice
        From `select_provider`.
    threads
        Threads on the CPU; None for as many as this process may use.
    reference_checkpoint
        For the provider torch: the checkpoint that the bundle was exported from, if the bundle keeps no weights.
    recorded
        For the provider cuda: (n_cells, n_genes) of the batches to record as CUDA graphs, see `shapes_to_record`.
    on_notice
        Is told what takes long.

    Raises
    ------
    PredictOptionError
        If a checkpoint is given for a provider that runs graphs, or CUDA graphs are asked of another than cuda.
    ScgeneptError
        See `OrtSession` and `open_backend`.
    """
    checkpoint = None if reference_checkpoint is None else Path(reference_checkpoint)
    if recorded and choice.name != "cuda":
        raise PredictOptionError(
            f"CUDA graphs are recorded by the provider cuda alone, not by {choice.name}. Leave them out "
            "(--cuda-graphs, cuda_graphs=True), or choose the provider cuda."
        )
    if choice.name == "torch":
        return open_backend(bundle, choice, threads=threads, reference_checkpoint=checkpoint)
    if checkpoint is not None:
        raise PredictOptionError(
            f"a reference checkpoint is read by the provider torch alone, not by {choice.name}. "
            "Leave --reference-checkpoint out, or add --provider torch."
        )
    return OrtSession(bundle, choice, threads=threads, recorded=recorded, on_notice=on_notice)
