"""The provider `torch`: the eager fp32 reference behind the runtime's `Session`, found through its entry point.

The weights that a bundle keeps for it are a checkpoint in the published layout, with the rows of the model's genes
alone: row i of every embedding table is that of the bundle's gene i, so that `gene_index` itself serves as token ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from scgenept_export.checkpoint import Checkpoint, load_checkpoint
from scgenept_export.model import ReferenceModel
from scgenept_rt.bundle import REFERENCE_WEIGHTS_NAME, Bundle, Precision, Reference
from scgenept_rt.errors import ArgumentError, BundleError, ProviderUnavailableError, UseOption
from scgenept_rt.files.failures import failed_reads
from scgenept_rt.files.hashing import sha256_of
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
        """Load the weights.

        Raises `ArgumentError` if another precision than fp32 is asked for, `ProviderUnavailableError` if PyTorch does
        not see the device, and what `load_reference_model` raises.
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
        found = f"PyTorch {torch.__version__} sees {pluralize(n_devices, 'GPU')}"
        remedy = "Ask for another device, or for none, to run on the CPU"
        raise ProviderUnavailableError(f"device {device_id} was asked for, but {found}", remedy, where="provider torch")
    return torch.device("cuda", device_id)


def write_reference_weights(checkpoint: Checkpoint, token_ids: torch.Tensor, path: Path) -> None:
    """Save a checkpoint's tensors with its embedding tables cut to the model's genes."""
    # Cloned: a tensor that is a view would be saved with all that it is a view of.
    cut = _cut_to_genes(checkpoint, token_ids)
    with path.open("wb") as stream:  # given a path, torch does not report a full disk as an OSError
        torch.save({key: tensor.clone() for key, tensor in cut.state_dict.items()}, stream)


def load_reference_model(bundle: Bundle, reference_checkpoint: Path | None) -> ReferenceModel:
    """Load the eager fp32 model of a bundle; its token ids are the rows of the bundle's gene table.

    Without the checkpoint that the bundle was exported from, the weights that the bundle keeps are used. Raises
    `BundleError` if it keeps none, or the checkpoint is another one.
    """
    manifest, where = bundle.manifest, f"bundle {bundle.directory}"
    source, n_heads = manifest.source_checkpoint, manifest.dimensions.n_heads
    if reference_checkpoint is None and any(file.path == REFERENCE_WEIGHTS_NAME for file in manifest.files):
        kept = load_checkpoint(bundle.directory / REFERENCE_WEIGHTS_NAME, manifest.variant, n_heads=n_heads)
        return ReferenceModel.from_checkpoint(kept)
    token_ids = Reference.read(bundle.directory).token_ids
    if reference_checkpoint is None or token_ids is None:  # bundles of older versions have no token ids
        purpose = f"name the checkpoint that it was exported from ({source.name})"
        raise BundleError(
            "keeps no weights for PyTorch",
            "Export it again with `scgenept-export bundle ... --keep-reference-weights`",
            [] if token_ids is None else [UseOption("reference_checkpoint", purpose)],
            where=where,
        )
    with failed_reads(BundleError, where, f"reference checkpoint {reference_checkpoint}", "Check the path"):
        found = sha256_of(reference_checkpoint)
    if found != source.sha256:
        problem = (
            f"{reference_checkpoint} is not the checkpoint that it was exported from: its sha256 is {found[:12]}..., "
            f"expected {source.sha256[:12]}... ({source.name})"
        )
        raise BundleError(problem, "Use that file, or export a bundle of this one", where=where)
    whole = load_checkpoint(reference_checkpoint, manifest.variant, n_heads=n_heads)
    return ReferenceModel.from_checkpoint(_cut_to_genes(whole, torch.from_numpy(token_ids)))


def _cut_to_genes(checkpoint: Checkpoint, token_ids: torch.Tensor) -> Checkpoint:
    """Return a checkpoint whose embedding tables have one row per model gene, in model order."""
    # Rows of text tables are cast to float32 after the look-up: cast before it they are the same numbers.
    state_dict = {
        key: tensor[token_ids].float() if key.endswith(".embedding.weight") else tensor
        for key, tensor in checkpoint.state_dict.items()
    }
    n_tokens = None if checkpoint.shape.n_tokens is None else len(token_ids)
    return replace(checkpoint, shape=replace(checkpoint.shape, n_tokens=n_tokens), state_dict=state_dict)
