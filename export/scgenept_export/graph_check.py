"""The end of every export: each graph is run and compared with the eager model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scgenept_export.errors import ExportedGraphError
from scgenept_export.model import ReferenceModel
from scgenept_export.reference_cells import SEED, example_cells, predict_eager
from scgenept_export.variants import is_ill_conditioned
from scgenept_rt.bundle import Precision, Reference, Target, Tolerance
from scgenept_rt.providers import import_onnxruntime
from scgenept_rt.session.protocol import Feed
from scgenept_rt.session.token_merging import run_merged

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


def tolerances(
    model: ReferenceModel, token_ids: torch.Tensor, cells: Reference, variant: str, precisions: Sequence[Precision]
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
    room = FP16_RECORDED_OVER_AUTOCAST / FP16_OVER_AUTOCAST
    return {
        precision: replace(bound, atol=bound.atol * room) if precision == "fp16" else bound
        for precision, bound in bounds.items()
    }


class GraphCheck:
    """Compares graphs with the eager model: on the reference cells, and on one cell of all genes."""

    def __init__(
        self, model: ReferenceModel, token_ids: torch.Tensor, in_vocab: Sequence[bool], cells: Reference
    ) -> None:
        self._shared_rows = ~np.asarray(in_vocab)
        values, flags = example_cells(np.random.default_rng(SEED + 2), 1, len(token_ids), expressed=0.1)
        flags[0, 0] = 1
        all_genes: Feed = {"values": values, "pert_flags": flags, "gene_index": np.arange(len(token_ids))}
        self._reference = (cells.inputs(), cells.predicted)
        self._all_genes = (all_genes, predict_eager(model, token_ids, values, flags))

    def misses(self, path: Path, precision: Precision, target: Target, tolerance: Tolerance) -> list[str]:
        """Run a graph on the CPU and return where its tolerance is missed.

        A merged graph runs with identical tokens merged, and with its input `log_count` left out. Not all graphs run a
        cell of all genes, which takes long.
        """
        predict = open_on_cpu(path)

        def predict_merged(feed: Feed) -> NDArray[np.float32]:
            return run_merged(predict, **feed, shared_rows=self._shared_rows)

        runs: list[tuple[str, Callable[[Feed], NDArray[np.float32]], Feed, NDArray[np.float32]]]
        runs = [("reference cells", predict, *self._reference)]
        if target == "merged":
            runs.append(("reference cells, merged", predict_merged, *self._reference))
            runs.append(("one cell of all genes, merged", predict_merged, *self._all_genes))
        elif (precision, target) == ("fp32", "ort"):
            runs.append(("one cell of all genes", predict, *self._all_genes))
        found = {what: tolerance.compare(run(feed), expected) for what, run, feed, expected in runs}
        return [
            f"{path.name}, {what}: largest difference {each.max_difference:.3g}, {each.worst:.3g} times its tolerance"
            for what, each in found.items()
            if not each.passed
        ]


def raise_misses(misses: Sequence[str]) -> None:
    """Raise `ExportedGraphError` with every miss, if there is one."""
    if misses:
        found = f"{len(misses)} exported output(s) differ from the eager model by more than the tolerance"
        raise ExportedGraphError("\n  ".join([f"{found}; no bundle was written:", *misses]))


def open_on_cpu(path: Path) -> Callable[[Feed], NDArray[np.float32]]:
    """Return a function that runs a graph on the CPU."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, dict(feed))[0]
