"""Comparing a provider's outputs with the eager model's: those kept in the bundle, and PyTorch itself if wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import REFERENCE_NAME, Bundle, Comparison, Reference, Target, Tolerance
from scgenept_rt.errors import ArgumentError, ReferenceMismatchError, UseOption
from scgenept_rt.options import EngineOptions, resolve
from scgenept_rt.providers import ProviderChoice, select_provider
from scgenept_rt.session import Session, attention_kernels, devices_of, open_session
from scgenept_rt.wording import pluralize

MAX_WHOLE_GENES = 1_024
"""Up to this many genes, every fresh cell is compared on all of them; above, one cell is, and the others on subsets."""

_Inputs = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]
_Predicted = tuple[_Inputs, NDArray[np.float32]]


@dataclass(frozen=True)
class ReferenceResult:
    """How a session's outputs compare with the reference: `n_cells` cells over `n_genes` genes."""

    provider: str
    precision: str
    tolerance: Tolerance
    comparison: Comparison
    n_cells: int
    n_genes: int

    def raise_if_missed(self) -> None:
        """Raise `ReferenceMismatchError` if a difference is larger than the tolerance."""
        if self.comparison.passed:
            return
        raise ReferenceMismatchError(
            f"on the provider {self.provider} ({self.precision}) this bundle's reference cells differ from PyTorch's "
            f"outputs by {self.comparison.max_difference:.3g}, {self.comparison.worst:.3g} times the tolerance, so "
            "predictions would be wrong",
            "Run `scgenept-rt verify` for all figures",
            (UseOption("provider", "use another provider"), UseOption("precision", "use another precision")),
        )


def check_reference(bundle: Bundle, session: Session) -> ReferenceResult:
    """Run the bundle's reference cells through a session, in one batch.

    Takes milliseconds, and does not need PyTorch. Of several devices, the result is that of the first that misses the
    tolerance.

    Raises
    ------
    BundleFileError
        If `reference.npz` is missing, damaged or empty.
    """
    reference = Reference.read(bundle.directory)
    tolerance = bundle.tolerance(session.precision)
    n_cells, n_genes = reference.predicted.shape
    for name, each in devices_of(session).items():
        predicted = each.run(reference.values, reference.pert_flags, reference.gene_index)
        comparison = tolerance.compare(predicted, reference.predicted)
        provider = f"{session.provider} ({name})" if name else session.provider
        result = ReferenceResult(provider, session.precision, tolerance, comparison, n_cells, n_genes)
        if not comparison.passed:
            break
    return result


def verify_bundle(
    bundle: Bundle,
    *,
    against_torch: bool = False,
    n_cells: int = 8,
    seed: int = 0,
    on_notice: Callable[[str], None] | None = None,
    **options: Unpack[EngineOptions],
) -> Iterator[dict[str, Any]]:
    """Run every graph that a provider can run (on the CPU also the portable ones), and compare with the eager model.

    Parameters
    ----------
    against_torch
        Also compare `n_cells` random cells, drawn with `seed`, with PyTorch: one over all genes and, if there are more
        than `MAX_WHOLE_GENES`, the others over a random subset of that size.
    on_notice
        Called with a message about each step that takes long.
    **options
        See `scgenept_rt.options.EngineOptions`. The precision "auto" stands for every one that the bundle holds.

    Yields
    ------
    dict
        One per graph and per device against ``reference.npz``, then one against PyTorch if wanted; `verify --json`
        prints a list of them: `provider`, `device` (None for the CPU), `precision`, `graph` (its file; "eager model"
        for the provider torch), `against`, `cells` (what was compared, such as "6 cells x 192 genes"), `tolerance`
        (`atol`, `rtol`, `relative_to_largest`), `max_difference`, `max_relative` (this over the largest output),
        `times_tolerance` (the largest ratio of a difference to its tolerance), `passed` and `attention_kernel` (None if
        not known).
    """
    engine = resolve(EngineOptions, options)
    if not against_torch:
        choices, fresh = _choices(bundle, engine), []
    else:
        choices = _choices(bundle, {**engine, "reference_checkpoint": None})
        if not choices[0].traits.runs_graphs:
            raise ArgumentError(
                "PyTorch would be compared with itself",
                options=(UseOption("provider", "compare another provider with PyTorch"),),
            )
        checkpoint = engine["reference_checkpoint"]
        torch = select_provider(bundle, provider="torch", precision="fp32", reference_checkpoint=checkpoint)
        fresh = _fresh_cells(open_session(bundle, torch), bundle.manifest.dimensions.n_genes, n_cells, seed)
    for choice in choices:
        yield from _verify(bundle, choice, fresh, on_notice)


def _verify(
    bundle: Bundle, choice: ProviderChoice, fresh: Sequence[_Predicted], on_notice: Callable[[str], None] | None
) -> Iterator[dict[str, Any]]:
    with attention_kernels(printed=choice.traits.is_cuda) as kernels:
        session = open_session(bundle, choice, on_notice=on_notice)
        reference = check_reference(bundle, session)
        predicted = [session.run(*inputs) for inputs, _ in fresh]
    tolerance = reference.tolerance

    def figures(against: str, cells: str, comparison: Comparison) -> dict[str, Any]:
        return {
            "provider": choice.name,
            "device": choice.device_id,
            "precision": choice.precision,
            "graph": "eager model" if choice.target is None else bundle.graph(choice.precision, choice.target).path,
            "against": against,
            "cells": cells,
            "tolerance": asdict(tolerance),
            "max_difference": comparison.max_difference,
            "max_relative": comparison.max_relative,
            "times_tolerance": comparison.worst,
            "passed": comparison.passed,
            "attention_kernel": ", ".join(kernels) or None,
        }

    cells = f"{pluralize(reference.n_cells, 'cell')} x {pluralize(reference.n_genes, 'gene')}"
    yield figures(REFERENCE_NAME, cells, reference.comparison)
    if fresh:
        expected = [values for _, values in fresh]
        shapes = [f"{pluralize(len(part), 'fresh cell')} x {pluralize(part.shape[1], 'gene')}" for part in expected]
        flat = [np.concatenate([part.ravel() for part in parts]) for parts in (predicted, expected)]
        yield figures("torch", " and ".join(shapes), tolerance.compare(flat[0], flat[1]))


def _choices(bundle: Bundle, engine: EngineOptions) -> list[ProviderChoice]:
    """Return one choice per graph that the provider can run, and per device."""
    first = select_provider(bundle, **engine)
    targets: set[Target | None] = {first.target}
    if first.traits.runs_graphs and not first.traits.on_gpu:
        targets = {"ort", "merged", "portable"}
    chosen = []
    for graph in bundle.graphs():
        if graph.target in targets and graph.precision is not None and engine["precision"] in ("auto", graph.precision):
            options: EngineOptions = {**engine, "provider": first.name, "precision": graph.precision}
            chosen.append(replace(select_provider(bundle, **options), target=graph.target))
    return [one for choice in chosen or [first] for one in choice.per_device.values()]


def _fresh_cells(torch: Session, n_genes: int, n_cells: int, seed: int) -> list[_Predicted]:
    """Draw random cells, and predict them with PyTorch."""
    rng = np.random.default_rng(seed)
    n_whole = n_cells if n_genes <= MAX_WHOLE_GENES else 1
    drawn = [_draw(rng, n_genes, n_whole, n_genes)]
    if n_cells > n_whole:
        drawn.append(_draw(rng, n_genes, n_cells - n_whole, MAX_WHOLE_GENES))
    return [(inputs, torch.run(*inputs)) for inputs in drawn]


def _draw(rng: np.random.Generator, n_model_genes: int, n_cells: int, n_genes: int) -> _Inputs:
    """Draw log1p-like values, a third of them non-zero, and up to three perturbed genes per cell."""
    gene_index = np.sort(rng.permutation(n_model_genes)[:n_genes]).astype(np.int64)
    values = rng.gamma(2.0, 0.6, (n_cells, n_genes)) * (rng.random((n_cells, n_genes)) < 1 / 3)
    pert_flags = np.zeros((n_cells, n_genes), dtype=np.int64)
    for cell in range(n_cells):
        n_perturbed = min(1 + cell % 3, n_genes)
        pert_flags[cell, rng.choice(n_genes, n_perturbed, replace=False)] = 1
    return values.astype(np.float32), pert_flags, gene_index
