"""The largest activations of the network, to warn where half precision is near the end of its range."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import nn

from scgenept_export.inference_network import EagerOps, fold
from scgenept_export.model import ReferenceModel
from scgenept_rt.bundle import Reference
from scgenept_rt.errors import Notice

FP16_MAX: Final = float(torch.finfo(torch.float16).max)
"""The largest number of half precision, 65,504."""

WARN_ABOVE: Final = FP16_MAX / 4
"""The reference cells are few: other cells may have activations a few times larger."""


def activation_range(model: ReferenceModel, token_ids: torch.Tensor, cells: Reference) -> dict[str, float]:
    """Return the largest absolute activation of each part of the network on the reference cells, in fp32.

    Taken on the folded network, whose intermediate results are those of the exported graphs: projections, attended
    values, the sums before every norm, and what the norms give. Scores of attention are not among them: fused kernels
    keep these in fp32. The parts are ``embedding``, ``layers.0`` and so on, ``decoder``.
    """
    network = fold(model, token_ids, EagerOps())
    largest = {"embedding": 0.0, **{f"layers.{i}": 0.0 for i in range(len(network.layers))}, "decoder": 0.0}

    def recorder(part: str) -> Callable[..., None]:
        def record(_module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
            for tensor in (*inputs, output):
                if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.numel():
                    # NaN has no maximum: it counts as infinite.
                    found = float(torch.nan_to_num(tensor, nan=float("inf")).abs().max())
                    largest[part] = max(largest[part], found)

        return record

    for name, module in network.named_modules():
        if not any(module.children()):
            part = next((part for part in largest if name.startswith(f"{part}.")), "embedding")
            module.register_forward_hook(recorder(part))
    with torch.inference_mode():
        network(*(torch.from_numpy(array) for array in (cells.values, cells.pert_flags, cells.gene_index)))
    return largest


def range_problem(largest: Mapping[str, float]) -> Notice | None:
    """Return a warning message if the largest activation is near or beyond the range of half precision."""
    part = max(largest, key=lambda name: largest[name], default=None)
    if part is None or largest[part] <= WARN_ABOVE:
        return None
    where = "beyond" if largest[part] > FP16_MAX else "near"
    return Notice(
        f"the largest activation on the reference cells is {largest[part]:,.0f}, in {part}: {where} the end of fp16's "
        f"range, {FP16_MAX:,.0f}. On other cells, fp16 predictions may be infinite, which is an error",
        "fp32 is safe",
    )
