"""Genes of the model that an input lacks, or has no values of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Caution, GeneMatchError, UseOption
from scgenept_rt.expression.annotation import as_text, text_columns
from scgenept_rt.genes import GeneMatch, GenePanel
from scgenept_rt.wording import join_limited, pluralize

if TYPE_CHECKING:
    from scgenept_rt.expression.opened_cells import OpenedCells

_FLAG = "feature_is_filtered"
"""CELLxGENE's column of var: True for genes that were blanked in X and are whole in raw."""
_COUNTED_CELLS = 2000
"""Number of cells whose counts are read to find genes that are blanked in X."""
_LOW_COVERAGE = 0.8
"""Share of genes found, below which an input that is accepted with missing_genes="zero" gets a warning."""


def accept_missing(cells: OpenedCells, match: GeneMatch) -> list[str]:
    """Return notices about genes that the input lacks; raise `GeneMatchError` unless the options accept that."""
    if not match.missing:
        return []
    if not match.n_found:
        raise _none_found(cells, match)
    if cells.options["missing_genes"] == "error":
        raise _some_missing(cells, match)
    lacking = f"Genes of the model that the input lacks were taken as not expressed ({len(match.missing):,})"
    notices: list[str] = [Caution(f"{lacking}: {join_limited(match.missing)}{_elsewhere(match)}.")]
    share = match.n_found / len(match.panel)
    if share < _LOW_COVERAGE:
        measured = f"Only {share:.0%}" if share >= 0.01 else "Less than 1%"
        notices.append(
            Caution(
                f"{measured} of what the model reads is measured: such cells are far from those that it was "
                "trained on, and its predictions may mean little."
            )
        )
    return notices


def without_flagged(cells: OpenedCells, match: GeneMatch) -> GeneMatch:
    """Return the match with genes as missing that the input flags as blanked in X."""
    if cells.options["use_raw"] or _FLAG not in cells.var.columns:
        return match
    flagged = np.isin(as_text(cells.var.column(_FLAG)), ("True", "TRUE", "true", "1"))
    if flagged.any():  # of a column of no flags, no file is there
        match = match.with_notices(cells.var.notices(_FLAG))
    return _without(match, (match.columns >= 0) & flagged[match.columns], f"blanked in X, as var[{_FLAG!r}] says")


def accept_blanked(
    cells: OpenedCells, match: GeneMatch, rows: NDArray[np.int64], expressed: NDArray[np.bool_]
) -> GeneMatch:
    """Return the match with the genes that `blanked_genes` finds as missing, or raise as `accept_missing` does."""
    blanked = blanked_genes(cells, match, rows, expressed)
    listed = join_limited([match.panel.names[position] for position in np.flatnonzero(blanked)])
    why = f"zero in X in all cells that were read and not in the counts beside it: {listed}"
    match = _without(match, blanked, why)
    if blanked.any() and cells.options["missing_genes"] == "error":
        raise _some_missing(cells, match)
    return match


def blanked_genes(
    cells: OpenedCells, match: GeneMatch, rows: NDArray[np.int64], expressed: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which of a model's genes are zero in X in all of these cells and not in their counts.

    `expressed` bool [n_genes] are the genes of the model that X holds values of in them.
    """
    blanked = np.zeros(len(expressed), dtype=np.bool_)
    silent = np.flatnonzero(~expressed & (match.columns >= 0))
    beside = cells.counts_beside(match.columns[silent]) if len(silent) else None
    if beside is not None:
        counts, columns = beside
        for batch in counts.batches(rows[:: max(len(rows) // _COUNTED_CELLS, 1)], columns):
            blanked[silent[batch.indices[batch.data != 0]]] = True
    return blanked


def _without(match: GeneMatch, lost: NDArray[np.bool_], why: str) -> GeneMatch:
    n = int(np.count_nonzero(lost))
    have = pluralize(n, "gene of the model is", "genes of the model are")
    return match.without(lost, Caution(f"{have} {why}")) if n else match


def _none_found(cells: OpenedCells, match: GeneMatch) -> GeneMatchError:
    names, panel = cells.gene_names[match.source], match.panel
    names_of_rows = [cells.obs.index.tolist(), *(as_text(values).tolist() for _, values in text_columns(cells.obs))]
    in_rows = next((rows for rows in names_of_rows if _are_genes(rows, panel)), None)
    if in_rows is not None:
        found = f"its rows are genes ({join_limited(in_rows, 3)}), and its columns"
        return GeneMatchError(
            f"it is transposed: {found} ({join_limited(names, 3)}) are not",
            "Write it with cells as rows: `adata = adata.T`",
            genes=match.missing,
        )
    columns = [name for name, _ in text_columns(cells.var) if name != match.source]
    use = UseOption("gene_key", f"name the column with the gene names ({join_limited(columns, 12)})")
    return GeneMatchError(
        f"none of the model's {len(panel):,} genes was found; {match.source} holds {join_limited(names, 3)}, expected "
        f"symbols or Ensembl ids of human genes{_elsewhere(match)}",
        "" if columns else "Write symbols or Ensembl ids of human genes into var_names",
        [*([use] if columns else []), *cells.raw_option()],
        genes=match.missing,
    )


def _are_genes(names: list[str], panel: GenePanel) -> bool:
    """Return whether names are those of different genes, and not of the perturbed genes of cells."""
    distinct = set(names)
    return 2 * sum(name in panel for name in distinct) >= min(len(names), len(panel)) and len(distinct) > len(names) / 2


def _some_missing(cells: OpenedCells, match: GeneMatch) -> GeneMatchError:
    n_missing = len(match.missing)
    which = "one" if n_missing == 1 else f"{n_missing:,}"
    zero = UseOption("missing_genes", "take missing genes as not expressed", "zero")
    remedy = "Write the model's names into the input" if match.unclear else "Give an input with all genes"
    if 2 * sum(written == name.capitalize() != name for name, written in match.unclear.items()) > len(match.unclear):
        remedy = "If these are genes of mice, write the names of their human orthologs; else the model's names"
    if match.unmeasured:
        remedy = (
            "Read values that were not blanked (counts in raw: `adata = adata.raw.to_adata()`, then "
            "`sc.pp.normalize_total(adata)` and `sc.pp.log1p(adata)`)"
        )
    blanked = f" ({' '.join(match.unmeasured)[:-1]})" if match.unmeasured else ""
    return GeneMatchError(
        f"{which} of the model's {len(match.panel):,} genes {'is' if n_missing == 1 else 'are'} missing from "
        f"{match.source}: {join_limited(match.missing)}{blanked}{_elsewhere(match)}",
        remedy,
        [*([] if match.unclear or match.unmeasured else [zero]), *cells.raw_option()],
        genes=match.missing,
    )


def _elsewhere(match: GeneMatch) -> str:
    if not match.unclear:
        return ""
    there = pluralize(len(match.unclear), "of them seems", "of them seem")
    spelled = join_limited([f"{name} as {written!r}" for name, written in match.unclear.items()], 3)
    return f"; {there} to be there in another spelling ({spelled})"
