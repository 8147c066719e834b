"""Reading a trained checkpoint in the published layout, without executing any pickle."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from scgenept_export.errors import CheckpointError
from scgenept_export.model import NetworkShape, parameter_shapes
from scgenept_export.variants import ENCODERS, TOKEN_ENCODER, VALUE_ENCODER, variant_encoders, variants_with
from scgenept_rt.errors import ArgumentError, UseOption
from scgenept_rt.files.failures import failed_reads
from scgenept_rt.files.hashing import state_of
from scgenept_rt.wording import join_limited, pluralize

_UNUSED_PREFIX = "cls_decoder."
"""Trained with the rest, but its output reaches no prediction."""

_LAYER = "transformer_encoder.layers."
_PACKED_QKV = re.compile(r"\.self_attn\.(?:_impl\.)?Wqkv\.")
"""flash-attn's name of the packed projection: of scGPT up to 0.2.4, and inside a wrapper from 0.2.5 on."""

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod)\.")
"""Put before names by DistributedDataParallel and torch.compile, or both."""

_DAMAGED = "Its training diverged or the file is damaged; use another checkpoint"
_FETCH_AGAIN = "The download may be incomplete: fetch the file again"
_SAVE = "Save the model's state_dict() with torch.save"
_NUMBERS = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64}
"""Of weights; int64 is of counters, which the network does not have: they are named as such."""

_REFUSED = re.compile(r"\bGLOBAL (\S+)|[Tt]rying to (?:call|instantiate)")
"""In torch's message about a pickle that it understands and refuses to execute."""

_CHECKED_NUMBERS = 10_000_000
"""Embedding tables are larger, and mapped: of them the rows that are used are checked when they are folded."""


@dataclass(frozen=True)
class Checkpoint:
    """A checked state dict in plain naming (`in_proj_*`), with the shape of its network."""

    path: Path
    shape: NetworkShape
    state_dict: Mapping[str, torch.Tensor]
    file_state: Hashable = None
    """Of the file when it was opened: its tensors are mapped, and read as they are used."""

    def raise_if_changed(self) -> None:
        """Raise `CheckpointError` if the file is no longer the one that was opened."""
        if state_of(self.path) != self.file_state:
            remedy = "Wait until it is written (a download, a training run), then export again"
            raise _error(self.path, "changed while it was read", remedy)


def load_checkpoint(path: str | Path, variant: str, *, n_heads: int = 8) -> Checkpoint:
    """Load a checkpoint and check it against its variant's name.

    It is a state dict saved with `torch.save`, as published: `in_proj_*` or flash-attn `Wqkv.*` naming, with or without
    `module.` and `_orig_mod.` in front, storages of any device, text tables in float64, float32 or float16. The number
    of attention heads is the one size that it does not hold.

    Raises
    ------
    ArgumentError
        If the variant is unknown, or `n_heads` does not divide the width.
    CheckpointError
        If the file is missing, is not a checkpoint of tensors alone, or holds other encoders than the variant has; if
        tensors are missing, unexpected, of another shape, or not finite. `cls_decoder.*` may be absent.
    """
    path = Path(path)
    encoders, file_state = variant_encoders(variant), state_of(path)
    weights = _plain_naming(_read_tensors(path), path)
    _check_encoders(weights, encoders, path, variant)
    shape = _network_shape(weights, encoders, n_heads, path, variant)
    expected = parameter_shapes(shape)
    found = {
        "missing": [key for key in expected if key not in weights],
        "unexpected": [key for key in weights if key not in expected],
        "of another shape": [
            f"{key} {list(tensor.shape)} instead of {list(expected[key])}"
            for key, tensor in weights.items()
            if key in expected and tensor.shape != expected[key]
        ],
    }
    if any(found.values()):
        raise _tensor_error(path, variant, found)
    checked = {key: tensor for key, tensor in weights.items() if tensor.numel() <= _CHECKED_NUMBERS}
    if not_finite := [key for key, tensor in checked.items() if not torch.isfinite(tensor).all()]:
        tensors = pluralize(len(not_finite), "tensor")
        raise _error(path, f"holds {tensors} with NaN or infinity ({join_limited(not_finite)})", _DAMAGED)
    # As upstream's load, which copies into float32 parameters; rows of text tables are cast after the look-up.
    text_tables = {f"{name}.embedding.weight" for name in shape.d_text}
    in_use = {key: tensor if key in text_tables else tensor.float() for key, tensor in weights.items()}
    return Checkpoint(path, shape, in_use, file_state)


def check_finite(gene_table: torch.Tensor, token_ids: torch.Tensor, path: Path | str) -> None:
    """Raise `CheckpointError` if the embedding of a model gene, a row of [n_genes, d_model], is not finite."""
    bad = torch.nonzero(~torch.isfinite(gene_table).all(dim=1)).flatten()
    if len(bad):
        found = f"{pluralize(len(bad), 'model gene')} (first: vocabulary id {int(token_ids[bad[0]])})"
        raise _error(path, f"holds NaN or infinity in the embeddings of {found}", _DAMAGED)


def _error(path: Path | str, problem: str, remedy: str = "", *options: UseOption) -> CheckpointError:
    return CheckpointError(problem, remedy, options, where=f"checkpoint {path}")


def _tensor_error(path: Path, variant: str, found: Mapping[str, Sequence[str]]) -> CheckpointError:
    listed = "; ".join(f"{len(keys)} {kind}: {join_limited(keys, 12)}" for kind, keys in found.items() if keys)
    option = UseOption("variant", "name the variant that it was trained as")
    return _error(path, f"does not hold the tensors of the variant {variant!r} ({listed})", "", option)


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    with failed_reads(CheckpointError, f"checkpoint {path}", remedy=_FETCH_AGAIN):
        if not path.is_file():  # opening a pipe would wait for a writer
            raise FileNotFoundError(path)
        # Mapped, where the format allows it: of about 950 MB only the rows of the model's genes are ever read.
        zipped = zipfile.is_zipfile(path)
        loaded = _unpickled(path, mapped=zipped)
        if zipped:  # torch.load compares no checksum
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise _error(path, f"is damaged: the checksum of {damaged} is wrong", _FETCH_AGAIN)
    if not isinstance(loaded, Mapping):
        raise _error(path, f"is not a state dict of tensors (it holds a {type(loaded).__name__})", _SAVE)
    if not all(isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in loaded.items()):
        raise _error(path, f"is not a state dict of tensors (it holds the keys {join_limited(list(loaded))})", _SAVE)
    odd = [key for key, tensor in loaded.items() if not _holds_all(tensor)]
    if odd:
        raise _error(path, f"holds no plain numbers, or fewer than stated, for {join_limited(odd)}", _SAVE)
    return dict(loaded)


def _unpickled(path: Path, *, mapped: bool) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:  # its text is advice on how to load unsafely
        refused = _REFUSED.search(str(error))
        if refused is None:
            raise ValueError("not a pickle") from error
        found = refused.group(1) or "it makes objects"
        problem = f"is not a file of tensors alone: unpickling it would execute code, which is refused ({found})"
        raise _error(path, problem, _SAVE) from error


def _holds_all(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has a stored real number for each of its values; a view can repeat one without end."""
    return (
        tensor.dtype in _NUMBERS
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"  # not meta, which has no values
        and not tensor.is_nested
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _plain_naming(state_dict: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    renamed: dict[str, torch.Tensor] = {}
    for key, tensor in state_dict.items():
        plain = _PACKED_QKV.sub(".self_attn.in_proj_", _WRAPPERS.sub("", key))
        if plain.startswith(_UNUSED_PREFIX):
            continue
        if plain in renamed:
            raise _error(path, f"holds {plain} under two names, one of them {key}", "Save it again with one naming")
        renamed[plain] = tensor
    return renamed


def _check_encoders(
    state_dict: Mapping[str, torch.Tensor], encoders: tuple[str, ...], path: Path, variant: str
) -> None:
    found = tuple(name for name in ENCODERS if any(key.startswith(f"{name}.") for key in state_dict))
    if set(found) == set(encoders):
        return
    held, wanted = (join_limited(names, 9) or "none" for names in (found, encoders))
    problem = f"holds the encoders {held}, but the variant {variant!r} has {wanted}"
    fitting = variants_with(found)
    if not fitting:
        raise _error(path, problem, "No published variant has the encoders of the checkpoint")
    remedy = f"The variants with its encoders: {join_limited(fitting, 9)}"
    raise _error(path, problem, remedy, UseOption("variant", "name the right one", fitting[0]))


def _network_shape(
    weights: Mapping[str, torch.Tensor], encoders: tuple[str, ...], n_heads: int, path: Path, variant: str
) -> NetworkShape:
    def size(key: str, axis: int = 0) -> int:
        if key not in weights:
            raise _tensor_error(path, variant, {"missing": [key]})
        if weights[key].ndim <= axis:
            raise _tensor_error(path, variant, {"of another shape": [f"{key} {list(weights[key].shape)}"]})
        return weights[key].shape[axis]

    d_model = size("pert_encoder.weight", 1)
    if n_heads < 1 or d_model % n_heads:
        problem = f"n_heads is {n_heads}, which does not divide the model's width {d_model}"
        raise ArgumentError(problem, "Published models have 8 heads of 64")
    gene_level = [name for name in encoders if name != VALUE_ENCODER]
    return NetworkShape(
        encoders=encoders,
        d_model=d_model,
        n_heads=n_heads,
        # As many as there are numbers: a number of 10^9 is then one that no layer should have.
        n_layers=len({key.split(".")[2] for key in weights if key.startswith(_LAYER)}),
        d_ff=size(f"{_LAYER}0.linear1.weight"),
        d_decoder=size("decoder.fc.0.weight"),
        n_tokens=size(f"{gene_level[0]}.embedding.weight") if gene_level else None,
        d_text={name: size(f"{name}.embedding.weight", 1) for name in gene_level if name != TOKEN_ENCODER},
    )
