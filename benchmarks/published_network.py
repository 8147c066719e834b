"""The published network as it runs upstream: encoders over a batch of token ids, then nn.TransformerEncoder.

Built from the encoders and decoder of the export stage, which tests compare with scGPT's own, so that a checkpoint in
the published layout loads strictly. It is here to be compared with; the package never uses it.

Upstream's `pred_perturb_from_ctrl` and `pred_perturb` pass a `src_key_padding_mask` that masks nothing. It changes no
output, but it is slow: PyTorch's fast path makes nested tensors of masked input, which on a CPU take about twice the
time and memory, and without the fast path attention gets a mask to add.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from scgenept_export.model import ContinuousValueEncoder, ExprDecoder, GeneEncoder, TextEncoder

_HEADS = 8


class PublishedNetwork(nn.Module):
    """The variant scgenept_go_c_gpt_concat."""

    def __init__(self, n_tokens: int, text_width: int, width: int, hidden: int, n_layers: int) -> None:
        super().__init__()
        self.encoder = GeneEncoder(n_tokens, width)
        self.value_encoder = ContinuousValueEncoder(width)
        self.gopt_encoder_c = TextEncoder(n_tokens, text_width, width, "fc", torch.float64)
        self.pert_encoder = nn.Embedding(3, width, padding_idx=2)
        self.ln = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(width, _HEADS, hidden, dropout=0.0, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, n_layers)
        self.decoder = ExprDecoder(width, width)

    def forward(self, ids: Tensor, values: Tensor, flags: Tensor, *, empty_mask: bool = True) -> Tensor:
        """Predict: token ids, expression and flags [batch, n] -> [batch, n], with upstream's empty mask or without."""
        total = self.encoder(ids) + self.value_encoder(values) + self.gopt_encoder_c(ids) + self.pert_encoder(flags)
        nothing_masked = torch.zeros_like(ids, dtype=torch.bool) if empty_mask else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The PyTorch API of nested tensors is in prototype stage")
            encoded = self.transformer_encoder(self.ln(total.float()), src_key_padding_mask=nothing_masked)
        return self.decoder(encoded)


def load_published(checkpoint: Path) -> PublishedNetwork:
    """Load a checkpoint as upstream does: all tensors into memory, then into the network."""
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    # flash-attn names the same tensors differently.
    weights = {
        name.replace("self_attn.Wqkv.", "self_attn.in_proj_"): tensor
        for name, tensor in weights.items()
        if not name.startswith("cls_decoder.")
    }
    n_tokens, width = weights["encoder.embedding.weight"].shape
    n_layers = sum(name.endswith("self_attn.in_proj_weight") for name in weights)
    network = PublishedNetwork(
        n_tokens,
        weights["gopt_encoder_c.embedding.weight"].shape[1],
        width,
        weights["transformer_encoder.layers.0.linear1.weight"].shape[0],
        n_layers,
    )
    network.load_state_dict(weights, strict=True)
    return network.eval()
