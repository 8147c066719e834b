"""Every graph of a bundle on a provider, against the eager model: its kept outputs, and PyTorch itself if wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from types import NoneType
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import REFERENCE_NAME, Bundle, Comparison, Precision, Target, Tolerance
from scgenept_rt.errors import PredictOptionError, check_argument, pluralize
from scgenept_rt.providers import ProviderChoice, import_onnxruntime, select_provider
from scgenept_rt.reference_check import check_reference, read_reference
from scgenept_rt.session import Session, cpu_attention_kernel, cuda_attention_kernels, open_session

MAX_WHOLE_GENES = 1_024
"""Panels up to this size are compared on every fresh cell; of larger ones one cell, and subsets for the others."""

_PORTABLE_ON_CPU = (1, 23)
"""The first ONNX Runtime whose CPU provider runs opset 23 attention."""

Inputs = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Verified:
    """One comparison of one graph.

    Attributes
    ----------
    graph
        Name of the graph's file; "eager model" for the provider torch.
    against
        "reference.npz" or "torch".
    cells
        What was compared, such as "6 cells x 192 genes".
    attention_kernel
        The kernel that ran, empty if it is not known.
    """

    provider: str
    precision: Precision
    graph: str
    against: str
    cells: str
    tolerance: Tolerance
    comparison: Comparison
    attention_kernel: str


def verify_bundle(
    bundle: Bundle,
    *,
    provider: str = "auto",
    precision: Precision | Literal["auto"] = "auto",
    against_torch: bool = False,
    n_cells: int = 8,
    seed: int = 0,
    device_id: int | None = None,
    threads: int | None = None,
    reference_checkpoint: str | Path | None = None,
    cuda_graphs: bool = False,
    on_notice: Callable[[str], None] | None = None,
) -> Iterator[Verified]:
    """Run every graph that a provider can run, and compare with the eager model.

    On the CPU that includes the portable graphs.

    Parameters
    ----------
    bundle
        An opened bundle.
    provider
        As for `load`.
    precision
        "auto" for every one that the bundle holds.
    against_torch
        Also compare fresh random cells with PyTorch: one over all genes and, if there are more than
        `MAX_WHOLE_GENES`, the others over a random subset of that size.
    n_cells, seed
        How many fresh cells, and the seed that they are drawn from.
    device_id, threads, reference_checkpoint, on_notice
        As for `load`.
    cuda_graphs
        Record single cells as CUDA graphs (for the provider cuda), and also run the reference cells one at a time.

    Yields
    ------
    Verified
        One for each graph against ``reference.npz`` (two with CUDA graphs), then one against PyTorch if wanted.

    Raises
    ------
    ScgeneptError
        As `load`.
    """
    check_argument("bundle", bundle, (Bundle,), "an opened bundle: `Bundle.open(PATH)`")
    check_argument("provider", provider, (str,), "a name such as auto or cpu")
    check_argument("precision", precision, (str,), "auto, fp32 or fp16")
    check_argument("cuda_graphs", cuda_graphs, (bool, np.bool_), "True or False")
    check_argument("threads", threads, (Integral, NoneType), "a whole number from 1, or None")
    if provider != "torch":  # which runs no graph
        bundle.check_known_graphs()
    choices = _choices(bundle, provider, precision, device_id)
    fresh: _FreshCells | None = None
    if against_torch:
        if choices[0].name == "torch":
            raise PredictOptionError(
                "--against torch compares another provider with PyTorch, but the provider is torch itself. "
                "Choose another --provider."
            )
        torch = open_session(
            bundle, select_provider("torch", precision="fp32"), reference_checkpoint=reference_checkpoint
        )
        fresh = _FreshCells(torch, bundle.manifest.dimensions.n_genes, n_cells, seed)
        reference_checkpoint = None
    for choice in choices:
        yield from _verify(bundle, choice, fresh, threads, reference_checkpoint, cuda_graphs, on_notice)


def _verify(
    bundle: Bundle,
    choice: ProviderChoice,
    fresh: _FreshCells | None,
    threads: int | None,
    reference_checkpoint: str | Path | None,
    cuda_graphs: bool,
    on_notice: Callable[[str], None] | None,
) -> Iterator[Verified]:
    graph = "eager model" if choice.target is None else bundle.graph(choice.precision, choice.target).path
    tolerance = bundle.tolerance(choice.precision)
    kernels: list[str] = []
    recorded: list[tuple[int, int]] = []
    if cuda_graphs:
        recorded = [(1, len(read_reference(bundle).gene_index)), (1, bundle.manifest.dimensions.n_genes)]
    with cuda_attention_kernels() if choice.name == "cuda" else nullcontext(kernels) as kernels:
        session = open_session(
            bundle,
            choice,
            threads=threads,
            reference_checkpoint=reference_checkpoint,
            recorded=recorded,
            on_notice=on_notice,
        )
        reference = check_reference(bundle, session)
        alone = check_reference(bundle, session, one_by_one=True) if cuda_graphs else None
        predicted = [] if fresh is None else [session.run(*inputs) for inputs in fresh.inputs]
    if choice.name == "cpu" and choice.target is not None:
        kernel = cpu_attention_kernel(choice.precision, choice.target)
    else:
        kernel = ", ".join(kernels)
    cells = f"{pluralize(reference.n_cells, 'cell')} x {pluralize(reference.n_genes, 'gene')}"
    yield Verified(choice.name, choice.precision, graph, REFERENCE_NAME, cells, tolerance, reference.comparison, kernel)
    if alone is not None:
        cells += ", one at a time"
        yield Verified(choice.name, choice.precision, graph, REFERENCE_NAME, cells, tolerance, alone.comparison, kernel)
    if fresh is not None:
        comparison = _together(tolerance, predicted, fresh.expected)
        yield Verified(choice.name, choice.precision, graph, "torch", str(fresh), tolerance, comparison, kernel)


def _choices(
    bundle: Bundle, provider: str, precision: Precision | Literal["auto"], device_id: int | None
) -> list[ProviderChoice]:
    graphs = cast("Any", {(graph.precision, graph.target) for graph in bundle.graphs()})

    def choose(name: str, wanted: Precision | Literal["auto"]) -> ProviderChoice:
        return select_provider(name, precision=wanted, graphs=graphs, device_id=device_id)

    first = choose(provider, precision)
    targets: tuple[Target | None, ...] = (first.target,)
    if first.name == "cpu":
        targets = ("ort", "merged", "portable") if _runs_portable_graphs() else ("ort", "merged")
    return [
        replace(choose(first.name, graph.precision), target=graph.target)
        for graph in bundle.graphs()
        if graph.target in targets and graph.precision is not None and precision in ("auto", graph.precision)
    ] or [first]


def _runs_portable_graphs() -> bool:
    return tuple(int(part) for part in import_onnxruntime().__version__.split(".")[:2]) >= _PORTABLE_ON_CPU


class _FreshCells:
    """Random cells with PyTorch's predictions of them."""

    def __init__(self, torch: Session, n_genes: int, n_cells: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        if n_genes <= MAX_WHOLE_GENES:
            self.inputs = [_draw(rng, n_genes, n_cells, n_genes)]
        else:
            self.inputs = [_draw(rng, n_genes, 1, n_genes)]
            if n_cells > 1:
                self.inputs.append(_draw(rng, n_genes, n_cells - 1, MAX_WHOLE_GENES))
        self.expected = [torch.run(*inputs) for inputs in self.inputs]

    def __str__(self) -> str:
        shapes = [values.shape for values, _, _ in self.inputs]
        return " and ".join(f"{pluralize(cells, 'fresh cell')} x {pluralize(genes, 'gene')}" for cells, genes in shapes)


def _draw(rng: np.random.Generator, n_model_genes: int, n_cells: int, n_genes: int) -> Inputs:
    """Draw log1p-like values, a third of them non-zero, and up to three perturbed genes a cell."""
    gene_index = np.sort(rng.permutation(n_model_genes)[:n_genes]).astype(np.int64)
    values = rng.gamma(2.0, 0.6, (n_cells, n_genes)) * (rng.random((n_cells, n_genes)) < 1 / 3)
    pert_flags = np.zeros((n_cells, n_genes), dtype=np.int64)
    for cell in range(n_cells):
        n_perturbed = min(1 + cell % 3, n_genes)
        pert_flags[cell, rng.choice(n_genes, n_perturbed, replace=False)] = 1
    return values.astype(np.float32), pert_flags, gene_index


def _together(
    tolerance: Tolerance, predicted: list[NDArray[np.float32]], expected: list[NDArray[np.float32]]
) -> Comparison:
    flat = [np.concatenate([part.ravel() for part in parts]) for parts in (predicted, expected)]
    return tolerance.compare(flat[0], flat[1])
