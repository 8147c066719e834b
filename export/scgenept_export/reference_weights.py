"""The eager weights in a bundle: a checkpoint in the published layout, with the rows of the model's genes alone.

Row i of every embedding table is that of the bundle's gene i, so that `gene_index` itself serves as token ids.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scgenept_export.checkpoint import Checkpoint, load_checkpoint
from scgenept_export.errors import ReferenceWeightsError
from scgenept_export.model import ReferenceModel
from scgenept_rt.bundle import REFERENCE_NAME, REFERENCE_WEIGHTS_NAME, Bundle, Reference
from scgenept_rt.files.hashing import sha256_of

_EXPORT_AGAIN = "Export it again with --keep-reference-weights."


def write_reference_weights(checkpoint: Checkpoint, token_ids: torch.Tensor, path: Path) -> None:
    """Save a checkpoint's tensors with its embedding tables cut to the model's genes.

    Parameters
    ----------
    checkpoint
        The whole checkpoint.
    token_ids
        [n_genes] int64, vocabulary id of each model gene.
    path
        File to write.
    """
    # Cloned: a tensor that is a view would be saved with all that it is a view of.
    cut = cut_to_genes(checkpoint, token_ids)
    with path.open("wb") as stream:  # given a path, torch says nothing of a full disk that could be passed on
        torch.save({key: tensor.clone() for key, tensor in cut.state_dict.items()}, stream)


def load_reference_model(bundle: Bundle, reference_checkpoint: Path | None) -> ReferenceModel:
    """Load the eager fp32 model of a bundle; its token ids are the rows of the bundle's gene table.

    Parameters
    ----------
    bundle
        An opened bundle.
    reference_checkpoint
        The checkpoint that the bundle was exported from; None to use the weights that the bundle keeps.

    Raises
    ------
    ReferenceWeightsError
        If the bundle keeps no weights and no checkpoint is given, or the checkpoint is not the bundle's source.
    """
    manifest = bundle.manifest
    if reference_checkpoint is not None:
        _check_is_source(bundle, reference_checkpoint)
        token_ids = torch.from_numpy(_token_ids(bundle))
        source = load_checkpoint(reference_checkpoint, manifest.variant, n_heads=manifest.dimensions.n_heads)
        return ReferenceModel.from_checkpoint(cut_to_genes(source, token_ids))
    if all(file.path != REFERENCE_WEIGHTS_NAME for file in manifest.files):
        raise ReferenceWeightsError(
            bundle.directory,
            "it keeps no weights for PyTorch",
            f"Give the checkpoint that it was exported from, {manifest.source_checkpoint.name}, with "
            "--reference-checkpoint FILE, or export it again with --keep-reference-weights.",
        )
    kept = bundle.directory / REFERENCE_WEIGHTS_NAME
    return ReferenceModel.from_checkpoint(load_checkpoint(kept, manifest.variant, n_heads=manifest.dimensions.n_heads))


def cut_to_genes(checkpoint: Checkpoint, token_ids: torch.Tensor) -> Checkpoint:
    """Return a checkpoint whose embedding tables have one row a model gene, in model order."""
    # Rows of text tables are cast to float32 after the look-up: cast before it they are the same numbers.
    state_dict = {
        key: tensor[token_ids].float() if key.endswith(".embedding.weight") else tensor
        for key, tensor in checkpoint.state_dict.items()
    }
    n_tokens = None if checkpoint.shape.n_tokens is None else len(token_ids)
    return replace(checkpoint, shape=replace(checkpoint.shape, n_tokens=n_tokens), state_dict=state_dict)


def _check_is_source(bundle: Bundle, path: Path) -> None:
    source = bundle.manifest.source_checkpoint
    if not path.is_file():
        problem = f"there is no file {path}, given as its reference checkpoint"
        raise ReferenceWeightsError(bundle.directory, problem, "Check the path of --reference-checkpoint.")
    found = sha256_of(path)
    if found != source.sha256:
        raise ReferenceWeightsError(
            bundle.directory,
            f"{path} is not the checkpoint that it was exported from: sha256 {found[:12]}..., "
            f"expected {source.sha256[:12]}... ({source.name})",
            "Give that file with --reference-checkpoint, or export a bundle of this one.",
        )


def _token_ids(bundle: Bundle) -> NDArray[np.int64]:
    token_ids = Reference.read(bundle.directory).token_ids
    if token_ids is None:
        problem = f"its {REFERENCE_NAME} holds no token ids: it was exported before they were kept"
        raise ReferenceWeightsError(bundle.directory, problem, _EXPORT_AGAIN)
    return token_ids
