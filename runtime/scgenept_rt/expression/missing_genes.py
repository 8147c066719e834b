"""What is said of genes of the model that an input lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from scgenept_rt.errors import Caution, GeneMatchError, UseOption, join_limited, pluralize
from scgenept_rt.expression.annotation import as_text, text_columns
from scgenept_rt.genes import GeneMatch, GenePanel

if TYPE_CHECKING:
    from scgenept_rt.expression.opened_cells import OpenedCells

_LOW_COVERAGE = 0.8
"""Below this share of genes found, an input that is accepted with missing_genes="zero" deserves a warning."""


def missing_notices(panel: GenePanel, match: GeneMatch) -> list[str]:
    """Return notices about genes that were taken as not expressed."""
    notices = [
        f"Genes of the model that the input lacks were taken as not expressed ({len(match.missing):,}): "
        f"{join_limited(match.missing)}."
    ]
    if match.unclear:
        are = f"{len(match.unclear):,} of them may be"
        notices.append(f"Warning: {are} there in another spelling ({_spelled(match)}).")
    if match.n_found < _LOW_COVERAGE * len(panel):
        found = match.n_found / len(panel)
        share = f"only {found:.0%}" if found >= 0.01 else "less than 1%"
        notices.append(
            f"Warning: {share} of what the model reads is measured: such cells are far from those that it was "
            "trained on, and its predictions may mean little."
        )
    return [Caution(notice) for notice in notices]


def none_found(cells: OpenedCells, panel: GenePanel, match: GeneMatch, raw: Sequence[UseOption]) -> GeneMatchError:
    """Return the error for an input in which no gene was found; `raw` are options that read other genes."""
    names = cells.gene_names[match.source]
    columns = [name for name, _ in text_columns(cells.var) if name != match.source]
    remedy = "" if columns else "Write gene symbols or Ensembl ids into var_names"
    in_rows = next(filter(lambda rows: _are_genes(rows, panel), _names_of_rows(cells)), None)
    if in_rows is not None:
        return GeneMatchError(
            f"it is transposed: its rows are genes ({join_limited(in_rows, 3)}), and its columns "
            f"({join_limited(names, 3)}) are not",
            "Write it with cells as rows: `adata = adata.T`",
            where=cells.where,
            genes=match.missing,
        )
    use = f"name the column with the gene names ({join_limited(columns, 12)})"
    return GeneMatchError(
        f"none of the model's {len(panel):,} genes was found; {match.source} holds {join_limited(names, 3)}, "
        f"expected gene symbols or Ensembl ids{_elsewhere(match)}",
        remedy,
        [*([UseOption("gene_key", use)] if columns else []), *raw],
        where=cells.where,
        genes=match.missing,
    )


def _names_of_rows(cells: OpenedCells) -> Iterator[list[str]]:
    yield list(cells.obs.index())
    for _, values in text_columns(cells.obs):
        yield as_text(values).tolist()


def _are_genes(names: list[str], panel: GenePanel) -> bool:
    """Return whether names are those of different genes, and not of the perturbed genes of cells."""
    distinct = set(names)
    return 2 * sum(name in panel for name in distinct) >= min(len(names), len(panel)) and len(distinct) > len(names) / 2


def some_missing(cells: OpenedCells, panel: GenePanel, match: GeneMatch, raw: Sequence[UseOption]) -> GeneMatchError:
    """Return the error for an input that lacks genes; `raw` are options that read other genes."""
    n_missing = len(match.missing)
    which = "one" if n_missing == 1 else f"{n_missing:,}"
    zero = UseOption("missing_genes", "take missing genes as not expressed", "zero")
    remedy = "Write the model's names into the input" if match.unclear else "Give an input with all genes"
    if match.unmeasured:
        remedy = (
            "Read values that were not blanked (counts in raw: `adata = adata.raw.to_adata()`, then "
            "`sc.pp.normalize_total(adata)` and `sc.pp.log1p(adata)`)"
        )
    blanked = f" ({' '.join(match.unmeasured)[:-1]})" if match.unmeasured else ""
    return GeneMatchError(
        f"{which} of the model's {len(panel):,} genes {'is' if n_missing == 1 else 'are'} missing from "
        f"{match.source}: {join_limited(match.missing)}{blanked}{_elsewhere(match)}",
        remedy,
        [*([] if match.unclear or match.unmeasured else [zero]), *raw],
        where=cells.where,
        genes=match.missing,
    )


def _spelled(match: GeneMatch) -> str:
    return join_limited([f"{name} as {written!r}" for name, written in match.unclear.items()], 3)


def _elsewhere(match: GeneMatch) -> str:
    if not match.unclear:
        return ""
    there = pluralize(len(match.unclear), "of them seems", "of them seem")
    return f"; {there} to be there in another spelling ({_spelled(match)})"
