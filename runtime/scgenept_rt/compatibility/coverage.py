"""How much of a model's gene list a file covers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scgenept_rt.compatibility.findings import Finding, problem_from
from scgenept_rt.errors import MissingGenesError, ScgeneptError, join_limited, pluralize
from scgenept_rt.expression import ReadOptions
from scgenept_rt.expression.cells_source import CellsSource
from scgenept_rt.expression.reading import LOW_COVERAGE, accept_missing, low_coverage, name_candidates
from scgenept_rt.genes import GeneMatch, GenePanel, match_columns

_N_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Coverage:
    """The result of matching genes: `match` is None if they could not be matched."""

    match: GeneMatch | None = None
    findings: tuple[Finding, ...] = field(default=(), repr=False)


def examine_genes(cells: CellsSource, panel: GenePanel, options: ReadOptions) -> Coverage:
    """Match the genes of a file with the model's as `predict` does."""
    try:
        candidates = name_candidates(cells, options.gene_key)
        match = match_columns(panel, candidates, options.gene_key)
    except ScgeneptError as error:
        return Coverage(None, (problem_from("genes", error),))
    findings = []
    try:
        accept_missing(cells, panel, match, candidates[match.source], options)
    except MissingGenesError as error:
        problem = problem_from("genes", error)
        found = f"{_found(match, panel)} " if match.n_found else ""
        findings.append(Finding("genes", "problem", found + problem.text, problem.step))
    else:
        findings.append(_accepted(match, panel))
    if match.n_found:
        findings.append(_vocabulary(match, panel))
    return Coverage(match, tuple(findings))


def _found(match: GeneMatch, panel: GenePanel) -> str:
    source = "var_names" if match.source == "var_names" else f"var column {match.source!r}"
    by_symbol = match.n_found - match.n_by_id
    ways = [f"{by_symbol:,} by symbol"] if by_symbol else []
    ways += [f"{match.n_by_id:,} by Ensembl id"] if match.n_by_id else []
    extra = f"; {pluralize(match.n_extra, 'other gene')} of the file ignored" if match.n_extra else ""
    return f"{match.n_found:,} of the model's {len(panel):,} genes found in {source} ({', '.join(ways)}){extra}."


def _accepted(match: GeneMatch, panel: GenePanel) -> Finding:
    text = _found(match, panel)
    if not match.missing:
        return Finding("genes", "ok", text)
    missing = pluralize(len(match.missing), "missing counts", "missing count")
    text += f" The {missing} as not expressed: {join_limited(match.missing, _N_SHOWN)}."
    if match.n_found >= LOW_COVERAGE * len(panel):
        return Finding("genes", "note", text)
    warning = low_coverage(match.n_found, len(panel))
    return Finding(
        "genes",
        "note",
        f"{text} {warning[0].upper()}{warning[1:]}",
        "Give the file before genes were filtered (all genes, normalised, log1p), if there is one.",
    )


def _vocabulary(match: GeneMatch, panel: GenePanel) -> Finding:
    n_in_vocab = int(np.count_nonzero(panel.in_vocab))
    unnamed = match.n_found - match.n_found_in_vocab
    found = f"{match.n_found_in_vocab:,} of the {pluralize(match.n_found, 'gene')} found"
    text = f"{found} {'is' if match.n_found_in_vocab == 1 else 'are'} in the model's vocabulary"
    text += f" (which has {n_in_vocab:,} of its {len(panel):,} genes)."
    if unnamed:
        others = "one from other such genes" if unnamed == 1 else f"{unnamed:,} apart"
        text += f" The model cannot tell the other {others} by name: this is a trait of the model."
    return Finding("vocabulary", "ok", text)
