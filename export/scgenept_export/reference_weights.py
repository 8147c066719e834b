"""The eager weights in a bundle: a checkpoint in the published layout, with the rows of the model's genes alone.

Row i of every embedding table is that of the bundle's gene i, so that `gene_index` itself serves as token ids.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from scgenept_export.checkpoint import Checkpoint, load_checkpoint
from scgenept_export.model import ReferenceModel
from scgenept_rt.bundle import REFERENCE_WEIGHTS_NAME, Bundle, Reference
from scgenept_rt.errors import BundleError, UseOption
from scgenept_rt.files.failures import failed_reads
from scgenept_rt.files.hashing import sha256_of


def write_reference_weights(checkpoint: Checkpoint, token_ids: torch.Tensor, path: Path) -> None:
    """Save a checkpoint's tensors with its embedding tables cut to the model's genes."""
    # Cloned: a tensor that is a view would be saved with all that it is a view of.
    cut = cut_to_genes(checkpoint, token_ids)
    with path.open("wb") as stream:  # given a path, torch does not report a full disk as an OSError
        torch.save({key: tensor.clone() for key, tensor in cut.state_dict.items()}, stream)


def load_reference_model(bundle: Bundle, reference_checkpoint: Path | None) -> ReferenceModel:
    """Load the eager fp32 model of a bundle; its token ids are the rows of the bundle's gene table.

    Without the checkpoint that the bundle was exported from, the weights that the bundle keeps are used.

    Raises
    ------
    BundleError
        If the bundle keeps no weights and no checkpoint is given, or the checkpoint is not the bundle's source.
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
        raise BundleError(
            f"{reference_checkpoint} is not the checkpoint that it was exported from: its sha256 is {found[:12]}..., "
            f"expected {source.sha256[:12]}... ({source.name})",
            "Use that file, or export a bundle of this one",
            where=where,
        )
    whole = load_checkpoint(reference_checkpoint, manifest.variant, n_heads=n_heads)
    return ReferenceModel.from_checkpoint(cut_to_genes(whole, torch.from_numpy(token_ids)))


def cut_to_genes(checkpoint: Checkpoint, token_ids: torch.Tensor) -> Checkpoint:
    """Return a checkpoint whose embedding tables have one row per model gene, in model order."""
    # Rows of text tables are cast to float32 after the look-up: cast before it they are the same numbers.
    state_dict = {
        key: tensor[token_ids].float() if key.endswith(".embedding.weight") else tensor
        for key, tensor in checkpoint.state_dict.items()
    }
    n_tokens = None if checkpoint.shape.n_tokens is None else len(token_ids)
    return replace(checkpoint, shape=replace(checkpoint.shape, n_tokens=n_tokens), state_dict=state_dict)
