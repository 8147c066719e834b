"""Reading a trained checkpoint in the published layout, without executing any pickle."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from scgenept_export.errors import CheckpointError, ExportOptionError, StateDictError, VariantMismatchError
from scgenept_export.variants import ENCODERS, TOKEN_ENCODER, variant_encoders, variants_with
from scgenept_rt.errors import join_limited

UNUSED_PREFIX = "cls_decoder."
"""Trained with the rest, but its output reaches no prediction."""

_LAYER = re.compile(r"^transformer_encoder\.layers\.(\d+)\.")
_PACKED_QKV = re.compile(r"\.self_attn\.(?:_impl\.)?Wqkv\.")
"""flash-attn's name of the packed projection: scGPT up to 0.2.4, and from 0.2.5 on inside a wrapper."""

_REFUSED = re.compile(r"\bGLOBAL (\S+)|[Tt]rying to (?:call|instantiate)")
"""What torch says of a pickle that it understands and will not execute."""


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
    file_state: tuple[int, int] | None = None
    """Size and mtime_ns of the file when it was opened: its tensors are mapped, and read as they are used."""

    def raise_if_changed(self) -> None:
        """Raise `CheckpointError` if the file is no longer the one that was opened."""
        if _file_state(self.path) != self.file_state:
            raise CheckpointError(
                self.path,
                "the file changed while it was read",
                "Wait until it is written (a download, a training run), then export again.",
            )


def load_checkpoint(path: str | Path, variant: str, *, n_heads: int = 8) -> Checkpoint:
    """Load a checkpoint and check it against its variant's name.

    Parameters
    ----------
    path
        A state dict saved with `torch.save`, as published: `in_proj_*` or flash-attn `Wqkv.*` naming, storages of
        any device, text tables in float64, float32 or float16.
    variant
        Upstream's model type.
    n_heads
        Attention heads: the one size that a checkpoint does not hold.

    Raises
    ------
    CheckpointError
        If the file is missing, is not a checkpoint, or holds more than tensors.
    VariantMismatchError
        If it holds other encoders than the variant has.
    StateDictError
        If tensors are missing, unexpected or of another shape; names them all. `cls_decoder.*` may be absent.
    """
    path = Path(path)
    encoders = variant_encoders(variant)
    file_state = _file_state(path)
    state_dict = _plain_naming(_read_tensors(path), path)
    found = tuple(name for name in ENCODERS if any(key.startswith(f"{name}.") for key in state_dict))
    if set(found) != set(encoders):
        raise VariantMismatchError(path, variant, encoders, found, variants_with(found))
    shape = _network_shape(state_dict, encoders, n_heads, path, variant)
    expected = expected_shapes(shape)
    used = {key: tensor for key, tensor in state_dict.items() if not key.startswith(UNUSED_PREFIX)}
    missing = [key for key in expected if key not in used]
    unexpected = [key for key in used if key not in expected]
    missized = [
        f"{key} {list(tensor.shape)} instead of {list(expected[key])}"
        for key, tensor in used.items()
        if key in expected and tuple(tensor.shape) != expected[key]
    ]
    if missing or unexpected or missized:
        raise StateDictError(path, variant, missing=missing, unexpected=unexpected, missized=missized)
    not_finite = [key for key, tensor in used.items() if not _is_finite(tensor)]
    if not_finite:
        raise CheckpointError(
            path,
            f"{len(not_finite)} tensor(s) hold NaN or infinity ({', '.join(not_finite[:5])})",
            "Its training diverged or the file is damaged; use another checkpoint.",
        )
    in_use = {key: _in_precision_of_use(key, tensor) for key, tensor in used.items()}
    return Checkpoint(path, variant, shape, in_use, file_state)


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


def _file_state(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise CheckpointError(path, "there is no such file", "Check the path of --checkpoint.")
    try:
        try:
            # Mapped: of about 950 MB only the rows of the model's genes are ever read.
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):  # files of the format before zip cannot be mapped
                raise
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler fail in any way
        refused = _REFUSED.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused:
            raise CheckpointError(
                path,
                "it is not a file of tensors alone: unpickling it would execute code, which is refused "
                f"({refused.group(1) or 'it makes objects'})",
                "Save the model's state_dict() with torch.save.",
            ) from error
        detail = (str(error).splitlines() or ["it is empty"])[0][:160]
        if isinstance(error, pickle.UnpicklingError):  # its text is advice on how to load unsafely
            detail = "it is no pickle"
        raise CheckpointError(
            path,
            f"it cannot be read as a PyTorch checkpoint ({detail})",
            "The download may be incomplete; fetch the file again.",
        ) from error
    if not isinstance(loaded, Mapping) or not all(
        isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in loaded.items()
    ):
        holds = (
            f"the keys {join_limited(list(loaded))}" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
        )
        raise CheckpointError(
            path,
            f"it is not a state dict of tensors (it holds {holds})",
            "Save the model's state_dict() with torch.save.",
        )
    return dict(loaded)


def _plain_naming(state_dict: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    renamed: dict[str, torch.Tensor] = {}
    for key, tensor in state_dict.items():
        plain = _PACKED_QKV.sub(".self_attn.in_proj_", key)
        if plain in renamed:
            raise CheckpointError(
                path, f"it holds {plain} under two names, one of them {key}", "Save it again with one naming."
            )
        renamed[plain] = tensor
    return renamed


def _network_shape(
    state_dict: Mapping[str, torch.Tensor], encoders: tuple[str, ...], n_heads: int, path: Path, variant: str
) -> NetworkShape:
    def dimension(key: str, axis: int) -> int:
        tensor = state_dict.get(key)
        if tensor is None:
            raise StateDictError(path, variant, missing=[key])
        if tensor.ndim <= axis:
            raise StateDictError(path, variant, missized=[f"{key} {list(tensor.shape)}"])
        return int(tensor.shape[axis])

    layers = {int(match.group(1)) for match in map(_LAYER.match, state_dict) if match}
    n_layers = max(layers, default=-1) + 1
    if n_layers == 0:
        raise StateDictError(path, variant, missing=["transformer_encoder.layers.0.*"])
    d_model = dimension("pert_encoder.weight", 1)
    if n_heads < 1 or d_model % n_heads:
        raise ExportOptionError(
            f"--nhead {n_heads} does not divide the model's width {d_model}; published models have 8 heads of 64."
        )
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
