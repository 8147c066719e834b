"""The published network as it runs upstream: encoders over a batch of token ids, then nn.TransformerEncoder.

Built from the export stage's eager model, whose encoders and decoder tests compare with scGPT's own, so that a
checkpoint in the published layout loads strictly. It is here to be compared with; the package never uses it.

Upstream's `pred_perturb_from_ctrl` and `pred_perturb` pass a `src_key_padding_mask` that masks nothing. It changes no
output, but it is slow: PyTorch's fast path makes nested tensors of masked input, which on a CPU take about twice the
time and memory, and without the fast path attention gets a mask to add.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from scgenept_export.model import NetworkShape, ReferenceModel
from scgenept_export.variants import variant_encoders
from workload import VARIANT


class PublishedNetwork(ReferenceModel):
    """The eager model with PyTorch's own transformer layers."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(replace(shape, n_layers=0), text_dtype=torch.float64)  # ours would count in the peak memory
        layer = nn.TransformerEncoderLayer(shape.d_model, shape.n_heads, shape.d_ff, dropout=0.0, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, shape.n_layers)

    def forward(self, ids: Tensor, values: Tensor, flags: Tensor, *, empty_mask: bool = True) -> Tensor:
        """Predict: token ids, expression and flags [batch, n] -> [batch, n], with upstream's empty mask or without."""
        total = self.encoder(ids) + self.value_encoder(values) + self.gopt_encoder_c(ids) + self.pert_encoder(flags)
        nothing_masked = torch.zeros_like(ids, dtype=torch.bool) if empty_mask else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The PyTorch API of nested tensors is in prototype stage")
            encoded = self.transformer_encoder(self.ln(total), src_key_padding_mask=nothing_masked)
        return self.decoder(encoded)


def load_published(checkpoint: Path) -> PublishedNetwork:
    """Load a checkpoint as upstream does: all tensors into memory, then into the network, and nothing else."""
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    # flash-attn names the same tensors differently.
    weights = {
        name.replace("self_attn.Wqkv.", "self_attn.in_proj_"): tensor
        for name, tensor in weights.items()
        if not name.startswith("cls_decoder.")
    }
    n_tokens, width = weights["encoder.embedding.weight"].shape
    shape = NetworkShape(
        encoders=variant_encoders(VARIANT),
        d_model=width,
        n_heads=8,
        n_layers=sum(name.endswith("self_attn.in_proj_weight") for name in weights),
        d_ff=weights["transformer_encoder.layers.0.linear1.weight"].shape[0],
        d_decoder=width,
        n_tokens=n_tokens,
        d_text={"gopt_encoder_c": weights["gopt_encoder_c.embedding.weight"].shape[1]},
    )
    network = PublishedNetwork(shape)
    network.load_state_dict(weights, strict=True)
    return network.eval()
