"""What a worker of a cluster runs, in a process of its own; needs only what `predict_array` needs."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Bundle
from scgenept_rt.errors import ScgeneptError
from scgenept_rt.installing import RUNTIME_PACKAGES, installed_versions
from scgenept_rt.options import EngineOptions
from scgenept_rt.predictor import load
from scgenept_rt.predictor.batches import MemoryBackoff
from scgenept_rt.verification import check_reference

PROVIDER, PRECISION, GPU, PACKAGE = "provider", "precision", "GPU model", "scgenept-rt"


class Worker:
    """A bundle's network on one worker."""

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
            "identity": {**identity, **installed_versions(PACKAGE, *RUNTIME_PACKAGES)},
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


def read_bundle(bundle: Bundle) -> dict[str, bytes]:
    """Return the content of the files of a bundle by name."""
    names = ["manifest.json", *(file.path for file in bundle.manifest.files)]
    return {name: (bundle.directory / name).read_bytes() for name in names}
