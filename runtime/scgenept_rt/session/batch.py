"""How many cells a batch has."""

from __future__ import annotations

_BATCH_TOKENS = {"cpu": 16_384, "torch": 16_384}
"""Tokens (cells x genes) of an automatic batch: on a CPU larger ones gain nothing and cost memory."""
_GPU_BATCH_TOKENS = 32 * 5_120
_MAX_BATCH = 1_024


def automatic_batch_size(provider: str, n_genes: int) -> int:
    """Return the number of cells a batch that bounds memory and keeps the provider busy."""
    return max(1, min(_BATCH_TOKENS.get(provider, _GPU_BATCH_TOKENS) // max(n_genes, 1), _MAX_BATCH))
