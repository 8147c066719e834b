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
from scgenept_export.variants import ENCODERS, TOKEN_ENCODER, variant_encoders, variants_with
from scgenept_rt.errors import ArgumentError, UseOption
from scgenept_rt.files.changes import state_of
from scgenept_rt.files.failures import failed_reads
from scgenept_rt.wording import join_limited, pluralize

UNUSED_PREFIX = "cls_decoder."
"""Trained with the rest, but its output reaches no prediction."""

_LAYER = re.compile(r"^transformer_encoder\.layers\.(\d+)\.")
_PACKED_QKV = re.compile(r"\.self_attn\.(?:_impl\.)?Wqkv\.")
"""flash-attn's name of the packed projection: of scGPT up to 0.2.4, and inside a wrapper from 0.2.5 on."""

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod)\.")
"""Put before names by DistributedDataParallel and torch.compile, or both."""

_DAMAGED = "Its training diverged or the file is damaged; use another checkpoint"
_FETCH_AGAIN = "The download may be incomplete: fetch the file again"
_NUMBERS = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64}
"""Of weights; int64 is of counters, which the network does not have: they are named as such."""
_SAVE = "Save the model's state_dict() with torch.save"

_REFUSED = re.compile(r"\bGLOBAL (\S+)|[Tt]rying to (?:call|instantiate)")
"""In torch's message about a pickle that it understands and refuses to execute."""


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of the network; all but `n_heads` are read from the checkpoint."""

    encoders: tuple[str, ...]
    d_model: int
    n_heads: int
    n_layers: int
    d_ff: int
    d_decoder: int
    n_tokens: int | None
    """Rows of every gene-level embedding table; None if the variant has no such table."""
    d_text: Mapping[str, int]
    """Width of the text embedding by text encoder."""


def text_projection_name(encoder: str) -> str:
    """Return the name of the text encoder's linear layer, which differs between upstream's two classes."""
    return "proj_layer" if encoder == "genept_encoder" else "fc"


@dataclass(frozen=True)
class Checkpoint:
    """A checked state dict in plain naming (`in_proj_*`), with the shape of its network."""

    path: Path
    variant: str
    shape: NetworkShape
    state_dict: Mapping[str, torch.Tensor]
    file_state: Hashable = None
    """Of the file when it was opened: its tensors are mapped, and read as they are used."""

    def raise_if_changed(self) -> None:
        """Raise `CheckpointError` if the file is no longer the one that was opened."""
        if state_of(self.path) != self.file_state:
            raise _error(
                self.path,
                "changed while it was read",
                "Wait until it is written (a download, a training run), then export again",
            )


def load_checkpoint(path: str | Path, variant: str, *, n_heads: int = 8) -> Checkpoint:
    """Load a checkpoint and check it against its variant's name.

    Parameters
    ----------
    path
        A state dict saved with `torch.save`, as published: `in_proj_*` or flash-attn `Wqkv.*` naming, with or without
        `module.` and `_orig_mod.` in front, storages of any device, text tables in float64, float32 or float16.
    n_heads
        Attention heads: the one size that a checkpoint does not hold.

    Raises
    ------
    ArgumentError
        If the variant is unknown, or `n_heads` does not divide the width.
    CheckpointError
        If the file is missing, is not a checkpoint of tensors alone, or holds other encoders than the variant has; if
        tensors are missing, unexpected, of another shape, or not finite. `cls_decoder.*` may be absent.
    """
    path = Path(path)
    encoders = variant_encoders(variant)
    file_state = state_of(path)
    state_dict = _plain_naming(_read_tensors(path), path)
    _check_encoders(state_dict, encoders, path, variant)
    shape = _network_shape(state_dict, encoders, n_heads, path, variant)
    used = {key: tensor for key, tensor in state_dict.items() if not key.startswith(UNUSED_PREFIX)}
    expected = expected_shapes(shape)
    missized = [
        f"{key} {list(tensor.shape)} instead of {list(expected[key])}"
        for key, tensor in used.items()
        if key in expected and tuple(tensor.shape) != expected[key]
    ]
    missing, unexpected = [key for key in expected if key not in used], [key for key in used if key not in expected]
    if missing or unexpected or missized:
        raise _tensor_error(path, variant, missing, unexpected, missized)
    not_finite = [key for key, tensor in used.items() if not _is_finite(tensor)]
    if not_finite:
        found = f"{pluralize(len(not_finite), 'tensor')} with NaN or infinity ({join_limited(not_finite)})"
        raise _error(path, f"holds {found}", _DAMAGED)
    in_use = {key: _in_precision_of_use(key, tensor) for key, tensor in used.items()}
    return Checkpoint(path, variant, shape, in_use, file_state)


def check_finite(gene_table: torch.Tensor, token_ids: torch.Tensor, path: Path | str) -> None:
    """Raise `CheckpointError` if the embedding of a model gene, a row of [n_genes, d_model], is not finite."""
    bad = torch.nonzero(~torch.isfinite(gene_table).all(dim=1)).flatten()
    if len(bad):
        first = f"first: vocabulary id {int(token_ids[bad[0]])}"
        found = f"NaN or infinity in the embeddings of {pluralize(len(bad), 'model gene')} ({first})"
        raise _error(path, f"holds {found}", _DAMAGED)


def expected_shapes(shape: NetworkShape) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor that the network needs, in upstream's order."""
    d, tokens = shape.d_model, shape.n_tokens or 0
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, n_out: int, n_in: int) -> None:
        shapes[f"{name}.weight"] = (n_out, n_in)
        shapes[f"{name}.bias"] = (n_out,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = (d,)
        shapes[f"{name}.bias"] = (d,)

    for encoder in shape.encoders:
        if encoder == TOKEN_ENCODER:
            shapes[f"{encoder}.embedding.weight"] = (tokens, d)
            norm(f"{encoder}.enc_norm")
        elif encoder == "value_encoder":
            linear(f"{encoder}.linear1", d, 1)
            linear(f"{encoder}.linear2", d, d)
            norm(f"{encoder}.norm")
        else:
            width = shape.d_text[encoder]
            shapes[f"{encoder}.embedding.weight"] = (tokens, width)
            linear(f"{encoder}.{text_projection_name(encoder)}", d, width)
            norm(f"{encoder}.enc_norm")
    shapes["pert_encoder.weight"] = (3, d)
    norm("ln")
    for i in range(shape.n_layers):
        layer = f"transformer_encoder.layers.{i}"
        shapes[f"{layer}.self_attn.in_proj_weight"] = (3 * d, d)
        shapes[f"{layer}.self_attn.in_proj_bias"] = (3 * d,)
        linear(f"{layer}.self_attn.out_proj", d, d)
        linear(f"{layer}.linear1", shape.d_ff, d)
        linear(f"{layer}.linear2", d, shape.d_ff)
        norm(f"{layer}.norm1")
        norm(f"{layer}.norm2")
    linear("decoder.fc.0", shape.d_decoder, d)
    linear("decoder.fc.2", shape.d_decoder, shape.d_decoder)
    linear("decoder.fc.4", 1, shape.d_decoder)
    return shapes


def _error(path: Path | str, problem: str, remedy: str = "", *options: UseOption) -> CheckpointError:
    return CheckpointError(problem, remedy, options, where=f"checkpoint {path}")


def _tensor_error(
    path: Path, variant: str, missing: Sequence[str] = (), unexpected: Sequence[str] = (), missized: Sequence[str] = ()
) -> CheckpointError:
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": missized}
    found = [f"{len(keys)} {kind}: {join_limited(keys, 12)}" for kind, keys in kinds.items() if keys]
    option = UseOption("variant", "name the variant that it was trained as")
    return _error(path, f"does not hold the tensors of the variant {variant!r} ({'; '.join(found)})", "", option)


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    with failed_reads(CheckpointError, f"checkpoint {path}", remedy=_FETCH_AGAIN):
        if not path.is_file():  # opening a pipe would wait for a writer
            raise FileNotFoundError(path)
        # Mapped, where the format allows it: of about 950 MB only the rows of the model's genes are ever read.
        loaded = _unpickled(path, mapped=zipfile.is_zipfile(path))
        _check_members(path)
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


def _check_members(path: Path) -> None:
    """Raise `CheckpointError` if the file is a zip archive with a damaged member: torch.load compares no checksum."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise _error(path, f"is damaged: the checksum of {damaged} is wrong", _FETCH_AGAIN)


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
    fitting = variants_with(found)
    problem = (
        f"holds the encoders {join_limited(found, 9) or 'none'}, "
        f"but the variant {variant!r} has {join_limited(encoders, 9) or 'none'}"
    )
    if not fitting:
        raise _error(path, problem, "No published variant has the encoders of the checkpoint")
    remedy = f"The variants with its encoders: {join_limited(fitting, 9)}"
    raise _error(path, problem, remedy, UseOption("variant", "name the right one", fitting[0]))


def _network_shape(
    state_dict: Mapping[str, torch.Tensor], encoders: tuple[str, ...], n_heads: int, path: Path, variant: str
) -> NetworkShape:
    def dimension(key: str, axis: int) -> int:
        tensor = state_dict.get(key)
        if tensor is None:
            raise _tensor_error(path, variant, missing=[key])
        if tensor.ndim <= axis:
            raise _tensor_error(path, variant, missized=[f"{key} {list(tensor.shape)}"])
        return int(tensor.shape[axis])

    # As many as there are numbers: a number of 10^9 is then one that no layer should have.
    n_layers = len({match.group(1) for match in map(_LAYER.match, state_dict) if match})
    if n_layers == 0:
        raise _tensor_error(path, variant, missing=["transformer_encoder.layers.0.*"])
    d_model = dimension("pert_encoder.weight", 1)
    if n_heads < 1 or d_model % n_heads:
        problem = f"n_heads is {n_heads}, which does not divide the model's width {d_model}"
        raise ArgumentError(problem, "Published models have 8 heads of 64")
    gene_level = [name for name in encoders if name != "value_encoder"]
    text = [name for name in gene_level if name != TOKEN_ENCODER]
    return NetworkShape(
        encoders=encoders,
        d_model=d_model,
        n_heads=n_heads,
        n_layers=n_layers,
        d_ff=dimension("transformer_encoder.layers.0.linear1.weight", 0),
        d_decoder=dimension("decoder.fc.0.weight", 0),
        n_tokens=dimension(f"{gene_level[0]}.embedding.weight", 0) if gene_level else None,
        d_text={name: dimension(f"{name}.embedding.weight", 1) for name in text},
    )


def _in_precision_of_use(key: str, tensor: torch.Tensor) -> torch.Tensor:
    # As upstream's load, which copies into float32 parameters; rows of text tables are cast after the look-up.
    is_text_table = key.endswith(".embedding.weight") and not key.startswith(f"{TOKEN_ENCODER}.")
    return tensor if is_text_table else tensor.float()


def _is_finite(tensor: torch.Tensor) -> bool:
    # The embedding tables are mapped and mostly unused: the rows that are used are checked when they are folded.
    if not tensor.is_floating_point() or tensor.numel() > 10_000_000:
        return True
    return bool(torch.isfinite(tensor).all())
