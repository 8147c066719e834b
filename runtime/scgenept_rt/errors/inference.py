"""Errors of loading and running the network."""

from __future__ import annotations

from pathlib import Path

from scgenept_rt.errors.base import ScgeneptError
from scgenept_rt.errors.wording import pluralize


class GraphNotLoadedError(ScgeneptError, RuntimeError):
    """ONNX Runtime cannot load a graph, or the provider cannot run all of it."""

    def __init__(self, directory: Path | str, graph: str, provider: str, detail: str) -> None:
        lines = detail.strip().splitlines() or ["no reason given"]
        super().__init__(
            f"bundle {directory}: {graph} cannot be loaded on the provider {provider}: {lines[0][:300]} "
            "`scgenept-rt providers` says what works here."
        )


class InferenceFailedError(ScgeneptError, RuntimeError):
    """A batch failed while it ran."""

    def __init__(self, provider: str, n_cells: int, n_genes: int, detail: str) -> None:
        lines = detail.strip().splitlines() or ["no reason given"]
        batch = f"a batch of {pluralize(n_cells, 'cell')} x {pluralize(n_genes, 'gene')}"
        self.out_of_memory = any(
            word in detail.lower()
            for word in ("failed to allocate", "unable to allocate", "out of memory", "bad_alloc", "bad allocation")
        )
        if self.out_of_memory:
            problem = f"the provider {provider} ran out of memory on {batch}. Free memory, or use another machine."
        else:
            problem = f"the provider {provider} failed on {batch}: {lines[0][:300]} Try another --provider."
        super().__init__(problem)


class PredictOptionError(ScgeneptError, ValueError):
    """Options of a prediction that do not go together, or have no sense."""


class ReferenceMissedError(ScgeneptError, ArithmeticError):
    """A provider's outputs for the bundle's reference cells differ from PyTorch's by more than the tolerance."""

    def __init__(self, provider: str, precision: str, max_difference: float, worst: float) -> None:
        super().__init__(
            f"on the provider {provider} ({precision}) this bundle's reference cells differ from PyTorch's outputs by "
            f"{max_difference:.3g}, {worst:.3g} times the tolerance. Predictions would be wrong: try another "
            "--provider or --precision; `scgenept-rt verify` shows all figures, --no-check goes on all the same."
        )
