"""Which of a model's genes the cells have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Manifest
from scgenept_rt.compatibility.finding import Finding
from scgenept_rt.compatibility.value_check import MAX_CELLS
from scgenept_rt.errors import GeneMatchError, pluralize
from scgenept_rt.expression import OpenedCells
from scgenept_rt.expression.sampling import Sampling
from scgenept_rt.genes import GeneMatch, GenePanel, panel_doubts


def check_genes(cells: OpenedCells, panel: GenePanel) -> tuple[GeneMatch, list[Finding]]:
    """Match the genes as `predict` does; raises what `OpenedCells.match_genes` raises."""
    match = cells.match_genes(panel)
    source = match.source if match.source == "var_names" else f"var column {match.source!r}"
    text = f"{match.n_found:,} of the model's {len(panel):,} genes found in {source}"
    text += f", {match.n_by_id:,} by Ensembl id" if match.n_by_id else ""
    text += f", {match.n_respelled:,} in another spelling" if match.n_respelled else ""
    text += f"; {pluralize(match.n_extra, 'other gene')} ignored" if match.n_extra else ""
    found = [Finding("genes", "ok", text)] if match.n_found else []
    try:
        notices = cells.accept_missing(panel, match)
    except GeneMatchError as error:
        found.append(Finding.from_error("genes", error))
    else:
        if notices:
            remedy = "Use the cells before genes were filtered, if you have them"
            found = [Finding("genes", "note", " ".join([f"{text}.", *notices]), remedy)]
    if match.n_found:
        n_in_vocab = int(np.count_nonzero(panel.in_vocab))
        text = (
            f"{match.n_found_in_vocab:,} of the {pluralize(match.n_found, 'gene')} found are in the vocabulary, which "
            f"has {n_in_vocab:,} of the model's {len(panel):,} genes; it cannot tell the others apart by name"
        )
        found.append(Finding("vocabulary", "ok", text))
    warned = [notice for notice in match.notices if notice.startswith("Warning:")]
    if warned:
        found.append(Finding("genes", "note", " ".join(warned)))
    return match, found


def check_blanked(
    cells: OpenedCells, panel: GenePanel, match: GeneMatch, control_rows: NDArray[np.int64] | None, sample: Any
) -> list[Finding]:
    """Return what `predict` would say of genes that are zero in X and not in the counts, by a sample of cells."""
    rows = np.arange(cells.n_obs, dtype=np.int64) if control_rows is None else control_rows
    if len(rows) > MAX_CELLS:
        rows = rows[Sampling("all", MAX_CELLS).draw(len(rows))]
    expressed = np.zeros(len(panel), dtype=np.bool_)
    expressed[sample.indices] = True
    try:
        accepted = cells.accept_blanked(panel, match, rows, expressed)
    except GeneMatchError as error:
        return [Finding.from_error("genes", error)]
    return [Finding("genes", "note", notice) for notice in accepted.unmeasured if notice not in match.unmeasured]


def check_panel(manifest: Manifest) -> list[Finding]:
    """Return doubts about the bundle's own genes; made-up weights were trained on none."""
    if manifest.synthetic:
        return []
    doubts = panel_doubts(manifest.dataset, manifest.gene_names, manifest.in_vocab)
    return [Finding("vocabulary", "note", doubt) for doubt in doubts]
