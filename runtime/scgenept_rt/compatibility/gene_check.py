"""Which of a model's genes the cells have."""

from __future__ import annotations

import numpy as np

from scgenept_rt.compatibility.finding import Finding
from scgenept_rt.errors.core import ScgeneptError, join_limited, pluralize
from scgenept_rt.expression import OpenedCells
from scgenept_rt.expression.opened_cells import LOW_COVERAGE, VAR_NAMES, low_coverage
from scgenept_rt.genes import GeneMatch, GenePanel


def check_genes(cells: OpenedCells, panel: GenePanel) -> tuple[GeneMatch | None, list[Finding]]:
    """Match the genes as `predict` does; None if they cannot be matched."""
    try:
        match = cells.match_genes(panel)
    except ScgeneptError as error:
        return None, [Finding.from_error("genes", error)]
    findings = [Finding("genes", "ok", _found(match, panel))] if match.n_found else []
    try:
        cells.accept_missing(panel, match)
    except ScgeneptError as error:
        findings.append(Finding.from_error("genes", error))
    else:
        if match.missing:
            findings[0] = _accepted(match, panel)
    if match.n_found:
        n_in_vocab = int(np.count_nonzero(panel.in_vocab))
        text = (
            f"{match.n_found_in_vocab:,} of the {pluralize(match.n_found, 'gene')} found are in the vocabulary, "
            f"which has {n_in_vocab:,} of the model's {len(panel):,} genes; the model cannot tell the others apart by name"
        )
        findings.append(Finding("vocabulary", "ok", text))
    return match, findings


def _found(match: GeneMatch, panel: GenePanel) -> str:
    source = VAR_NAMES if match.source == VAR_NAMES else f"var column {match.source!r}"
    by_symbol = match.n_found - match.n_by_id
    ways = [f"{by_symbol:,} by symbol"] if by_symbol else []
    ways += [f"{match.n_by_id:,} by Ensembl id"] if match.n_by_id else []
    ignored = f"; {pluralize(match.n_extra, 'other gene')} ignored" if match.n_extra else ""
    return f"{match.n_found:,} of the model's {len(panel):,} genes found in {source} ({', '.join(ways)}){ignored}"


def _accepted(match: GeneMatch, panel: GenePanel) -> Finding:
    text = f"{_found(match, panel)}. Missing genes are taken as not expressed: {join_limited(match.missing)}"
    if match.n_found >= LOW_COVERAGE * len(panel):
        return Finding("genes", "note", text)
    warning = low_coverage(match.n_found, len(panel)).rstrip(".")
    remedy = "Use the cells before genes were filtered, if you have them"
    return Finding("genes", "note", f"{text}. Warning: {warning}", remedy)
