"""The provider `torch`: the eager fp32 reference behind the runtime's `Session`, found through its entry point."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from scgenept_export.reference_weights import load_reference_model
from scgenept_rt.bundle import Bundle, Precision
from scgenept_rt.errors import ArgumentError, ProviderUnavailableError
from scgenept_rt.files.machine_limits import cpu_threads
from scgenept_rt.providers import ProviderChoice
from scgenept_rt.session import inference_error
from scgenept_rt.wording import pluralize

_MAX_TOKENS = {"cpu": 8_192, "cuda": 32 * 5_120}
"""Tokens (cells x genes) computed at once: bounds memory, whatever the batch size."""


class TorchSession:
    """The eager fp32 model of a bundle, on the CPU, or on a CUDA device that was asked for.

    Safe to use from many threads; batches then run one after the other.
    """

    provider: Final = "torch"
    precision: Final[Precision] = "fp32"
    fixed_batches: Final = False  # any batch size costs alike

    def __init__(self, bundle: Bundle, choice: ProviderChoice) -> None:
        """Load the weights; see `load_reference_model`.

        Raises
        ------
        ArgumentError
            If another precision than fp32 is asked for.
        ProviderUnavailableError
            If the device is not one that PyTorch sees.
        """
        if choice.precision != "fp32":
            problem = f"precision is {choice.precision!r}, but the provider torch is the fp32 reference"
            raise ArgumentError(problem, "Leave the precision to it, or use another provider")
        self._device = _device(choice.device_id)
        threads, checkpoint = choice.engine["threads"], choice.engine["reference_checkpoint"]
        if self._device.type == "cpu" and (threads or torch.get_num_threads() > cpu_threads()):
            torch.set_num_threads(threads or cpu_threads())  # PyTorch knows one number for the whole process
        self._model = load_reference_model(bundle, None if checkpoint is None else Path(checkpoint)).to(self._device)
        self._lock = Lock()

    def run(
        self, values: NDArray[np.float32], pert_flags: NDArray[np.int64], gene_index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Predict one batch; see `scgenept_rt.session.Session.run`."""
        n_cells, n_genes = values.shape
        at_once = max(1, _MAX_TOKENS[self._device.type] // max(n_genes, 1))
        predicted = np.empty((n_cells, n_genes), dtype=np.float32)
        genes = torch.from_numpy(gene_index).to(self._device)
        try:
            with self._lock, _true_fp32(self._device):
                for begin in range(0, n_cells, at_once):
                    cells = slice(begin, begin + at_once)
                    inputs = (torch.from_numpy(values[cells]), torch.from_numpy(pert_flags[cells]))
                    predicted[cells] = self._model(genes, *(part.to(self._device) for part in inputs)).cpu().numpy()
        except (RuntimeError, IndexError) as error:  # RuntimeError: running out of memory, too
            raise inference_error(self.provider, n_cells, n_genes, error) from error
        return predicted


@contextmanager
def _true_fp32(device: torch.device) -> Iterator[None]:
    """Keep TensorFloat-32 and autocast, which the caller's program may have switched on, out of the reference."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _device(device_id: int | None) -> torch.device:
    if device_id is None:
        return torch.device("cpu")
    n_devices = torch.cuda.device_count()
    if device_id >= n_devices:
        raise ProviderUnavailableError(
            f"device {device_id} was asked for, but PyTorch {torch.__version__} sees {pluralize(n_devices, 'GPU')}",
            "Ask for another device, or for none, to run on the CPU",
            where="provider torch",
        )
    return torch.device("cuda", device_id)
