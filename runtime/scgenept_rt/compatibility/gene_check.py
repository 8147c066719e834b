"""Which of a model's genes the cells have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Manifest
from scgenept_rt.compatibility.finding import Finding, Findings
from scgenept_rt.expression import OpenedCells
from scgenept_rt.expression.missing_genes import accept_blanked, accept_missing
from scgenept_rt.genes import GeneMatch, GenePanel, panel_warnings
from scgenept_rt.wording import pluralize


def check_genes(cells: OpenedCells, panel: GenePanel, findings: Findings) -> GeneMatch:
    """Match the genes as `predict` does; raises what `OpenedCells.match_genes` raises."""
    match = cells.match_genes(panel)
    source = match.source if match.source == "var_names" else f"var column {match.source!r}"
    text = f"{match.n_found:,} of the model's {len(panel):,} genes found in {source}"
    text += f", {match.n_by_id:,} by Ensembl id" if match.n_by_id else ""
    text += f", {match.n_respelled:,} in another spelling" if match.n_respelled else ""
    text += f"; {pluralize(match.n_extra, 'other gene')} ignored" if match.n_extra else ""
    if match.n_found:
        findings.append(Finding("genes", "ok", text))
    with findings.problems("genes"):
        notices = accept_missing(cells, match)
        if notices:
            remedy = "Use the cells before genes were filtered, if you have them"
            findings[-1] = Finding("genes", "note", " ".join([f"{text}.", *notices]), remedy)
    if match.n_found:
        n_in_vocab = int(np.count_nonzero(panel.in_vocab))
        text = (
            f"{match.n_found_in_vocab:,} of the {pluralize(match.n_found, 'gene')} found are in the vocabulary, which "
            f"has {n_in_vocab:,} of the model's {len(panel):,} genes; it cannot tell the others apart by name"
        )
        findings.append(Finding("vocabulary", "ok", text))
    warned = [notice for notice in match.notices if notice.startswith("Warning:")]
    if warned:
        findings.append(Finding("genes", "note", " ".join(warned)))
    return match


def check_blanked(
    cells: OpenedCells, match: GeneMatch, rows: NDArray[np.int64], sample: Any, findings: Findings
) -> None:
    """Add what `predict` would say of genes that are zero in X and not in the counts, by a sample of cells."""
    expressed = np.zeros(len(match.panel), dtype=np.bool_)
    expressed[sample.indices] = True
    with findings.problems("genes"):
        accepted = accept_blanked(cells, match, rows, expressed)
        new = accepted.unmeasured[len(match.unmeasured) :]
        findings += [Finding("genes", "note", notice) for notice in new]


def check_panel(manifest: Manifest) -> list[Finding]:
    """Return warnings about the bundle's own genes; made-up weights were trained on none."""
    if manifest.synthetic:
        return []
    warnings = panel_warnings(manifest.dataset, manifest.gene_names, manifest.in_vocab)
    return [Finding("vocabulary", "note", warning) for warning in warnings]
