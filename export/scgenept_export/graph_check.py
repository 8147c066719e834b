"""The end of every export: each graph is run and compared with the eager model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scgenept_export.errors import ExportedGraphError
from scgenept_export.model import ReferenceModel
from scgenept_export.reference_cells import SEED, example_cells, predict_eager
from scgenept_export.variants import is_ill_conditioned
from scgenept_rt.bundle import Comparison, Precision, Reference, Tolerance
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
    """Compares graphs with the eager model and collects the misses, so that all are reported at once."""

    def __init__(
        self, model: ReferenceModel, token_ids: torch.Tensor, in_vocab: Sequence[bool], cells: Reference
    ) -> None:
        self._cells = cells
        self._shared_rows = ~np.asarray(in_vocab)
        # One cell over all genes: a size that the reference cells do not have.
        values, flags = example_cells(np.random.default_rng(SEED + 2), 1, len(token_ids), expressed=0.1)
        flags[0, 0] = 1
        self._full_inputs: Mapping[str, NDArray[Any]] = {
            "values": values,
            "pert_flags": flags,
            "gene_index": np.arange(len(token_ids)),
        }
        self._full_predicted = predict_eager(model, token_ids, values, flags)
        self._misses: list[str] = []

    def holds(self, path: Path, tolerance: Tolerance) -> bool:
        """Return whether a graph keeps its tolerance on the reference cells."""
        return tolerance.compare(open_on_cpu(path)(self._cells.inputs()), self._cells.predicted).passed

    def run(self, path: Path, tolerance: Tolerance, *, whole_panel: bool) -> Comparison:
        """Run one graph on the CPU and record where its tolerance is missed."""
        predict = open_on_cpu(path)
        comparison = tolerance.compare(predict(self._cells.inputs()), self._cells.predicted)
        self._note(path, "reference cells", comparison)
        if whole_panel:
            full = tolerance.compare(predict(self._full_inputs), self._full_predicted)
            self._note(path, "one cell of all genes", full)
        return comparison

    def run_merged(self, path: Path, tolerance: Tolerance) -> None:
        """Run a merged graph with identical tokens merged, and with its input `log_count` left out; see `run`."""
        self.run(path, tolerance, whole_panel=False)
        predict = open_on_cpu(path)
        for what, inputs, expected in (
            ("reference cells, merged", self._cells.inputs(), self._cells.predicted),
            ("one cell of all genes, merged", self._full_inputs, self._full_predicted),
        ):
            predicted = run_merged(predict, **inputs, shared_rows=self._shared_rows)
            self._note(path, what, tolerance.compare(predicted, expected))

    def _note(self, path: Path, what: str, comparison: Comparison) -> None:
        if not comparison.passed:
            self._misses.append(
                f"{path.name}, {what}: largest difference {comparison.max_difference:.3g}, "
                f"{comparison.worst:.3g} times its tolerance"
            )

    def raise_misses(self) -> None:
        """Raise `ExportedGraphError` with every miss, if there is one."""
        if self._misses:
            found = f"{len(self._misses)} exported output(s) differ from the eager model by more than the tolerance"
            raise ExportedGraphError("\n  ".join([f"{found}; no bundle was written:", *self._misses]))


def open_on_cpu(path: Path) -> Callable[[Feed], NDArray[np.float32]]:
    """Return a function that runs a graph on the CPU."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, dict(feed))[0]
