"""What an export compares with the eager model: the reference cells, how large activations are, and every graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scgenept_export.inference_network import EagerOps, fold
from scgenept_export.model import ReferenceModel
from scgenept_export.variants import is_ill_conditioned
from scgenept_rt.bundle import Precision, Reference, Target, Tolerance
from scgenept_rt.errors import Notice
from scgenept_rt.providers import import_onnxruntime
from scgenept_rt.session.protocol import Feed
from scgenept_rt.session.token_merging import run_merged

N_CELLS = 6
MAX_GENES = 192
"""Enough genes to exercise attention, few enough that a check takes milliseconds."""

SEED = 20241023

FP32 = Tolerance(atol=2e-5, rtol=1e-4)
FP32_ILL_CONDITIONED = Tolerance(atol=2e-5, rtol=2e-4, relative_to_largest=True)
FP16_OVER_AUTOCAST = 1.5
"""How much larger than PyTorch's own fp16 autocast error the error of a fp16 graph may be: the check at export."""

FP16_RECORDED_OVER_AUTOCAST = 2.0
"""The same for the bound that a manifest records, which is used on other cells, engines and processors.

Autocast's error is measured as the largest over some cells, and that varies: over 40 sets of 64 cells it lay between
0.80 and 1.31 of its median for each of two networks. So the recorded bound is 4/3 of the one at export.
"""

_AUTOCAST_CELLS = 64
"""The largest of few errors is a noisy figure: autocast's is taken over more cells than the reference holds."""

FP16_MAX = float(torch.finfo(torch.float16).max)
WARN_ABOVE = FP16_MAX / 4
"""The reference cells are few: other cells may have activations a few times larger."""


def reference_cells(model: ReferenceModel, token_ids: Tensor, in_vocab: Sequence[bool]) -> Reference:
    """Draw reference cells for a gene list and predict them with the eager model.

    The cells are drawn from a fixed seed, never taken from a user's data: log1p-like values, two thirds of them zero, a
    cell without perturbation, with one, two and three perturbed genes, and one with an out-of-vocabulary gene.
    """
    n_model_genes = len(token_ids)
    n_genes = min(n_model_genes, MAX_GENES)
    rng = np.random.default_rng(SEED)
    out_of_vocab = np.flatnonzero(~np.asarray(in_vocab))[:8]
    others = rng.permutation(np.setdiff1d(np.arange(n_model_genes), out_of_vocab))
    gene_index = np.sort(np.concatenate([out_of_vocab, others])[:n_genes]).astype(np.int64)
    values, pert_flags = example_cells(rng, N_CELLS, n_genes)
    for cell in range(1, N_CELLS):
        n_perturbed = min((1, 2, 3)[(cell - 1) % 3], n_genes)
        pert_flags[cell, rng.choice(n_genes, n_perturbed, replace=False)] = 1
    if len(out_of_vocab):
        pert_flags[-1] = np.isin(gene_index, out_of_vocab[:1])
    predicted = predict_eager(model, token_ids[torch.from_numpy(gene_index)], values, pert_flags)
    return Reference(values, pert_flags, gene_index, predicted, token_ids.numpy())


def example_cells(
    rng: np.random.Generator, n_cells: int, n_genes: int, expressed: float = 1 / 3
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw log1p-like values (a share of them non-zero) and no perturbation, each [n_cells, n_genes]."""
    drawn = rng.gamma(2.0, 0.6, (n_cells, n_genes)) * (rng.random((n_cells, n_genes)) < expressed)
    return drawn.astype(np.float32), np.zeros((n_cells, n_genes), dtype=np.int64)


def predict_eager(
    model: ReferenceModel,
    token_ids: Tensor,
    values: NDArray[np.float32],
    pert_flags: NDArray[np.int64],
    *,
    autocast: torch.dtype | None = None,
) -> NDArray[np.float32]:
    """Predict with the eager model; with `autocast` in that half precision, as upstream runs it on a GPU."""
    with torch.inference_mode(), torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        predicted = model(token_ids, torch.from_numpy(values), torch.from_numpy(pert_flags))
    return np.asarray(predicted.float().numpy())


def activation_range(model: ReferenceModel, token_ids: Tensor, cells: Reference) -> dict[str, float]:
    """Return the largest absolute activation of each part of the network on the reference cells, in fp32.

    Taken on the folded network, whose intermediate results are those of the exported graphs: projections, attended
    values, the sums before every norm, and what the norms give. Scores of attention are not among them: fused kernels
    keep these in fp32. The parts are ``embedding``, ``layers.0`` and so on, ``decoder``.
    """
    network = fold(model, token_ids, EagerOps())
    largest = {"embedding": 0.0, **{f"layers.{i}": 0.0 for i in range(len(network.layers))}, "decoder": 0.0}

    def record(part: str, _module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        for tensor in (*inputs, output):
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.numel():
                # NaN has no maximum: it counts as infinite.
                found = float(torch.nan_to_num(tensor, nan=float("inf")).abs().max())
                largest[part] = max(largest[part], found)

    for name, module in network.named_modules():
        if not any(module.children()):
            part = next((part for part in largest if name.startswith(f"{part}.")), "embedding")
            module.register_forward_hook(partial(record, part))
    with torch.inference_mode():
        network(**{name: torch.from_numpy(array) for name, array in cells.inputs().items()})
    return largest


def range_problem(largest: Mapping[str, float]) -> Notice | None:
    """Return a warning if the largest activation is near or beyond the range of half precision."""
    part = max(largest, key=lambda name: largest[name])
    if largest[part] <= WARN_ABOVE:
        return None
    where = "beyond" if largest[part] > FP16_MAX else "near"
    return Notice(
        f"the largest activation on the reference cells is {largest[part]:,.0f}, in {part}: {where} the end of fp16's "
        f"range, {FP16_MAX:,.0f}. On other cells, fp16 predictions may be infinite, which is an error",
        "fp32 is safe",
    )


def tolerances(
    model: ReferenceModel, token_ids: Tensor, cells: Reference, variant: str, precisions: Sequence[Precision]
) -> dict[str, Tolerance]:
    """Return the tolerance of each precision against the eager fp32 outputs, and of fp32, which PyTorch runs, always.

    fp16 is bounded by what upstream itself runs, PyTorch's fp16 autocast of the same network: on the same cells, and on
    more of their kind.
    """
    bounds: dict[str, Tolerance] = {"fp32": FP32_ILL_CONDITIONED if is_ill_conditioned(variant) else FP32}
    if "fp16" in precisions:
        subset = token_ids[torch.from_numpy(cells.gene_index)]
        values, flags = example_cells(np.random.default_rng(SEED + 1), _AUTOCAST_CELLS, len(subset))
        flags[np.arange(1, _AUTOCAST_CELLS), np.arange(1, _AUTOCAST_CELLS) % len(subset)] = 1
        half = predict_eager(model, subset, values, flags, autocast=torch.float16)
        error = np.abs(half - predict_eager(model, subset, values, flags)).max()
        half = predict_eager(model, subset, cells.values, cells.pert_flags, autocast=torch.float16)
        error = max(error, np.abs(half - cells.predicted).max())
        bounds["fp16"] = Tolerance(atol=max(FP16_OVER_AUTOCAST * float(error), bounds["fp32"].atol), rtol=0.0)
    return bounds


def recorded_tolerances(bounds: Mapping[str, Tolerance]) -> dict[str, Tolerance]:
    """Return the tolerances to record in a manifest: those of the check at export, with room for fp16."""
    room = {"fp16": FP16_RECORDED_OVER_AUTOCAST / FP16_OVER_AUTOCAST}
    return {name: replace(bound, atol=bound.atol * room.get(name, 1.0)) for name, bound in bounds.items()}


class GraphCheck:
    """Compares graphs with the eager model: on the reference cells, and on one cell of all genes."""

    def __init__(self, model: ReferenceModel, token_ids: Tensor, in_vocab: Sequence[bool], cells: Reference) -> None:
        self._shared_rows = ~np.asarray(in_vocab)
        values, flags = example_cells(np.random.default_rng(SEED + 2), 1, len(token_ids), expressed=0.1)
        flags[0, 0] = 1
        predicted = predict_eager(model, token_ids, values, flags)
        self._cells, self._whole = cells, Reference(values, flags, np.arange(len(token_ids)), predicted)

    def misses(self, path: Path, precision: Precision, target: Target, tolerance: Tolerance) -> list[str]:
        """Run a graph on the CPU and return where its tolerance is missed.

        A merged graph runs with identical tokens merged, and with its input `log_count` left out. Not all graphs run a
        cell of all genes, which takes long.
        """
        predict = open_on_cpu(path)
        runs = [("reference cells", self._cells, predict(self._cells.inputs()))]
        if target == "merged":
            for what, cells in (("reference cells", self._cells), ("one cell of all genes", self._whole)):
                merged = run_merged(predict, **cells.inputs(), shared_rows=self._shared_rows)
                runs.append((f"{what}, merged", cells, merged))
        elif (precision, target) == ("fp32", "ort"):
            runs.append(("one cell of all genes", self._whole, predict(self._whole.inputs())))
        compared = {what: tolerance.compare(predicted, cells.predicted) for what, cells, predicted in runs}
        return [
            f"{path.name}, {what}: largest difference {found.max_difference:.3g}, {found.worst:.3g} times its tolerance"
            for what, found in compared.items()
            if not found.passed
        ]


def open_on_cpu(path: Path) -> Callable[[Feed], NDArray[np.float32]]:
    """Return a function that runs a graph on the CPU."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, dict(feed))[0]
