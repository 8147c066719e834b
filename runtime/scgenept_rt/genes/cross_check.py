"""Comparing the symbols and Ensembl ids of one input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Caution, GeneMatchError, UseOption
from scgenept_rt.genes.panel import GenePanel, ensembl_id, grouped
from scgenept_rt.genes.spelling import made_unique
from scgenept_rt.wording import join_limited, pluralize

_FEW, _FEW_SHARE = 3, 0.01
"""Number of genes, or share of those compared, that may contradict each other, as in two releases of an annotation."""


def cross_check(
    panel: GenePanel,
    columns: NDArray[np.int64],
    source: str,
    candidates: Mapping[str, Sequence[str]],
    gene_key: str | None,
) -> tuple[Sequence[str | None], list[str], int, list[str]]:
    """Compare a source of names with the best source of the other kind, and correct `columns` by the Ensembl ids.

    Returns the id of each column (none at all if there are none to compare with: then symbols are compared with each
    other), genes told apart by ids, how many were found by them alone, and notices. With a `gene_key`, only columns
    called GENE-1 beside GENE are corrected. Ids of another species, as beside symbols of orthologs, are not compared.
    Raises GeneMatchError if so much contradicts each other that one of the two sources must be wrong.
    """
    sources = _symbols_and_ids(panel, source, candidates)
    if sources is None:
        return (), [], 0, _compare_symbols(panel, source, candidates, gene_key)
    symbol_source, id_source, ids = sources
    copies, contradictions, only_by_id, only_by_symbol, n_compared = _differences(panel, candidates[symbol_source], ids)

    def contradict(positions: Iterable[int]) -> tuple[str, list[str]]:
        genes = [panel.names[position] for position in positions]
        of_genes = f"contradict each other for {pluralize(len(genes), 'gene')} of the model"
        return f"gene symbols ({symbol_source}) and Ensembl ids ({id_source}) {of_genes}", genes

    n_by_id, decided = 0, "the Ensembl ids" if gene_key is None else repr(gene_key)
    columns[list(copies)] = list(copies.values())
    if gene_key is None:
        if _many(len(contradictions), n_compared) or len(only_by_symbol) > max(_FEW, n_compared / 2):
            problem, genes = contradict({**contradictions, **only_by_symbol})
            remedy, options = _choose(symbol_source, id_source)
            raise GeneMatchError(f"{problem}: {join_limited(genes)}", remedy, options, genes=genes)
        columns[list(contradictions)] = list(contradictions.values())
        lacking = [position for position in only_by_id if columns[position] < 0]
        columns[lacking] = [only_by_id[position] for position in lacking]
        n_by_id, used = len(lacking), set(columns.tolist())
        for position, column in only_by_symbol.items():
            if columns[position] < 0 and column not in used:
                columns[position] = column
    notices: list[str] = []
    if contradictions:
        problem, genes = contradict(contradictions)
        notices.append(Caution(f"{problem} ({join_limited(genes)}); {decided} decided"))
    if genes := [panel.names[position] for position in only_by_symbol]:
        have = pluralize(len(genes), "gene has", "genes have")
        notices.append(
            f"{have} another Ensembl id in the input ({id_source}) than in the model and "
            f"{'was' if len(genes) == 1 else 'were'} matched by symbol: {join_limited(genes)}."
        )
    return ids, [panel.names[position] for position in copies], n_by_id, notices


def _symbols_and_ids(
    panel: GenePanel, source: str, candidates: Mapping[str, Sequence[str]]
) -> tuple[str, str, Sequence[str | None]] | None:
    """Return the source of symbols, the source of ids to compare (one of the two is `source`), and these ids."""
    if not any(panel.ids):
        return None
    ids = {name: [ensembl_id(text) for text in texts] for name, texts in candidates.items()}
    n_ids = {name: sum(map(_is_human, of_columns)) for name, of_columns in ids.items()}
    others = [name for name in candidates if name != source]
    if 2 * n_ids[source] > len(candidates[source]):
        n_known = {name: sum(text in panel.positions_by_name for text in candidates[name]) for name in others}
        symbols = [name for name in others if 2 * n_ids[name] <= len(candidates[name])]
        symbol_source, id_source = max(symbols, key=n_known.__getitem__, default=source), source
    else:
        symbol_source, id_source = source, max(others, key=n_ids.__getitem__, default=source)
    if not n_ids[id_source] or symbol_source == id_source:
        return None
    return symbol_source, id_source, ids[id_source]


def _differences(
    panel: GenePanel, symbols: Sequence[str], ids: Sequence[str | None]
) -> tuple[dict[int, int], dict[int, int], dict[int, int], dict[int, int], int]:
    """Find the genes whose column by symbol is not the one by id; return columns by position in the model.

    First those with the id where that is not the symbol's, but called GENE-1, or anything else (-1 if none has the id),
    then those of genes that only the id or the symbol names, and the number of genes that were compared.
    """
    copies, contradictions = dict[int, int](), dict[int, int]()
    only_by_id, only_by_symbol = dict[int, int](), dict[int, int]()
    n_agree = 0
    by_symbol = grouped((symbol, column) for column, symbol in enumerate(symbols))
    by_id = grouped((panel.position_by_id.get(gene_id or ""), column) for column, gene_id in enumerate(ids))
    for position, name in enumerate(panel.names):
        if panel.ids[position] is None or len(panel.positions_by_name[name]) > 1:
            continue
        named, carriers = by_symbol.get(name, []), by_id.get(position, [])
        if set(named) & set(carriers):
            n_agree += 1
        elif len(carriers) > 1 or len(named) > 1:
            continue  # told apart or refused before
        elif named and carriers:
            (copies if made_unique(symbols[carriers[0]]) == name else contradictions)[position] = carriers[0]
        elif carriers:
            only_by_id[position] = carriers[0]
        elif named and ids[named[0]] in panel.position_by_id:
            contradictions[position] = -1
        elif named and _is_human(ids[named[0]]):
            only_by_symbol[position] = named[0]
    n_compared = n_agree + len(contradictions) + len(only_by_symbol) + len(copies)
    return copies, contradictions, only_by_id, only_by_symbol, n_compared


def _compare_symbols(
    panel: GenePanel, source: str, candidates: Mapping[str, Sequence[str]], gene_key: str | None
) -> list[str]:
    """Compare a source of symbols with the others, where no ids tell which is right, and return warnings."""
    known, notices = panel.positions_by_name, list[str]()
    for other, names in candidates.items():
        both = [pair for pair in zip(candidates[source], names, strict=True) if known.keys() >= {*pair}]
        differ = [f"{name}, {text}" for name, text in both if name != text]
        if not differ:
            continue
        columns = pluralize(len(differ), "column has", "columns have")
        problem = f"{columns} the names of different genes in {source} and {other} ({join_limited(differ)})"
        if _many(len(differ), len(both)) and gene_key is None:
            raise GeneMatchError(problem, *_choose(source, other))
        notices.append(Caution(f"{problem}; {source} decided"))
    return notices


def _choose(source: str, other: str) -> tuple[str, list[UseOption]]:
    remedy = f"Find out which of the two fits the matrix: {source} or {other}"
    return remedy, [UseOption("gene_key", "go by that one")]


def _is_human(gene_id: str | None) -> bool:
    return gene_id is not None and gene_id.startswith("ENSG")


def _many(n: int, n_compared: int) -> bool:
    return n > max(_FEW, _FEW_SHARE * n_compared)
