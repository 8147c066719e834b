"""A session whose network runs on the workers of a Ray cluster, and what these run."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Bundle
from scgenept_rt.cluster.connection import import_ray
from scgenept_rt.errors import ClusterError, InferenceError, ScgeneptError, UseOption
from scgenept_rt.installing import RUNTIME_PACKAGES, installed_versions
from scgenept_rt.options import EngineOptions
from scgenept_rt.predictor import load
from scgenept_rt.predictor.batches import MemoryBackoff
from scgenept_rt.providers import TRAITS
from scgenept_rt.session import Session, SeveralDevices
from scgenept_rt.verification import check_reference
from scgenept_rt.wording import pluralize

PROVIDER, PRECISION, GPU, _PACKAGE = "provider", "precision", "GPU model", "scgenept-rt"
"""What predictions depend on, beside the versions of packages."""

BATCHES_PER_WORKER = 2
"""Batches that a worker holds: the next one arrives while one runs."""

_MOST_LOSSES = 3
"""Workers that one place may lose without a prediction in between."""
_SECONDS_UNTIL_NOTICE = 30.0


class Worker:
    """A bundle's network in a process of a cluster, which needs only what `predict_array` needs."""

    def start(self, bundle: Mapping[str, bytes], engine: EngineOptions, check: bool) -> dict[str, Any]:
        """Load a bundle from the content of its files; return what its predictions depend on, and facts."""
        with _named(), TemporaryDirectory(prefix="scgenept-rt-") as directory:  # gone once the network is loaded
            for name, content in bundle.items():
                path = Path(directory, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            model = load(directory, **engine)
            if check:
                check_reference(model.bundle, model.session).raise_if_missed()
        self._session, self._backoff = model.session, MemoryBackoff()
        identity = {PROVIDER: model.provider, PRECISION: model.precision, GPU: model.gpu}
        return {
            "identity": {**identity, **installed_versions(_PACKAGE, *RUNTIME_PACKAGES)},
            "fixed_batches": model.session.fixed_batches,
            "host": socket.gethostname(),
            "reason": model.choice_reason,
        }

    def run(
        self, values: NDArray[np.float32], perturbed: NDArray[np.int64], gene_index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Predict one batch; `perturbed` are the positions of its flags in row-major order. See `Session.run`."""
        pert_flags = np.zeros(values.shape, np.int64)
        pert_flags.flat[perturbed] = 1
        with _named():
            return self._backoff.run(self._session, values, pert_flags, gene_index)


@contextmanager
def _named() -> Iterator[None]:
    """Name this machine in errors."""
    try:
        yield
    except ScgeneptError as error:
        error.where = f"worker on {socket.gethostname()}" + (f": {error.where}" if error.where else "")
        error.args = (error.message(),)
        raise


@dataclass(eq=False)
class _Worker:
    actor: Any
    host: str = ""
    n_predicted: int = 0
    lost: threading.Event = field(default_factory=threading.Event)


class RaySession(SeveralDevices):
    """Runs each batch on a worker that is free; the batch of a lost worker goes to another. Thread-safe.

    Each of `n_workers` starts as soon as the cluster has room for it; `n_alive` predict. `identity` is what predictions
    depend on: a worker with another provider, precision, GPU model or version than the first is refused.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: EngineOptions,
        *,
        n_workers: int,
        on_gpu: bool,
        check: bool,
        on_notice: Callable[[str], None],
    ) -> None:
        self.sessions = {str(number): self for number in range(BATCHES_PER_WORKER * n_workers)}
        self._ray = ray = import_ray()
        lost = ("RayActorError", "NodeDiedError", "WorkerCrashedError", "OutOfMemoryError", "ObjectLostError")
        self._lost = tuple(getattr(ray.exceptions, name) for name in lost)
        self.n_workers, self.n_alive = n_workers, 0
        self.identity: Mapping[str, Any] = installed_versions(_PACKAGE)
        files = ["manifest.json", *(file.path for file in bundle.manifest.files)]
        contents = {name: (bundle.directory / name).read_bytes() for name in files}
        self._start_arguments = ray.put(contents), engine, check
        self._on_gpu, self._on_notice = on_gpu, on_notice
        resources = {"num_cpus": engine["threads"] or 1, "num_gpus": int(on_gpu)}
        self._make = ray.remote(Worker).options(**resources, max_restarts=0, scheduling_strategy="SPREAD").remote
        self._compared_with, self._n_places = "this process", n_workers
        self._idle: SimpleQueue[_Worker | None] = SimpleQueue()
        self._failure: ScgeneptError | None = None
        self._changing = threading.RLock()
        self._workers: set[_Worker] = set()
        self._keepers = [threading.Thread(target=self._keep_one, daemon=True) for _ in range(n_workers)]
        for keeper in self._keepers:
            keeper.start()
        self._wait_for_first()

    @contextmanager
    def free(self) -> Iterator[Session]:
        """Return this session, in which a batch waits for a worker."""
        yield self

    def run(
        self, values: NDArray[np.float32], pert_flags: NDArray[np.int64], gene_index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Predict one batch on the next worker that is free; see `Session.run`."""
        perturbed = np.flatnonzero(pert_flags.astype(bool))  # as bool it is searched 15 times as fast
        while True:
            worker = self._take()
            try:
                predicted: NDArray[np.float32] = self._ray.get(worker.actor.run.remote(values, perturbed, gene_index))
            except self._lost:
                self._lose(worker)
                continue
            except self._ray.exceptions.RayError as error:
                self._idle.put(worker)
                raise self._cause(error, worker.host) from error
            worker.n_predicted += 1
            self._idle.put(worker)
            return predicted

    def stop_waiting(self) -> None:
        """Let batches fail that wait for a worker while there is none: whoever is interrupted waits for them."""
        if not self.n_alive:
            self._fail(ClusterError("no worker of the Ray cluster is left"))

    def close(self) -> None:
        """End the workers; batches that wait for one fail."""
        with self._changing:
            self._fail(ClusterError("the connection to the Ray cluster was closed"))
            for worker in self._workers:
                worker.lost.set()
                self._ray.kill(worker.actor)
        for keeper in self._keepers:
            keeper.join()

    def _take(self, timeout: float | None = None) -> _Worker:
        """Wait for a free worker and take it; raise what all of them failed of."""
        while True:
            worker = self._idle.get(timeout=timeout)
            if worker is None:
                self._idle.put(None)
                raise cast("ScgeneptError", self._failure)
            if not worker.lost.is_set():
                return worker

    def _wait_for_first(self) -> None:
        try:
            try:
                first = self._take(_SECONDS_UNTIL_NOTICE)
            except Empty:
                held = self._ray.cluster_resources()
                found = " and ".join(pluralize(int(held.get(kind, 0)), kind) for kind in ("CPU", "GPU"))
                self._on_notice(f"The Ray cluster, with {found}, has started no worker yet; waiting until it has room.")
                first = self._take()
            self._idle.put(first)
        except BaseException:
            self.close()
            raise

    # --- the life of a worker ---

    def _keep_one(self) -> None:
        """Keep one worker alive until the session ends, or it is refused, or too many are lost."""
        n_losses, failure = 0, cast("ScgeneptError", None)
        while n_losses < _MOST_LOSSES:
            with self._changing:
                if self._failure is not None:
                    return
                worker = _Worker(self._make())
                self._workers.add(worker)
            try:
                facts = self._ray.get(worker.actor.start.remote(*self._start_arguments))
                worker.host = facts["host"]
                self._admit(worker, facts)
            except (self._ray.exceptions.RayError, ScgeneptError) as error:
                failure = self._cause(error, worker.host)
                n_losses = n_losses if isinstance(error, self._lost) else _MOST_LOSSES
            else:
                worker.lost.wait()
                n_losses = 0 if worker.n_predicted else n_losses
                failure = ClusterError("workers are lost before they predict anything", where=worker.host)
            n_losses += 1
            with self._changing:
                self._workers.discard(worker)
                if self._failure is None:
                    self._ray.kill(worker.actor)
        with self._changing:
            self._n_places -= 1
            if not self._n_places:
                self._fail(failure)
            elif self._failure is None:
                self._on_notice(failure.message())

    def _admit(self, worker: _Worker, facts: Mapping[str, Any]) -> None:
        """Let a worker predict, or raise ClusterError if it would predict other numbers."""
        found = facts["identity"]
        with self._changing:
            if self._on_gpu and not TRAITS[found[PROVIDER]].on_gpu:
                raise ClusterError(
                    f"it has a GPU of the Ray cluster, but runs on the {found[PROVIDER]} ({facts['reason']})",
                    options=[UseOption("provider", "run all workers on CPUs", "cpu")],
                    where=f"worker on {worker.host}",
                )
            differing = [
                f"{name} {found.get(name)} and not {wanted}"
                for name, wanted in self.identity.items()
                if found.get(name) != wanted
            ]
            if differing:
                raise ClusterError(
                    f"it is refused, because it could predict other numbers than {self._compared_with}: it has "
                    f"{', '.join(differing)}",
                    where=f"worker on {worker.host}",
                )
            if not self.n_alive:
                self.identity, self._compared_with = found, f"the worker on {worker.host}"
                self.choice_reason, self.fixed_batches = str(facts["reason"]), bool(facts["fixed_batches"])
                self.provider, self.precision = found[PROVIDER], found[PRECISION]
            self.n_alive += 1
        for _ in range(BATCHES_PER_WORKER):
            self._idle.put(worker)

    def _lose(self, worker: _Worker) -> None:
        with self._changing:
            if worker.lost.is_set():
                return
            self.n_alive -= 1
            worker.lost.set()
        if self._failure is None:
            alive = f"{self.n_alive:,} of {pluralize(self.n_workers, 'worker')}"
            self._on_notice(f"The worker on {worker.host} was lost; others predict its cells ({alive} alive).")

    def _fail(self, failure: ScgeneptError) -> None:
        if self._failure is None:
            self._failure = failure
            self._idle.put(None)

    def _cause(self, error: Exception, host: str) -> ScgeneptError:
        """Return what a worker raised, or an error with the last line of Ray's own."""
        where = f"worker on {host}" if host else "worker"
        if isinstance(error, self._ray.exceptions.RayTaskError):
            if isinstance(error.cause, ScgeneptError):
                return error.cause
            return InferenceError(f"it failed ({type(error.cause).__name__}: {error.cause})", where=where)
        if isinstance(error, ScgeneptError):
            return error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return ClusterError(f"it failed ({lines[-1]})", where=where)
