"""Which of a model's genes the cells have."""

from __future__ import annotations

import numpy as np

from scgenept_rt.compatibility.finding import Finding
from scgenept_rt.errors import GeneMatchError, pluralize
from scgenept_rt.expression import OpenedCells
from scgenept_rt.genes import GeneMatch, GenePanel


def check_genes(cells: OpenedCells, panel: GenePanel) -> tuple[GeneMatch, list[Finding]]:
    """Match the genes as `predict` does; raises what `OpenedCells.match_genes` raises."""
    match = cells.match_genes(panel)
    source = match.source if match.source == "var_names" else f"var column {match.source!r}"
    text = f"{match.n_found:,} of the model's {len(panel):,} genes found in {source}"
    text += f", {match.n_by_id:,} by Ensembl id" if match.n_by_id else ""
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
    return match, found
