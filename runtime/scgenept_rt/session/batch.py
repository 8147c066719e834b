"""Batch sizes: how many cells are predicted per batch."""

from __future__ import annotations

from scgenept_rt.bundle import Precision
from scgenept_rt.providers import TRAITS

_MAX_BATCH = 1_024
# On the CPU more gain nothing and cost memory; on GPUs this was the fastest size where memory allowed it.
_CPU_TOKENS, _GPU_TOKENS = 16_384, 32 * 5_120
_INDEX_LIMIT = 2**31 - 1

_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2}
_ALIVE_TENSORS = 8
"""Tensors of [tokens, d_model] that a layer holds at once: its input, queries before and after their bias, keys,
values, the output of attention, and two for copies that a kernel may make."""
_ARENA_SHARE = 0.8  # of the memory; the rest is lost between the tensors in ONNX Runtime's arena
_INPUT_AND_OUTPUT_BYTES = 2 * (4 + 8 + 4)  # float32 value, int64 flag, float32 result of a token; copied once
_RESERVED_BYTES = 2**30


def largest_batch(n_genes: int, width: int) -> int:
    """Return the most cells per batch on a GPU, where kernels index tensors [cells, genes, width] with 32 bits."""
    return max(1, _INDEX_LIMIT // (max(n_genes, 1) * width))


def planned_size(n_rows: int, batch_size: int) -> int:
    """Return the size to which a batch of `n_rows` is padded if each size costs a new plan.

    The powers of two up to `batch_size`, and that itself: few sizes, and less than half of a batch is padding.
    """
    return min(1 << max(n_rows - 1, 0).bit_length(), batch_size)


def automatic_batch_size(
    provider: str,
    n_genes: int,
    *,
    precision: Precision = "fp16",
    d_model: int = 512,
    free_bytes: int | None = None,
) -> int:
    """Return the number of cells per batch that bounds memory and keeps the provider busy.

    On a GPU with enough free memory, and if that is not known (None), as many cells as have 32 x 5,120 tokens (a token
    per gene). With less, half of that, a quarter and so on, at least 1: a GPU keeps a plan for each size, so there are
    few. `precision` and `d_model` are those of the network's activations.

    Notes
    -----
    With d_model 512 a token takes 8 x 512 x 2 / 0.8 + 32 = 10,272 bytes in fp16 and 20,512 in fp32: 52 and 103 MB per
    cell of 5,045 genes, 1.7 and 3.3 GB for 32 cells. What does not grow with the batch (weights, gene table, CUDA's
    own memory, workspaces of cuDNN's plans) fits into the 1 GiB that is left free.
    """
    on_gpu = TRAITS[provider].on_gpu
    size = max(1, min((_GPU_TOKENS if on_gpu else _CPU_TOKENS) // max(n_genes, 1), _MAX_BATCH))
    if not on_gpu or free_bytes is None:
        return size
    token_bytes = _ALIVE_TENSORS * d_model * _BYTES[precision] / _ARENA_SHARE + _INPUT_AND_OUTPUT_BYTES
    fitting = (free_bytes - _RESERVED_BYTES) / (token_bytes * max(n_genes, 1))
    while size > 1 and size > fitting:
        size //= 2
    return size
