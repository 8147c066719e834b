"""From a bundle to a predictor: which provider, which graph, which session."""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

from scgenept_rt.bundle import Bundle, Precision
from scgenept_rt.errors import PATH_TYPES, PredictOptionError, check_argument, describe
from scgenept_rt.predictor.predictor import Predictor
from scgenept_rt.providers import select_provider
from scgenept_rt.providers.devices import DeviceMeter
from scgenept_rt.session import open_session, shapes_to_record

if TYPE_CHECKING:
    from scgenept_rt.predictor.schedule import Notice

_MOST_THREADS = max(128, os.cpu_count() or 1)
"""More than there are CPUs is slow, and hundreds more stand still for minutes."""


def load(
    bundle: str | Path | Bundle,
    *,
    provider: str = "auto",
    precision: str = "auto",
    device_id: int | None = None,
    threads: int | None = None,
    reference_checkpoint: str | Path | None = None,
    cuda_graphs: bool = False,
    on_notice: Notice | None = None,
) -> Predictor:
    """Open a bundle for prediction.

    Parameters
    ----------
    bundle
        Directory of a bundle, or ``demo`` for the synthetic one that ships with the package. Every file is checked
        against its manifest.
    provider
        "auto" (a usable GPU, else the CPU), "cpu", "cuda", "tensorrt", "tensorrt-rtx" or "torch".
    precision
        "auto" (fp16 on GPUs, fp32 on the CPU), "fp32" or "fp16".
    device_id
        Number of the GPU.
    threads
        Threads of the CPU provider; None for as many as this process may use.
    reference_checkpoint
        For the provider "torch", if the bundle was exported without `--keep-reference-weights`: the checkpoint that it
        was exported from.
    cuda_graphs
        For the provider "cuda": record batches of 1, 2 and 4 cells as CUDA graphs, which are launched whole from then
        on. For services that predict a cell at a time; larger batches gain nothing. Nothing else in the process may use
        a GPU while this loads.
    on_notice
        Is told what takes long: TensorRT compiles an engine for minutes, once.

    Raises
    ------
    ArgumentTypeError
        If an argument is of another type.
    BundleError
        If the bundle is damaged, of a newer format, or lacks the graph.
    ProviderUnavailableError, UnknownProviderError, DeviceNotFoundError
        If the provider cannot be used here; one that was asked for is never replaced by another.
    PredictOptionError
        If the precision is unknown, the number of threads makes no sense, or an option belongs to another provider.
    """
    check_argument("provider", provider, (str,), "a name such as auto or cpu")
    check_argument("precision", precision, (str,), "one of auto, fp32, fp16")
    if precision not in ("auto", *get_args(Precision)):
        raise PredictOptionError(f"precision is {precision!r}. Expected one of auto, fp32, fp16.")
    check_argument("device_id", device_id, (Integral, NoneType), "the number of a GPU, or None")
    check_argument("cuda_graphs", cuda_graphs, (bool, np.bool_), "True or False")
    check_argument("reference_checkpoint", reference_checkpoint, (*PATH_TYPES, NoneType), "the path of a file, or None")
    if threads is not None and not (isinstance(threads, Integral) and 1 <= threads <= _MOST_THREADS):
        raise PredictOptionError(
            f"threads is {describe(threads)}. Expected a whole number from 1 to {_MOST_THREADS}, or None."
        )
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if provider != "torch":  # which runs no graph
        opened.check_known_graphs()
    graphs = {(graph.precision, graph.target) for graph in opened.graphs()}
    choice = select_provider(
        provider,
        precision=cast("Precision | Literal['auto']", precision),
        graphs=cast("Any", graphs),
        device_id=device_id,
    )
    session = open_session(
        opened,
        choice,
        threads=threads,
        reference_checkpoint=reference_checkpoint,
        recorded=shapes_to_record(opened.manifest.dimensions.n_genes) if cuda_graphs else (),
        on_notice=on_notice,
    )
    # Asked now: what later runs take, ONNX Runtime keeps, and it would count as in use by others.
    free = DeviceMeter(choice.device_id).free_bytes()
    return Predictor(opened, session, choice_reason=choice.reason, free_device_bytes=free)
