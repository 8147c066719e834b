"""The published network in plain PyTorch: the eager fp32 reference that every graph is compared with.

Mirrors `TransformerModel` of czi-ai/scGenePT and the parts that it takes from scGPT 0.2.4 (`GeneEncoder`,
`ContinuousValueEncoder`, `ExprDecoder`); parameters have upstream's names, so that checkpoints load strictly.
scGenePT: bioRxiv 2024.10.23.619972; scGPT: Cui et al., Nature Methods 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scgenept_export.variants import GENEPT_ENCODER, TOKEN_ENCODER, VALUE_ENCODER

if TYPE_CHECKING:
    from scgenept_export.checkpoint import Checkpoint

MAX_VALUE = 512.0
"""Upper bound that `ContinuousValueEncoder` puts on expression values; there is no lower one."""


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


class GeneEncoder(nn.Module):
    """Learned token embedding and its norm (scGPT `GeneEncoder`): token ids [n] -> [n, d_model]."""

    def __init__(self, n_tokens: int, d_model: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, d_model)
        self.enc_norm = nn.LayerNorm(d_model)

    def forward(self, token_ids: Tensor) -> Tensor:
        return self.enc_norm(self.embedding(token_ids))


class TextEncoder(nn.Module):
    """Language embedding of a gene, projected to the model's width, and its norm: token ids [n] -> [n, d_model].

    The table is float64 in published checkpoints and cast after the look-up, as upstream does.
    """

    def __init__(self, n_tokens: int, d_text: int, d_model: int, projection: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, d_text, dtype=dtype)
        self.projection = projection
        self.add_module(projection, nn.Linear(d_text, d_model))
        self.enc_norm = nn.LayerNorm(d_model)

    def forward(self, token_ids: Tensor) -> Tensor:
        linear = self.get_submodule(self.projection)
        return self.enc_norm(linear(self.embedding(token_ids).to(self.enc_norm.weight.dtype)))


class ContinuousValueEncoder(nn.Module):
    """Expression value encoder (scGPT `ContinuousValueEncoder`, dropout off): [batch, n] -> [batch, n, d_model]."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, d_model)
        self.linear2 = nn.Linear(d_model, d_model)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, values: Tensor) -> Tensor:
        clipped = torch.clamp(values.unsqueeze(-1), max=MAX_VALUE)
        return self.norm(self.linear2(F.relu(self.linear1(clipped))))


class SelfAttention(nn.Module):
    """Multi-head self-attention with packed projections, without mask (`nn.MultiheadAttention`)."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d_model, d_model))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * d_model))
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class EncoderLayer(nn.Module):
    """Post-norm transformer layer with ReLU (`nn.TransformerEncoderLayer`, dropout off)."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.self_attn = SelfAttention(shape.d_model, shape.n_heads)
        self.linear1 = nn.Linear(shape.d_model, shape.d_ff)
        self.linear2 = nn.Linear(shape.d_ff, shape.d_model)
        self.norm1 = nn.LayerNorm(shape.d_model)
        self.norm2 = nn.LayerNorm(shape.d_model)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class ExprDecoder(nn.Module):
    """Expression decoder (scGPT `ExprDecoder`, explicit zero probability off): [batch, n, d_model] -> [batch, n]."""

    def __init__(self, d_model: int, d_hidden: int) -> None:
        super().__init__()
        widths = (d_model, d_hidden, d_hidden, 1)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.LeakyReLU(0.01)]
        self.fc = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).squeeze(-1)


class ReferenceModel(nn.Module):
    """One variant's whole network; permutation-equivariant over genes (no positional encoding, no mask)."""

    def __init__(self, shape: NetworkShape, *, text_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.shape = shape
        self.source: Path | str = "in memory"  # the checkpoint's file, for messages
        self.value_encoder: ContinuousValueEncoder | None = None  # of variants that do not see expression
        for name in shape.encoders:
            setattr(self, name, self._encoder(name, shape, text_dtype))
        self.pert_encoder = nn.Embedding(3, shape.d_model)
        self.ln = nn.LayerNorm(shape.d_model)
        layers = nn.Sequential(*(EncoderLayer(shape) for _ in range(shape.n_layers)))  # without a final norm
        self.transformer_encoder = nn.ModuleDict({"layers": layers})
        self.decoder = ExprDecoder(shape.d_model, shape.d_decoder)

    @staticmethod
    def _encoder(name: str, shape: NetworkShape, text_dtype: torch.dtype) -> nn.Module:
        if name == VALUE_ENCODER:
            return ContinuousValueEncoder(shape.d_model)
        assert shape.n_tokens is not None, "a variant with a gene-level encoder has a vocabulary"
        if name == TOKEN_ENCODER:
            return GeneEncoder(shape.n_tokens, shape.d_model)
        projection = "proj_layer" if name == GENEPT_ENCODER else "fc"  # in upstream's two classes
        return TextEncoder(shape.n_tokens, shape.d_text[name], shape.d_model, projection, text_dtype)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> ReferenceModel:
        """Build the network of a checked checkpoint; its tensors are shared, not copied."""
        text_dtypes = {checkpoint.state_dict[f"{name}.embedding.weight"].dtype for name in checkpoint.shape.d_text}
        with torch.device("meta"):
            model = cls(checkpoint.shape, text_dtype=next(iter(text_dtypes), torch.float32))
        model.load_state_dict(checkpoint.state_dict, strict=True, assign=True)
        model.source = checkpoint.path
        return model.eval().requires_grad_(False)

    @property
    def layers(self) -> list[EncoderLayer]:
        """The transformer layers, first to last."""
        return [layer for layer in self.transformer_encoder["layers"].children() if isinstance(layer, EncoderLayer)]

    def gene_embedding(self, token_ids: Tensor) -> Tensor:
        """Sum the encoders that depend on the gene alone: token ids [n] -> [n, d_model] (zeros if there are none)."""
        total = self.ln.weight.new_zeros(*token_ids.shape, self.shape.d_model)
        for name in self.shape.encoders:
            if name != VALUE_ENCODER:
                total = total + self.get_submodule(name)(token_ids)
        return total

    def forward(self, token_ids: Tensor, values: Tensor, pert_flags: Tensor) -> Tensor:
        """Predict post-perturbation expression [batch, n_genes] float32, log1p-normalised.

        `token_ids` [n_genes] int64 are vocabulary ids (`<pad>`'s for genes outside the vocabulary), `values` [batch,
        n_genes] float32 log1p-normalised expression of control cells, `pert_flags` [batch, n_genes] int64 1 for
        perturbed genes, else 0.
        """
        embedded = self.gene_embedding(token_ids) + self.pert_encoder(pert_flags)
        if self.value_encoder is not None:
            embedded = embedded + self.value_encoder(values)
        return self.decoder(self.transformer_encoder["layers"](self.ln(embedded)))


def parameter_shapes(shape: NetworkShape) -> dict[str, torch.Size]:
    """Return name and shape of every tensor of a network, in upstream's order."""
    with torch.device("meta"):
        return {name: parameter.shape for name, parameter in ReferenceModel(shape).named_parameters()}
