"""Opening a bundle on the workers of a cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from scgenept_rt.bundle import Bundle
from scgenept_rt.cluster.connection import ADDRESS_VARIABLE, before_interrupts, connected
from scgenept_rt.cluster.ray_session import GPU, RaySession
from scgenept_rt.errors import ArgumentError, ClusterError, UseOption
from scgenept_rt.installing import RUNTIME_PACKAGES
from scgenept_rt.options import EngineOptions, PredictFileOptions, ReadOptions, resolve
from scgenept_rt.perturbation import PerturbationRequest
from scgenept_rt.predictor import Predictor, Progress
from scgenept_rt.predictor.batches import OnNotice
from scgenept_rt.providers import TRAITS
from scgenept_rt.wording import pluralize

if TYPE_CHECKING:
    from anndata import AnnData


class ClusterPredictor(Predictor):
    """A predictor whose network runs on the workers of a cluster; closing it ends them."""

    def __init__(self, bundle: Bundle, session: RaySession, resources: ExitStack) -> None:
        super().__init__(bundle, session, choice_reason=session.choice_reason, gpu=session.identity[GPU])
        self._workers, self._resources = session, resources

    @property
    def n_workers(self) -> int:
        """Number of workers that predict at the moment."""
        return self._workers.n_alive

    def versions(self) -> dict[str, str]:
        """Return the versions of this process, and of ONNX Runtime on the workers."""
        identity = self._workers.identity
        own = {name: version for name, version in super().versions().items() if name not in RUNTIME_PACKAGES}
        return {**own, **{name: identity[name] for name in RUNTIME_PACKAGES if name in identity}}

    def close(self) -> None:
        """End the workers and the connection; predicting afterwards raises RuntimeError."""
        super().close()
        self._resources.close()


def load(
    bundle: str | Path | Bundle,
    *,
    address: str | None = None,
    workers: int | None = None,
    check: bool = True,
    on_notice: OnNotice | None = None,
    **options: Unpack[EngineOptions],
) -> ClusterPredictor:
    """Open a bundle on the workers of a Ray cluster, which get it and their cells through Ray's object store.

    This process reads the cells and writes the file, byte for byte as with `scgenept_rt.load`. Workers need no shared
    file system, but the same versions of this package and Ray as this process, and ONNX Runtime.

    Parameters
    ----------
    bundle, **options
        As for `scgenept_rt.load`.
    address
        HOST:PORT of the cluster. None: that of the environment variable RAY_ADDRESS, or of this machine; if there is
        none, one is started on this machine.
    workers
        Number of workers, one GPU each, or ``threads`` CPUs (1 by default); None: as many as the cluster has room for.
        Those that find no room start when there is some.
    check
        Compare the bundle's reference cells on every worker.
    on_notice
        Called with a message about each worker that is lost or refused.

    Raises
    ------
    MissingPackageError
        If Ray is not installed.
    ClusterError
        If the cluster cannot be reached, or all workers were refused or lost.
    ScgeneptError
        What `scgenept_rt.load` raised on all workers.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    engine = resolve(EngineOptions, options)
    if engine["device"] is not None:
        raise ArgumentError("device was given, but Ray chooses the GPU of each worker")
    if workers is not None and workers < 1:
        raise ArgumentError(f"workers is {workers}, expected a whole number from 1")
    notify = on_notice or (lambda _: None)
    with ExitStack() as resources:
        held = resources.enter_context(connected(address))
        provider, n_gpus = engine["provider"], int(held.get("GPU", 0))
        on_gpu = n_gpus > 0 if provider == "auto" else provider in TRAITS and TRAITS[provider].on_gpu
        if not on_gpu:
            engine["threads"] = engine["threads"] or 1
        room = n_gpus if on_gpu else int(held.get("CPU", 0)) // (engine["threads"] or 1)
        n_workers = max(room, 1) if workers is None else workers
        if n_workers > room:
            needs = "one GPU" if on_gpu else pluralize(engine["threads"] or 1, "CPU")
            told = f"The Ray cluster has room for {room:,} of {pluralize(n_workers, 'worker')}, which take {needs} each"
            if not room and (address or os.environ.get(ADDRESS_VARIABLE, "local")) == "local":
                raise ClusterError(told, options=[UseOption("provider", "run on CPUs", "cpu")] if on_gpu else [])
            notify(f"{told}; others start when machines join.")
        session = RaySession(
            opened,
            engine,
            n_workers=n_workers,
            on_gpu=on_gpu,
            check=check,
            on_notice=notify,
        )
        resources.callback(session.close)
        resources.enter_context(before_interrupts(session.stop_waiting))
        return ClusterPredictor(opened, session, resources.pop_all())


def predict_file(
    bundle: str | Path | Bundle,
    cells: str | Path | AnnData,
    out: str | Path,
    perturbations: str | Sequence[str | PerturbationRequest],
    *,
    address: str | None = None,
    workers: int | None = None,
    engine: EngineOptions | None = None,
    read: ReadOptions | None = None,
    progress: Progress | None = None,
    on_notice: OnNotice | None = None,
    **options: Unpack[PredictFileOptions],
) -> list[Path]:
    """Predict from a file into a file on a Ray cluster; if this process is killed, ``resume=True`` continues.

    Parameters
    ----------
    bundle, address, workers
        As for `load`.
    engine
        `scgenept_rt.EngineOptions` of every worker.
    cells, out, perturbations, read, progress, on_notice, **options
        As for `Predictor.predict_file`, and the same files are returned.
    """
    with load(bundle, address=address, workers=workers, on_notice=on_notice, **(engine or {})) as model:
        return model.predict_file(
            cells, out, perturbations, read=read, progress=progress, on_notice=on_notice, **options
        )
