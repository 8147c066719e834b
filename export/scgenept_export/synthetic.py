"""Checkpoints with made-up weights in the published layout.

They have names, shapes and dtypes of a trained checkpoint, for tests and benchmarks: speed does not depend on weights.
"""

from __future__ import annotations

from collections import OrderedDict

import torch

from scgenept_export.model import NetworkShape, parameter_shapes
from scgenept_export.variants import TOKEN_ENCODER, VALUE_ENCODER, variant_encoders


def synthetic_state_dict(
    variant: str,
    *,
    n_tokens: int = 60_697,
    d_model: int = 512,
    n_layers: int = 12,
    n_heads: int = 8,
    d_ff: int = 512,
    d_text: int = 1536,
) -> OrderedDict[str, torch.Tensor]:
    """Return random weights for a variant, by default of the published size.

    Scales are chosen so that the network is not degenerate: outputs differ between genes, cells and perturbations.
    Text tables are float64, as published.
    """
    encoders = variant_encoders(variant)
    shape = NetworkShape(
        encoders=encoders,
        d_model=d_model,
        n_heads=n_heads,
        n_layers=n_layers,
        d_ff=d_ff,
        d_decoder=d_model,
        n_tokens=n_tokens if set(encoders) - {VALUE_ENCODER} else None,
        d_text={name: d_text for name in encoders if name not in (TOKEN_ENCODER, VALUE_ENCODER)},
    )
    generator = torch.Generator().manual_seed(0)
    weights: OrderedDict[str, torch.Tensor] = OrderedDict()
    for name, size in parameter_shapes(shape).items():
        normal = torch.randn(size, generator=generator)
        if name.endswith("embedding.weight") and size[-1] == d_text and not name.startswith(TOKEN_ENCODER):
            weights[name] = normal.double() * 0.05
        elif "norm" in name or name.startswith("ln."):
            weights[name] = 1 + 0.1 * normal if name.endswith("weight") else 0.1 * normal
        elif name == "pert_encoder.weight":
            weights[name] = normal
        elif name.endswith("bias"):
            weights[name] = 0.1 * normal
        else:
            # Larger queries and keys: attention then has preferences instead of averaging all genes.
            gain = 2.0 if "in_proj" in name else 1.2
            weights[name] = normal * gain / (size[-1] if len(size) > 1 else 1) ** 0.5
    return weights
